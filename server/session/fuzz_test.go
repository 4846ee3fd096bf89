package session

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

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

// Whatever a client sends after login: the session ends without a panic, every
// line it answered is whole, and memory stays bounded by what was sent.
func FuzzSession(f *testing.F) {
	for _, s := range []string{
		"a SELECT INBOX\r\nb FETCH 1:* (FLAGS ENVELOPE BODY[]<0.5>)\r\nc STORE 1 +FLAGS.SILENT (\\Seen $x)\r\nd EXPUNGE\r\n",
		"a SELECT INBOX\r\nb UID MOVE 1:2 Work\r\nc SEARCH RETURN (SAVE COUNT) OR SEEN NOT TEXT x\r\nd COPY $ Work\r\n",
		"a APPEND INBOX (\\Seen) \"17-Jul-1996 02:44:25 -0700\" {3}\r\nabc {2+}\r\nxy\r\nb IDLE\r\nDONE\r\nc LOGOUT\r\n",
		"a LIST (SUBSCRIBED RECURSIVEMATCH) \"\" (\"*\" \"%\") RETURN (STATUS (MESSAGES SIZE) CHILDREN)\r\nb LSUB \"\" %\r\nc XLIST \"\" *\r\n",
		"a CREATE x/y (USE (\\Sent))\r\nb RENAME x z\r\nc DELETE z\r\nd STATUS z (SIZE)\r\ne ENABLE IMAP4rev2\r\nf EXAMINE INBOX\r\ng CLOSE\r\n",
		"a ID (\"name\" NIL)\r\nb NAMESPACE\r\nc UID EXPUNGE 1:*\r\nd FROB {4+}\r\nx\r\ny\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 {
			return
		}
		st := memstore.New(nil)
		st.Seed("ann", store.Inbox, memstore.Seed{Message: "Subject: x\r\n\r\nbody\r\n"}, memstore.Seed{Message: "y"})
		st.Seed("ann", "Work", memstore.Seed{Message: "z"})
		stream := &script{Reader: bytes.NewReader(b)}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Serve(context.Background(), stream, &Login{Who: store.Identity{User: "ann", Roots: []store.Root{{}}}, Tag: "l"}, st,
			&Options{Log: quiet(), Limits: Limits{CommandBytes: 2000, AppendBytes: 1000}, Keepalive: -1})
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Fatalf("Serve: %v", err)
		}
		if out := stream.out.Bytes(); !bytes.HasPrefix(out, []byte("l OK [CAPABILITY ")) || !bytes.HasSuffix(out, []byte("\r\n")) {
			t.Fatalf("answers are cut: %q", out)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
			t.Fatalf("%d bytes were allocated for %d", grown, len(b))
		}
	})
}
