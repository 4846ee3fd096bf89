// imapflow comes back to INBOX with what it knew. argv: host, port, user, password, and
// when it was there before the UIDVALIDITY and MODSEQ of then. Prints what it was told.
import { ImapFlow } from 'imapflow';

const [host, port, user, pass, uidValidity, changedSince] = process.argv.slice(2);
const client = new ImapFlow({
    host, port: Number(port), secure: true, auth: { user, pass }, qresync: true,
    tls: { rejectUnauthorized: false }, logger: false,
});
const told = { flags: [], expunged: [] };
client.on('flags', e => told.flags.push([e.uid, [...e.flags].filter(f => f !== '\\Recent').sort()]));
client.on('expunge', e => told.expunged.push(e.uid));
await client.connect();
const box = await client.mailboxOpen('INBOX', uidValidity ? { uidValidity, changedSince } : {});
told.qresync = Boolean(box.qresync);
told.uidValidity = String(box.uidValidity);
told.modSeq = String(box.highestModseq);
await client.logout();
console.log(JSON.stringify(told));
