package session

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"roost/server/deflate"
	"roost/store"
	"roost/store/memstore"
)

// script is a stream that holds what a client says, and takes what it is told.
type script struct {
	io.Reader
	mu  sync.Mutex // guards out: the pusher writes too
	out bytes.Buffer
}

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(p)
}
func (*script) SetReadDeadline(time.Time) error  { return nil }
func (*script) SetWriteDeadline(time.Time) error { return nil }
func (*script) Close() error                     { return nil }

// checkAnswers reads what a session wrote: lines that are whole, of bytes that the
// grammar has outside of literals (RFC 9051 section 9): no control characters but in
// quotes, which close, as brackets do, and nothing above 127 for those who enabled no UTF-8.
func checkAnswers(t *testing.T, out []byte, utf8 bool) {
	t.Helper()
	all := out
	for len(out) > 0 {
		quoted, depth, i := false, 0, 0
		text := false // what follows is for people: a status response
		for ; i < len(out) && out[i] != '\n'; i++ {
			switch c := out[i]; {
			case c >= 0x80 && !utf8, c == 0, (c < ' ' && c != '\r' || c == 0x7f) && !quoted, c == '\r' && (i+1 == len(out) || out[i+1] != '\n'):
				t.Fatalf("byte %#x in %.300q of %.2000q", c, out, all)
			case quoted && c == '\\':
				i++
			case c == '"' && !text:
				quoted = !quoted
			case c == ' ' && i > 0 && depth == 0 && !quoted:
				if w := string(out[:i]); strings.HasSuffix(w, " OK") || strings.HasSuffix(w, " NO") || strings.HasSuffix(w, " BAD") || strings.HasSuffix(w, " BYE") || w == "+" {
					text = true
				}
			case c == '(' && !quoted && !text:
				depth++
			case c == ')' && !quoted && !text:
				depth--
			case c == '{' && !quoted && !text:
				var n int
				if _, err := fmt.Sscanf(string(out[i:min(len(out), i+20)]), "{%d}\r\n", &n); err != nil {
					continue // a brace in a flag or a tag
				}
				i += len(fmt.Sprintf("{%d}\r\n", n)) + n
				if i > len(out) {
					t.Fatalf("a literal is cut in %.2000q", all)
				}
				i--
			}
		}
		if i == len(out) || quoted || depth != 0 {
			t.Fatalf("a line does not close: %.300q of %.2000q", out, all)
		}
		out = out[i+1:]
	}
}

// broken is a message with all that may not come in an answer as it is.
const broken = "From: \"unclosed <a@b>, (x\r\nTo: g:a@b,<@r:c@d>;\r\nSubject: \xff\x00 \"{5}\r\n \\\r\nX-A\xfc: b\r\n" +
	"Content-Type: multipart/mixed; boundary=\"b\"; x=\"\xfc\\\"\"\r\n\r\n--b\r\nContent-Type: \"/(; name=a\x01b\r\nContent-ID: (\r\n\r\n\x00\xff\r\n" +
	"--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: nonsense)\r\n\r\nSubject:\r\n\r\n--b--\r\n"

// compressed is text behind a COMPRESS, and a flush.
func compressed(text string) string {
	var b bytes.Buffer
	deflate.NewWriter(&b).Write([]byte(text))
	return b.String()
}

// inflated makes readable what was said behind a COMPRESS. An answer to UNAUTHENTICATE is
// not there.
func inflated(out *bytes.Buffer) {
	plain, packed, ok := bytes.Cut(out.Bytes(), []byte(" OK DEFLATE active\r\n"))
	if !ok {
		return
	}
	rest, _ := io.ReadAll(deflate.NewReader(bytes.NewReader(packed), nil))
	all := slices.Concat(plain, []byte(" OK DEFLATE active\r\n"), rest)
	out.Reset()
	out.Write(all)
}

// numberedAnswer is one that goes by sequence numbers.
var numberedAnswer = regexp.MustCompile(`(?m)^\* \d+ (FETCH|EXPUNGE)`)

