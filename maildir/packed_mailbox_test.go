package maildir

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// logLines gathers what is logged.
type logLines struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// with are the lines that hold s.
func (l *logLines) with(s string) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, s) {
			lines = append(lines, line)
		}
	}
	return lines
}

// put writes message files into cur/ before the mailbox is opened.
func putFiles(t *testing.T, root string, files map[string][]byte) {
	t.Helper()
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(root, "cur", name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// readAll reads a message through the mailbox.
func readAll(t *testing.T, box store.Mailbox, uid imap.UID) (string, error) {
	t.Helper()
	m, err := box.Message(t.Context(), uid)
	if err != nil {
		return "", err
	}
	defer m.Close()
	n, err := m.Size()
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	_, err = m.WriteRange(&b, 0, n)
	return b.String(), err
}

// What cannot be read is told once in the log, with the file's name, however often it is
// asked for, and harms nothing else.
func TestUnreadableMessagesAreLoggedOnce(t *testing.T) {
	text := []byte("Subject: x\n\ntext\n")
	gz := packers["gzip"](t, bytes.Repeat(text, 100))
	var log logLines
	o := openOutside(t, 0, Options{Log: slog.New(slog.NewTextHandler(&log, nil)), MaxUnpacked: 1 << 16, Poll: true})
	putFiles(t, o.root, map[string][]byte{
		"1.a.h:2,": text,
		"2.b.h:2,": []byte("CRYPTED\x03\x07\x02......"),
		"3.c.h:2,": gz[:len(gz)-9],
		"4.d.h:2,": packers["gzip"](t, make([]byte, 1<<20)),
		"5.e.h:2,": []byte("\xfd7zXZ\x00......"),
		"6.f.h:2,": packers["zstd"](t, text),
	})
	o.must(o.box.Look(t.Context()))
	for range 3 {
		for uid, want := range map[imap.UID]error{2: store.ErrUnsupported, 3: store.ErrDamaged, 4: store.ErrLimit, 5: store.ErrUnsupported} {
			if _, err := readAll(t, o.box, uid); !errors.Is(err, want) {
				t.Errorf("UID %d: %v, want %v", uid, err, want)
			}
		}
		for _, uid := range []imap.UID{1, 6} {
			if got, err := readAll(t, o.box, uid); err != nil || got != "Subject: x\r\n\r\ntext\r\n" {
				t.Errorf("UID %d: %q, %v", uid, got, err)
			}
		}
	}
	if st, err := o.a.Status(t.Context(), store.Inbox, true); err != nil || st.Messages != 6 || st.Size != 2*20 {
		t.Errorf("STATUS: %+v, %v", st, err)
	}
	for _, name := range []string{"2.b.h:2,", "3.c.h:2,", "4.d.h:2,", "5.e.h:2,"} {
		if lines := log.with(name); len(lines) != 1 {
			t.Errorf("%d lines on %s: %q", len(lines), name, lines)
		}
	}
}

// Each piece is a FETCH of its own: the message is opened, read and closed.
func TestPiecesThroughTheMailbox(t *testing.T) {
	text := linesText()
	want := naiveCRLF(text)
	o := openOutside(t, 0, Options{Poll: true})
	putFiles(t, o.root, map[string][]byte{"1.a.h:2,": packers["gzip"](t, text)})
	o.must(o.box.Look(t.Context()))
	n := countUnpacked(t)
	const piece = 64 << 10
	for off := int64(0); off < int64(len(want)); off += piece {
		m, err := o.box.Message(t.Context(), 1)
		o.must(err)
		size, err := m.Size()
		o.must(err)
		var b bytes.Buffer
		if _, err := m.WriteRange(&b, off, piece); err != nil || size != int64(len(want)) || !bytes.Equal(b.Bytes(), want[off:min(off+piece, size)]) {
			t.Fatalf("%d bytes from %d of %d: %v", b.Len(), off, size, err)
		}
		if off == 2*piece { // \Seen is a rename in between
			_, _, err = o.box.SetFlags(t.Context(), []imap.UID{1}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagSeen}})
			o.must(err)
		}
		o.must(m.Close())
		o.must(m.Close())
	}
	if n.Load() > 2*int64(len(text))+piece {
		t.Errorf("%d bytes were unpacked for a message of %d", n.Load(), len(text))
	}
}

