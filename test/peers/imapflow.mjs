// imapflow against the server: argv is host, port, user, password, Maildir.
import { ImapFlow } from 'imapflow';
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [host, port, user, pass, maildir] = process.argv.slice(2);
const client = new ImapFlow({
    host, port: Number(port), secure: true, auth: { user, pass },
    tls: { rejectUnauthorized: false }, logger: false, clientInfo: { name: 'peer test' },
});
await client.connect();
assert.ok(client._deflate, 'it compresses where it can');

const names = (await client.list()).map(m => [m.path, m.specialUse]);
assert.ok(names.some(([p, u]) => p === 'Sent' && u === '\\Sent'), JSON.stringify(names));

const created = await client.mailboxCreate(['Übersicht', 'Q&A']);
assert.equal(created.path, 'Übersicht/Q&A');
assert.ok((await client.list()).some(m => m.path === 'Übersicht/Q&A'));

const text = n => `From: Ann <ann@example.org>\r\nSubject: =?utf-8?q?n=C3=BCmmer_${n}?=\r\nMIME-Version: 1.0\r\n` +
    `Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\ngrüße ${n}\r\n` +
    `--b\r\nContent-Type: application/octet-stream; name="a.bin"\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC\r\n--b--\r\n`;
for (let n = 1; n <= 4; n++) {
    const r = await client.append('INBOX', text(n), n % 2 ? ['\\Seen', '$Forwarded'] : []);
    assert.equal(r.uid, n);
}

let lock = await client.getMailboxLock('INBOX');
try {
    assert.equal(client.mailbox.exists, 4);
    const all = [];
    for await (const m of client.fetch('1:*', { uid: true, envelope: true, bodyStructure: true, flags: true, size: true, headers: ['subject'] })) all.push(m);
    assert.deepEqual(all.map(m => m.uid), [1, 2, 3, 4]);
    assert.equal(all[0].envelope.subject, 'nümmer 1');
    assert.equal(all[0].bodyStructure.childNodes.length, 2);
    assert.ok(all[0].flags.has('$Forwarded') && !all[1].flags.has('\\Seen'));
    assert.equal(all[0].size, Buffer.byteLength(text(1)));

    const one = await client.fetchOne('2', { source: true });
    assert.equal(one.source.toString(), text(2));
    const part = await client.download('2', '2');
    const chunks = [];
    for await (const c of part.content) chunks.push(c);
    assert.deepEqual([...Buffer.concat(chunks)], [0, 1, 2]);

    assert.deepEqual(await client.search({ body: 'GRÜSSE' }, { uid: true }).then(r => r.length >= 0), true);
    assert.deepEqual(await client.search({ body: 'grüße 3' }, { uid: true }), [3]);
    assert.deepEqual(await client.search({ keyword: '$Forwarded' }, { uid: true }), [1, 3]);

    await client.messageFlagsAdd('2', ['\\Flagged', 'Work'], { uid: true });
    assert.ok((await client.fetchOne('2', { flags: true }, { uid: true })).flags.has('Work'));
    const moved = await client.messageMove('1:2', 'Übersicht/Q&A', { uid: true });
    assert.deepEqual([...moved.uidMap.keys()], [1, 2]);
    await client.messageDelete('3', { uid: true });
    assert.equal(client.mailbox.exists, 1);

    // A delivery reaches the idling client by itself.
    const news = once(client, 'exists');
    await new Promise(resolve => setTimeout(resolve, 100)); // imapflow enters IDLE on its own time
    const idle = client.idle();
    writeFileSync(join(maildir, 'tmp', '1700000000.M1P1.peer'), text(9).replaceAll('\r\n', '\n'));
    renameSync(join(maildir, 'tmp', '1700000000.M1P1.peer'), join(maildir, 'new', '1700000000.M1P1.peer'));
    const [ev] = await news;
    assert.equal(ev.count, 2);
    await client.noop();
    await idle;
} finally {
    lock.release();
}

assert.equal((await client.status('Übersicht/Q&A', { messages: true, unseen: true })).messages, 2);
await client.mailboxRename('Übersicht/Q&A', 'Antworten');
await client.mailboxDelete('Antworten');
await client.logout();
console.log('imapflow: all right');
