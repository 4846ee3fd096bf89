package test

import (
	"bytes"
	"compress/gzip"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"roost/maildir"
	"roost/server/session"
	"roost/store"
	"roost/test/stage"
	"roost/test/talk"
)

// onMaildir plays a dialogue on the tree in root, by a server that is started and stopped.
func onMaildir(t *testing.T, root, script string) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	st, err := maildir.New(maildir.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	who := store.Identity{User: "ann", Login: "ann", Roots: []store.Root{{Mail: root, Layout: store.LayoutMaildirPP, Create: true}}}
	t.Run("", func(t *testing.T) { // whose end is that of the stage
		s := stage.New(t, st, who, func(ctx context.Context, conn net.Conn, who store.Identity) {
			if _, err := session.Serve(ctx, conn, &session.Login{Who: who, Tag: "l"}, st, &session.Options{Log: log}); err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
		talk.Run(t, script, talk.Options{Dial: s.Dial, Greeting: true, Hooks: s.Hooks()})
	})
	if err := st.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A message has one EMAILID: whatever ends the lines of its file and whether that is
// compressed, appended here or delivered, in each mailbox, and after all caches are gone.
func TestEmailIDIsThatOfTheBytes(t *testing.T) {
	root := filepath.Join(t.TempDir(), "Maildir")
	onMaildir(t, root, "A> a1 CREATE Other\n")
	text := []byte("Subject: one\n\nHello\nthere\n")
	crlf := bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(text)
	z.Close()
	for name, b := range map[string][]byte{
		"1795500001.M1P1.h": text, "1795500002.M1P1.h": crlf, "1795500003.M1P1.h": packed.Bytes(),
		"1795500004.M1P1.h": []byte("Subject: one\n\nHello\nThere\n"),
	} {
		if err := os.WriteFile(filepath.Join(root, "new", name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// SHA-256 of "Subject: one\r\n\r\nHello\r\nthere\r\n"; never to be changed: clients keep it
	const id = "M4f0e905863d6099f0fde7d314adf751e6d583e73"
	same := `
A> a1 SELECT INBOX
A> a2 SEARCH EMAILID ` + id + `
A< * SEARCH 1 2 3
A> a3 FETCH 1:4 (EMAILID)
A< * 1 FETCH (EMAILID (` + id + `))
A< * 2 FETCH (EMAILID (` + id + `))
A< * 3 FETCH (EMAILID (` + id + `))
A!< * 4 FETCH (EMAILID (` + id + `))
A< ...
A> a4 SEARCH NOT EMAILID ` + id + `
A< * SEARCH 4
`
	forget := func() {
		t.Helper()
		if err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
			if ok, _ := filepath.Match("roost.*", filepath.Base(path)); ok && err == nil {
				err = os.Remove(path)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	onMaildir(t, root, same)
	onMaildir(t, root, same)
	forget()
	onMaildir(t, root, same)
	onMaildir(t, root, `
A> a1 SELECT INBOX
A> a2 COPY 1 Other
A> a3 COPY 3 Other
A>> "a4 APPEND Other {30+}\r\nSubject: one\r\n\r\nHello\r\nthere\r\n\r\n"
A< ...
A< a4 OK ...
A>> "a5 APPEND Other {26+}\r\nSubject: one\n\nHello\nthere\n\r\n"
A< ...
A< a5 OK ...
A> a6 MOVE 2 Other
A> a7 SELECT Other
A> a8 SEARCH EMAILID `+id+`
A< * SEARCH 1 2 3 4 5
`)
	forget()
	onMaildir(t, root, `
A> a1 SELECT Other
A> a2 UID SEARCH EMAILID `+id+`
A< * SEARCH 1 2 3 4 5
`)
}