func TestCopyAndMoveKeepPackedFiles(t *testing.T) {
	text := []byte("Subject: x\n\ntext\n")
	o := openOutside(t, 0, Options{Poll: true})
	packed := map[string][]byte{
		"1.a.h:2,S":          packers["gzip"](t, text),
		"2.b.h,S=17,W=20:2,": packers["zstd"](t, text),
		"3.c.h,S=17,W=99:2,": packers["lz4"](t, text),
	}
	putFiles(t, o.root, packed)
	o.must(o.box.Look(t.Context()))
	o.must(o.a.Create(t.Context(), "Other", nil))
	if _, err := o.box.Copy(t.Context(), []imap.UID{1, 2, 3}, "Other"); err != nil {
		t.Fatal(err)
	}
	if _, err := o.box.Move(t.Context(), []imap.UID{1, 2, 3}, "Other"); err != nil {
		t.Fatal(err)
	}
	h, err := o.a.Hold(t.Context(), "Other", true, func() {})
	o.must(err)
	defer h.Close()
	for uid := imap.UID(1); uid <= 6; uid++ {
		if got, err := readAll(t, h, uid); err != nil || got != "Subject: x\r\n\r\ntext\r\n" {
			t.Errorf("UID %d: %q, %v", uid, got, err)
		}
	}
	var raw []string
	for _, pattern := range []string{"cur/*", "new/*"} {
		files, _ := filepath.Glob(filepath.Join(o.root, ".Other", pattern))
		for _, f := range files {
			b, err := os.ReadFile(f)
			o.must(err)
			raw = append(raw, string(b))
			// Sizes in a name are those of the message, or are not there.
			if s, w := sizeHints(filepath.Base(f)); s != -1 && (s != 17 || w != 20) {
				t.Errorf("%s has sizes that are wrong", f)
			}
		}
	}
	var want []string
	for _, b := range packed {
		want = append(want, string(b), string(b))
	}
	slices.Sort(want)
	slices.Sort(raw)
	if !slices.Equal(raw, want) {
		t.Error("the files are not those that were copied")
	}
}

// A message that begins like a packed file would be another one when it is read again.
func TestAppendOfAPackedMessageIsRefused(t *testing.T) {
	o := openOutside(t, 0, Options{Poll: true})
	add := func(b string) error {
		batch, err := o.a.Batch(t.Context(), store.Inbox)
		o.must(err)
		defer batch.Close()
		// One byte a read, as a slow client sends it.
		if err := batch.Add(t.Context(), store.Meta{}, oneByte{strings.NewReader(b)}); err != nil {
			return err
		}
		_, err = batch.Commit(t.Context())
		return err
	}
	for name, pack := range packers {
		if err := add(string(pack(t, []byte("Subject: x\n\nx\n")))); !errors.Is(err, store.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := add("CRYPTED\x03\x07..."); !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("mail_crypt: %v", err)
	}
	for _, plain := range []string{"", "\x1f\x8b", "BZh", "BZhx", "Dovecot-LZ4", "Subject: x\r\n\r\nx\r\n"} {
		if err := add(plain); err != nil {
			t.Errorf("%q: %v", plain, err)
		}
	}
	o.must(o.box.Look(t.Context()))
	if n := o.box.View().UIDs.Len(); n != 6 {
		t.Errorf("%d messages, want 6", n)
	}
	if left, _ := filepath.Glob(filepath.Join(o.root, "tmp/*")); left != nil {
		t.Errorf("in tmp/: %q", left)
	}
}

type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), 1)]) }
