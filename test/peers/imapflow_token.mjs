// imapflow with a bearer token: argv is host, port, user, a token that does, one that does not.
import { ImapFlow } from 'imapflow';
import assert from 'node:assert/strict';

const [host, port, user, good, bad] = process.argv.slice(2);
const open = accessToken => new ImapFlow({
    host, port: Number(port), secure: true, auth: { user, accessToken }, tls: { rejectUnauthorized: false }, logger: false,
});
const client = open(good);
await client.connect();
assert.ok((await client.list()).some(m => m.path === 'INBOX'));
await client.logout();

const refused = await open(bad).connect().then(() => null, err => err);
assert.ok(refused?.authenticationFailed, String(refused));
assert.equal(refused.oauthError?.status, 'invalid_token', JSON.stringify(refused.oauthError));
