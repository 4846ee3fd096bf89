// Package talk runs dialogues: what clients say to a server, and what it must
// answer. A bug report becomes a test by paste.
//
//	# EXPUNGE waits while FETCH runs. RFC 9051 section 7.5.1
//	A> a1 SELECT INBOX
//	A< * 3 EXISTS
//	A< ...
//	B> b1 SELECT INBOX
//	B> b2 UID STORE 2 +FLAGS.SILENT (\Deleted)
//	B> b3 EXPUNGE
//	A> a2 FETCH 2 UID
//	A< * 2 FETCH (UID 2)
//	A> a3 NOOP
//	A< * 2 EXPUNGE
//
// Each line is one of these; A is any client's name, a capital and letters or
// digits, and each name is a connection of its own, opened when first met:
//
//	# text          a comment, as is an empty line
//	A> text         A sends text and CRLF. Where no A< follows, the tagged OK is awaited
//	                and whatever comes before it is allowed.
//	A>| text        A sends text and CRLF and nothing is awaited: pipelining
//	A>> "text"      A sends the bytes of a Go string, no CRLF added; nothing is awaited
//	A< pattern      a line must come. The A< lines that follow each other are one set, in any
//	                order; the set ends with the tagged answer to what A sent last, which is OK
//	                where the set does not say otherwise. A line that no pattern matches fails.
//	A< ...          further untagged lines are allowed in this set
//	A< then         what follows must come behind what stands above
//	A!< pattern     no line of the set may match
//	A< EOF          the server closes the connection
//	! verb args     a hook of the test: "! deliver INBOX"; words as in a shell with "..." for blanks.
//	                "! close A" hangs up.
//
// While A is asked for more (a "+" came: a literal, IDLE), what A sends is no
// command, and a set of A< lines ends when each of its patterns has matched.
//
// In a pattern "..." stands for any text, and ${name} for a word without blank,
// bracket or parenthesis: it is remembered where first met and is the same text
// from then on, in what is sent too. Literals are part of their line; CR, LF and
// unprintable bytes are shown as \r, \n and \xNN, in patterns too.
package talk
