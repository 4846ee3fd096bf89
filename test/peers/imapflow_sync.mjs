// imapflow follows a mailbox over connections that break: argv is host, port, user, password.
import { ImapFlow } from 'imapflow';
import assert from 'node:assert/strict';

const [host, port, user, pass] = process.argv.slice(2);
const connect = async options => {
    const client = new ImapFlow({
        host, port: Number(port), secure: true, auth: { user, pass }, tls: { rejectUnauthorized: false }, logger: false, disableAutoIdle: true, ...options,
    });
    client.heard = { exists: [], flags: [], expunge: [] };
    client.on('error', () => {}); // connections are cut here
    client.on('exists', e => client.heard.exists.push(e.count));
    client.on('flags', e => client.heard.flags.push([e.uid, [...e.flags].filter(f => f !== '\\Recent').sort(), typeof e.modseq]));
    client.on('expunge', e => client.heard.expunge.push(e.vanished ? `${e.earlier ? 'earlier' : 'now'} ${e.uid}` : `number ${e.seq}`));
    await client.connect();
    return client;
};
const text = n => `From: Ann <ann@example.org>\r\nSubject: message ${n}\r\n\r\nbody ${n}\r\n`;
const fetchAll = async (client, query, options = { uid: true }) => {
    const out = [];
    for await (const m of client.fetch('1:*', query, options)) out.push(m);
    return out;
};

// COMPRESS, CONDSTORE and QRESYNC are what the client itself says it has.
const first = await connect({ qresync: true });
assert.ok(first._deflate && first._inflate, 'it compresses');
for (const what of ['CONDSTORE', 'QRESYNC', 'IMAP4REV2']) assert.ok(first.enabled.has(what), `${what} among ${[...first.enabled]}`);
const plain = await connect({ disableCompression: true });
assert.ok(!plain._deflate && plain.enabled.has('CONDSTORE') && !plain.enabled.has('QRESYNC'));

for (let n = 1; n <= 8; n++) await first.append('INBOX', text(n));
const box = await first.mailboxOpen('INBOX');
assert.equal(box.exists, 8);
assert.equal(typeof box.highestModseq, 'bigint');
assert.ok(box.mailboxId, 'MAILBOXID in SELECT');

// OBJECTID: every message has an EMAILID, which its copy keeps, and by which it is found.
const all = await fetchAll(first, { flags: true, threadId: true });
assert.equal(new Set(all.map(m => m.emailId)).size, 8);
assert.ok(all.every(m => m.emailId && m.modseq > 0n && !m.threadId), 'EMAILID and MODSEQ; THREADID is NIL');
const created = await first.mailboxCreate('Kopien');
assert.ok(created.mailboxId, 'MAILBOXID in CREATE');
const copied = await first.messageCopy('3', 'Kopien', { uid: true });
assert.equal(copied.uidMap.get(3), 1);
assert.deepEqual(await first.search({ emailId: all[2].emailId }, { uid: true }), [3]);
assert.deepEqual(await first.search({ emailId: 'Mnosuchid' }, { uid: true }), []);
// ESEARCH, and PARTIAL from both ends: the second page is the last, behind it is nothing.
const page = async (...what) => await first.search({ unseen: true }, { uid: true, returnOptions: what });
assert.deepEqual(await page('MIN', 'MAX', 'COUNT', 'ALL'), { min: 1, max: 8, count: 8, all: '1:8' });
for (const [range, messages] of [['1:5', '1:5'], ['6:10', '6:8'], ['-1:-3', '6:8'], ['9:20', '']]) {
    assert.deepEqual(await page('COUNT', { partial: range }), { count: 8, partial: { range, messages } });
}
const status = await first.status('Kopien', { messages: true, uidNext: true, highestModseq: true, size: true });
assert.deepEqual([status.messages, status.uidNext, status.size], [1, 2, text(3).length]);
assert.equal(typeof status.highestModseq, 'bigint');
const listed = (await first.list({ statusQuery: { messages: true, highestModseq: true } })).find(m => m.path === 'Kopien');
assert.deepEqual([listed.status.messages, listed.status.highestModseq], [1, status.highestModseq]);
await plain.mailboxOpen('Kopien');
assert.equal(plain.mailbox.mailboxId, created.mailboxId);
assert.deepEqual((await fetchAll(plain, { uid: true })).map(m => m.emailId), [all[2].emailId]);

