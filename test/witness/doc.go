// Package witness watches mailboxes over IMAP and remembers what it was told, so that
// a test can say afterwards whether a server ever told something untrue.
//
// A Session is one connection. It takes every response in the order in which it came
// and keeps the message sequence numbers as a client does, so that it knows which UID
// an EXPUNGE meant. A Ledger is what all sessions of a test know together, whatever
// server they talk to: which message a UID named, what UIDVALIDITY a mailbox has, and
// which messages were meant to go.
package witness
