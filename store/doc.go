// Package store is the seam between the protocol and the storage: types and
// promises, and no code that does work beyond those types.
//
// The protocol (server/session, server/search) calls it, the storage (maildir)
// implements it, memstore is the naive model, and storetest is the contract:
// a promise that suite does not check is not made.
//
// The way one thing takes: a session asks its Store for an Account, lists and
// changes mailboxes there, and holds one of them (Account.Hold). A hold shows
// Views: immutable versions of the mailbox's column of UIDs. The session stays
// at one View until the protocol allows it to speak of changes, then calls
// Mailbox.Advance to learn the way to a later View. Everything else that a
// session does with messages names UIDs, never sequence numbers, and answers
// with the newest state of the mailbox at once (RFC 7162 section 3.1.3).
//
// What a newcomer gets wrong: a View is also a cursor. Its ModSeq never runs
// ahead of an expunge that the View still shows, which is why Advance without
// expunges stops before the first one instead of skipping it.
package store