// A flag is not stored over a change that the client has not seen.
await plain.mailboxOpen('INBOX');
const before = plain.mailbox.highestModseq;
await first.messageFlagsAdd('2', ['\\Flagged'], { uid: true });
assert.ok(first.mailbox.highestModseq > before);
await plain.messageFlagsAdd('2', ['\\Answered'], { uid: true, unchangedSince: before });
assert.ok(!(await plain.fetchOne('2', { flags: true }, { uid: true })).flags.has('\\Answered'), 'changed meanwhile');
await plain.messageFlagsAdd('4', ['\\Answered'], { uid: true, unchangedSince: before });
assert.ok((await plain.fetchOne('4', { flags: true }, { uid: true })).flags.has('\\Answered'), 'unchanged');
assert.deepEqual((await fetchAll(plain, { flags: true }, { uid: true, changedSince: before })).map(m => m.uid), [2, 4]);
assert.deepEqual(await plain.search({ modseq: before + 1n }, { uid: true }), [2, 4]);

// While it is connected, other clients' changes are events: VANISHED only to who asked for it.
await first.noop();
for (const client of [first, plain]) client.heard = { exists: [], flags: [], expunge: [] };
const other = await connect();
await other.mailboxOpen('INBOX');
await other.messageDelete('8', { uid: true });
await other.messageFlagsAdd('7', ['\\Seen'], { uid: true });
await other.append('INBOX', text(9));
for (const client of [first, plain]) await client.noop();
assert.deepEqual(first.heard.expunge, ['now 8']);
assert.deepEqual(plain.heard.expunge, ['number 8']);
for (const client of [first, plain]) {
    assert.deepEqual(client.heard.exists, [8]);
    assert.ok(client.heard.flags.some(([uid, flags, modseq]) => flags.includes('\\Seen') && modseq === 'bigint' && (uid === 7 || uid === undefined)), JSON.stringify(client.heard.flags));
    assert.equal(client.mailbox.exists, 8);
}

await first.fetchOne('9', { flags: true }, { uid: true });

// The connection breaks. What others do meanwhile, and no more, is told to who comes back.
const known = { uidValidity: first.mailbox.uidValidity, changedSince: first.mailbox.highestModseq };
first.close();
await other.messageFlagsAdd('1,5', ['\\Seen', '$Work'], { uid: true });
await other.messageFlagsRemove('2', ['\\Flagged'], { uid: true });
await other.messageDelete('3,6', { uid: true });
await other.append('INBOX', text(10), ['\\Draft']);
await other.mailboxClose();
const again = await connect({ qresync: true });
const resumed = await again.mailboxOpen('INBOX', known);
assert.ok(resumed.qresync && again._deflate);
assert.equal(resumed.exists, 7);
assert.ok(resumed.highestModseq > known.changedSince);
assert.deepEqual(again.heard.expunge, ['earlier 3', 'earlier 6']);
assert.deepEqual(again.heard.flags, [[1, ['$Work', '\\Seen'], 'bigint'], [2, [], 'bigint'], [5, ['$Work', '\\Seen'], 'bigint'], [10, ['\\Draft'], 'bigint']]);
assert.deepEqual((await fetchAll(again, { flags: true })).map(m => m.uid), [1, 2, 4, 5, 7, 9, 10]);

// The same over FETCH, in a mailbox that is open.
again.heard.expunge = [];
assert.deepEqual((await fetchAll(again, { flags: true }, { uid: true, changedSince: known.changedSince })).map(m => m.uid), [1, 2, 5, 10]);
assert.deepEqual(again.heard.expunge, ['earlier 3', 'earlier 6']);

// With nothing new nothing is told; with another UIDVALIDITY all must be looked at anew.
const current = { uidValidity: again.mailbox.uidValidity, changedSince: again.mailbox.highestModseq };
await again.logout();
const quiet = await connect({ qresync: true });
assert.ok((await quiet.mailboxOpen('INBOX', current)).qresync);
assert.deepEqual([quiet.heard.flags, quiet.heard.expunge], [[], []]);
assert.equal(quiet.mailbox.highestModseq, current.changedSince);
const stale = await connect({ qresync: true });
assert.equal((await stale.mailboxOpen('INBOX', { ...known, uidValidity: known.uidValidity - 1n })).qresync, false);
assert.deepEqual([stale.heard.flags, stale.heard.expunge, stale.mailbox.exists], [[], [], 7]);
for (const client of [quiet, stale, plain, other]) await client.logout();
console.log('imapflow: in step');
