// Package control is the socket through which an admin asks a running server: a unix
// socket that only root and the server's own user may use, and the few words that are
// spoken there. It knows nothing of mail.
//
// One connection carries one question. The asker sends a Request, one line of JSON; the
// server sends Replies, one line each, of which the last has Error or Done, and closes:
//
//	> {"do":"who"}
//	< {"session":{"id":"7f3a09c1","user":"ann","addr":"192.0.2.7",...}}
//	< {"done":"1 session"}
//
// listen.go makes the socket and keeps those who may not ask away, serve.go answers,
// client.go asks, message.go has the words.
//
// Limits: 8 questions at one time, 4 KiB and 5 seconds for a question. An answer takes
// as long as its asker reads, on a goroutine of its own; what sessions do never waits
// for it.
//
// What a newcomer gets wrong: the mode of the socket is not what keeps others away, for
// not every system looks at it. The kernel's word on who is at the other end is, and
// both sides ask for it.
package control
