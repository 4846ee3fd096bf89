// Package wire reads and writes the bytes of IMAP: RFC 9051 section 9 and the
// forms that older clients send. It knows no sessions, mailboxes or clocks.
//
// The Lexer takes tokens from a stream, one command after another. Nothing is
// gathered but what a token needs, and what is gathered counts against Limits,
// so that a command costs its length and no more than its limit. Between
// commands a Lexer holds 64 bytes; a pooled buffer is taken when a command is
// longer than that and given back when the next one is waited for.
//
// A command that went wrong is left where it went wrong: the offending byte is
// not consumed. Skip then goes to the end of that command, over every literal
// that the client will send without being asked, so that bytes of a refused
// literal are never taken for a command (RFC 7888 section 4).
//
// The Encoder gathers responses in a pooled buffer and writes it when it is
// full or flushed. A session flushes before each blocking read (Hooks.Fill), so
// pipelined commands share one write and no client waits for bytes that we hold.
//
// What a newcomer gets wrong: a literal announced with {n} is not there yet. Its
// bytes come only after Literal.Read invited them; a command that refuses before
// that first Read has nothing to swallow.
package wire
