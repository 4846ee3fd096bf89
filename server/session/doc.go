// Package session is the protocol engine after login: IMAP4rev1 (RFC 3501) and
// IMAP4rev2 (RFC 9051) over a user and a byte stream. It knows no listener, no
// password and no file.
//
// The way of one command: Serve's loop (session.go) waits in wire.Lexer, finds the
// name in the one table (command.go), and calls its run function, which reads its
// arguments from the lexer, does its work on the store, and writes untagged
// responses into the encoder. Then the loop skips what was not read, tells what is
// new in the selected mailbox as far as that command allows (view.go), and writes
// the tagged answer, which for errors is made by status (respond.go). Nothing is
// sent before the lexer is about to block or the buffer is full.
//
// The client's sequence numbers are indexes of selected.view and change nowhere but
// in tellChanges. Commands resolve sets against the view (selected.resolve) and
// from there on speak UIDs. What a command answers of flags is newer than the view;
// selected.answered notes it, so that it is not told twice.
//
// An APPEND is answered later than it is read where the next one is already there: those are
// committed together (held.go).
//
// Behind COMPRESS, package deflate stands between lexer and encoder and the stream
// (compress.go).
//
// While a client is silent the session's goroutine is blocked in wire.Rester.Rest, which
// holds no buffer, on frames that a stack of 4 KiB has room for. While it idles, the encoder
// and the selected mailbox belong to the pusher (push.go), whose short goroutine is joined
// before the next command. What is coming it tells in the goroutine of who woke it, which
// waits for no client (Prompt).
//
// While a command waits for the store, a timer may write that it is still at work
// (progress.go): the encoder is lent to it as to the pusher.
//
// Under NOTIFY the same goes on between commands (await in notify.go): the pusher tells of
// the selected mailbox by tellChanges, and of others by tellNews (news.go), from a store.Watch.
// Searches that are kept up to date (context.go) are told where their cause is, in
// tellChanges.
//
// Locks: pusher.mu and deadline.mu are leaves; neither is held while the store or
// the stream is called, but for setting deadlines. progress.mu is held while a notice is
// written, and the session's goroutine takes it only to end that.
//
// The dialogues in testdata are the main tests. They are played on the model here, and
// on a Maildir by TestDialoguesOnMaildir in package test: run that one too.
//
// What a newcomer gets wrong: a run function must have read its arguments to the
// end (session.end) before it changes anything, or a syntax error would come after
// the deed. And s.lex must not be touched between watched and its stop.
package session