// Whatever a client sends after login: the session ends without a panic, every
// line it answered is whole, and memory stays bounded by what was sent.
func FuzzSession(f *testing.F) {
	for _, s := range []string{
		"a SELECT INBOX\r\nb FETCH 1:* (FLAGS ENVELOPE BODY[]<0.5>)\r\nc STORE 1 +FLAGS.SILENT (\\Seen $x)\r\nd EXPUNGE\r\n",
		"a SELECT INBOX\r\nb UID MOVE 1:2 Work\r\nc SEARCH RETURN (SAVE COUNT) OR SEEN NOT TEXT x\r\nd COPY $ Work\r\n",
		"a APPEND INBOX (\\Seen) \"17-Jul-1996 02:44:25 -0700\" {3}\r\nabc {2+}\r\nxy\r\nb IDLE\r\nDONE\r\nc LOGOUT\r\n",
		"a LIST (SUBSCRIBED RECURSIVEMATCH) \"\" (\"*\" \"%\") RETURN (STATUS (MESSAGES SIZE) CHILDREN)\r\nb LSUB \"\" %\r\nc XLIST \"\" *\r\n",
		"a CREATE x/y (USE (\\Sent))\r\nb RENAME x z\r\nc DELETE z\r\nd STATUS z (SIZE)\r\ne ENABLE IMAP4rev2\r\nf EXAMINE INBOX\r\ng CLOSE\r\n",
		"a SELECT INBOX\r\nb FETCH 2 (ENVELOPE BODYSTRUCTURE BODY BODY[] BODY[HEADER.FIELDS (subject {3+}\r\na\xfcb)] BINARY[1] BODY[2.HEADER] RFC822.TEXT BODY[1.MIME]<3.9>)\r\n",
		"a SELECT INBOX\r\nb SORT RETURN (SAVE PARTIAL -1:-5 COUNT) (REVERSE SUBJECT DISPLAYFROM) UTF-8 ALL\r\nc UID THREAD REFERENCES UTF-8 ALL\r\nd UID FETCH 1:* (UID SAVEDATE PREVIEW (LAZY)) (PARTIAL 1:2)\r\ne FETCH 1:2 PREVIEW (LAZY)\r\nf FETCH 1:2 PREVIEW\r\ng UIDBATCHES 500 1:2\r\n",
		"a SELECT INBOX\r\nb SEARCH RETURN (RELEVANCY PARTIAL 1:5) FUZZY (OR TEXT \"x y\" NOT FUZZY SUBJECT x)\r\nc SORT (RELEVANCY) UTF-8 FUZZY BODY body\r\n",
		"a SETMETADATA INBOX (/private/comment ~{3+}\r\n\x00\r\n /private/specialuse NIL)\r\nb GETMETADATA (MAXSIZE 5 DEPTH infinity) INBOX (/private /shared/x)\r\nc ENABLE METADATA\r\nd GETMETADATA \"\" (DEPTH 1) /private/filters/values\r\ne LIST \"\" * RETURN (METADATA (/private/comment))\r\n",
		"a SETMETADATA \"\" (/private/filters/values/f {12+}\r\nOR SEEN (1:*) /private/filters/values/g \"NOT FILTER f TEXT {1}\")\r\nb SELECT INBOX\r\nc SEARCH FILTER f NOT FILTER g\r\nd SORT (DATE REVERSE DATE) UTF-8 FILTER g\r\n",
		"a ENABLE QRESYNC\r\nb SELECT INBOX (QRESYNC (1 2 1:* (1:2 1,3)))\r\nc UID FETCH *,1:9 (UID) (CHANGEDSINCE 1 VANISHED)\r\n",
		"a SELECT INBOX\r\nb FETCH 1:2 (THREADID EMAILID)\r\nc ENABLE UIDONLY CONDSTORE\r\nd UID FETCH 1:* (UID FLAGS BODY[])\r\ne UID STORE 1:2 (UNCHANGEDSINCE 1) +FLAGS (\\Deleted)\r\nf EXPUNGE\r\n",
		"a ENABLE UIDONLY\r\nb SELECT INBOX\r\nc UID SEARCH RETURN (SAVE UPDATE) OR UIDBEFORE 2 NOT (UIDAFTER 1 EMAILID Mx THREADID T_-)\r\nd UID MOVE $ Work\r\ne CREATE x\r\nf STATUS x (MAILBOXID)\r\ng UID THREAD REFS UTF-8 ALL\r\n",
		"a NOTIFY SET STATUS (selected-delayed (MessageNew (UID BODY[]) MessageExpunge FlagChange)) (subtree (x {1+}\r\ny) (MessageNew MessageExpunge MailboxName)) (personal NONE)\r\nb SELECT INBOX\r\nc COPY 1 INBOX\r\nd CREATE x/y\r\ne NOTIFY NONE\r\n",
		"a SELECT INBOX\r\nb UID SEARCH RETURN (UPDATE (UID BODY[]) COUNT) UNDELETED\r\nc SORT RETURN (CONTEXT UPDATE) (SUBJECT) UTF-8 UID 2:*\r\nd STORE 1 +FLAGS (\\Deleted)\r\ne COPY 1:2 INBOX\r\nf EXPUNGE\r\ng CANCELUPDATE \"b\" {1+}\r\nc\r\n",
		"a SELECT INBOX\r\nb REPLACE 2 Work (\\Seen x) \"17-Jul-1996 02:44:25 -0700\" {3+}\r\nabc\r\nc UID REPLACE * INBOX ~{2+}\r\nx\x00\r\nd UNAUTHENTICATE\r\ne NOOP\r\n",
		"a ESEARCH IN (personal subtree-one (Work INBOX) mailboxes x) RETURN (MIN COUNT PARTIAL 1:2) OR 1:* NOT (UID 2:* TEXT x)\r\nb SELECT INBOX\r\nc ESEARCH RETURN (SAVE UPDATE) $\r\n",
		"a COMPRESS DEFLATE\r\n" + compressed("b SELECT INBOX\r\nc FETCH 1:* (FLAGS BODY[])\r\nd COMPRESS DEFLATE\r\ne UNAUTHENTICATE\r\n") + "f NOOP\r\n",
		"a ID (\"name\" NIL)\r\nb NAMESPACE\r\nc UID EXPUNGE 1:*\r\nd FROB {4+}\r\nx\r\ny\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 {
			return
		}
		st := memstore.New(nil)
		st.Seed("ann", store.Inbox, memstore.Seed{Message: "Subject: x\r\n\r\nbody\r\n"}, memstore.Seed{Message: broken})
		st.Seed("ann", "Work", memstore.Seed{Message: "z"})
		stream := &script{Reader: bytes.NewReader(b)}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Serve(context.Background(), stream, &Login{Who: store.Identity{User: "ann", Roots: []store.Root{{}}}, Tag: "l"}, st,
			&Options{Log: quiet(), Limits: Limits{CommandBytes: 2000, AppendBytes: 1000, Messages: len(b) % 3}, Keepalive: -1})
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Fatalf("Serve: %v", err)
		}
		inflated(&stream.out)
		if out := stream.out.Bytes(); !bytes.HasPrefix(out, []byte("l OK [CAPABILITY ")) || !bytes.HasSuffix(out, []byte("\r\n")) {
			t.Fatalf("answers are cut: %q", out)
		}
		if _, after, ok := bytes.Cut(stream.out.Bytes(), []byte("* ENABLED UIDONLY\r\n")); ok && numberedAnswer.Match(after) && !numberedAnswer.Match(b) {
			t.Fatalf("a sequence number is told: %q", after)
		}
		checkAnswers(t, stream.out.Bytes(), bytes.Contains(bytes.ToUpper(b), []byte("ENABLE")))
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
			t.Fatalf("%d bytes were allocated for %d", grown, len(b))
		}
	})
}
