package maildir

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"roost/maildir/fsys"
	"roost/store"
)

// naiveCRLF is what crlf.go does to a whole message.
func naiveCRLF(b []byte) []byte {
	var out []byte
	for i, c := range b {
		if c == '\n' && (i == 0 || b[i-1] != '\r') {
			out = append(out, '\r')
		}
		out = append(out, c)
	}
	return out
}

// writeMessage makes a file and opens it as a message.
func writeMessage(t testing.TB, b []byte) (*content, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "msg"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return openPath(t, dir, "msg")
}

func openPath(t testing.TB, dir, name string) (*content, error) {
	t.Helper()
	d, err := fsys.OS.Root(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	f, st, err := d.OpenStat(name)
	if err != nil {
		return nil, err
	}
	m, err := newContent(f, st, testUnpacked)
	if err != nil {
		f.Close()
		return nil, err
	}
	t.Cleanup(func() { m.close() })
	return m, nil
}

// testUnpacked is how much a packed message may hold in these tests.
const testUnpacked = 1 << 20

// randomMessage is n bytes of which many are line ends, of all kinds.
func randomMessage(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = "abc\n\n\r\x00 \xff"[r.IntN(9)]
		if b[i] == '\n' && i > 0 && r.IntN(2) == 0 {
			b[i-1] = '\r'
		}
	}
	return b
}

func checkMessage(t *testing.T, m *content, want []byte, r *rand.Rand) {
	t.Helper()
	checkRanges(t, m, want, r, 50)
}

// checkRanges compares a message with what it should be: its size, all of it, and some
// ranges of it.
func checkRanges(t *testing.T, m *content, want []byte, r *rand.Rand, some int) {
	t.Helper()
	if n, err := m.Size(); err != nil || n != int64(len(want)) {
		t.Fatalf("size %d, want %d: %v", n, len(want), err)
	}
	var all bytes.Buffer
	if n, err := m.WriteRange(&all, 0, int64(len(want))+1); err != nil || n != int64(len(want)) || !bytes.Equal(all.Bytes(), want) {
		t.Fatalf("%d bytes written of %d: %v", n, len(want), err)
	}
	var stored bytes.Buffer
	if err := m.Stream(&stored); err != nil || !bytes.Equal(naiveCRLF(stored.Bytes()), want) {
		t.Fatalf("stream of %d bytes, %d as they are sent: %v", stored.Len(), len(want), err)
	}
	broken := errors.New("broken pipe")
	if err := m.Stream(failingWriter{broken}); len(want) > 0 && err != broken {
		t.Fatalf("an error of the writer came back as %v", err)
	}
	for range some {
		off, n := r.IntN(len(want)+2), r.IntN(200)
		if r.IntN(4) == 0 {
			n = r.IntN(len(want) + 2)
		}
		part := want[min(off, len(want)):min(off+n, len(want))]
		p := make([]byte, n)
		k, err := m.ReadAt(p, int64(off))
		if !bytes.Equal(p[:k], part) || (k < n) != (err == io.EOF) || err != nil && err != io.EOF {
			t.Fatalf("at %d: %d of %d bytes: %v", off, k, n, err)
		}
		var w bytes.Buffer
		if k, err := m.WriteRange(&w, int64(off), int64(n)); err != nil || int(k) != len(part) || !bytes.Equal(w.Bytes(), part) {
			t.Fatalf("from %d: %d of %d bytes: %v", off, k, n, err)
		}
		l := lender{buf: make([]byte, 0, store.RoomBytes+r.IntN(5000))}
		l.buf = l.buf[:r.IntN(cap(l.buf))]
		before := len(l.buf)
		if k, err := m.WriteRange(&l, int64(off), int64(n)); err != nil || int(k) != len(part) || !bytes.Equal(append(l.out, l.buf...)[before:], part) {
			t.Fatalf("from %d into lent room: %d of %d bytes: %v", off, k, n, err)
		}
	}
}

// lender is a store.Roomy that keeps what it is given.
type lender struct{ buf, out []byte }

func (l *lender) Room() []byte {
	if cap(l.buf)-len(l.buf) < store.RoomBytes {
		l.out, l.buf = append(l.out, l.buf...), l.buf[:0]
	}
	return l.buf[len(l.buf):]
}

func (l *lender) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if len(l.buf) == cap(l.buf) {
			l.Room()
		}
		k := min(len(p), cap(l.buf)-len(l.buf))
		l.buf = append(l.buf, p[:k]...)
		p = p[k:]
	}
	return n, nil
}

func TestContent(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	lines := strings.Repeat("a line of text\n", 9000)
	atStride := bytes.Repeat([]byte("x"), 2*crlfStride)
	copy(atStride[crlfStride-1:], "\r\n") // CRLF across two strides
	for name, b := range map[string][]byte{
		"empty":      nil,
		"one LF":     []byte("\n"),
		"one CR":     []byte("\r"),
		"LF":         []byte(lines),
		"CRLF":       []byte(strings.ReplaceAll(lines, "\n", "\r\n")),
		"stride":     atStride,
		"mixed":      randomMessage(r, 5000),
		"mixed long": randomMessage(r, 3*crlfStride+17),
		"LF only":    bytes.Repeat([]byte("\n"), crlfStride+1),
		"CR only":    bytes.Repeat([]byte("\r"), crlfStride+1),
		"nearly gz":  []byte("\x1f\x8b plain"),
	} {
		t.Run(name, func(t *testing.T) {
			m, err := writeMessage(t, b)
			if err != nil {
				t.Fatal(err)
			}
			checkMessage(t, m, naiveCRLF(b), r)
			var z bytes.Buffer
			w := gzip.NewWriter(&z)
			w.Write(b)
			w.Close()
			packed, err := writeMessage(t, z.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			checkMessage(t, packed, naiveCRLF(b), r)
		})
	}
}

// The longest message that is held, and one that is read again for each range.
func TestContentHeldAndNot(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, n := range []int{keepSize - 1, keepSize + 4097} {
		b := randomMessage(r, n)
		m, err := writeMessage(t, b)
		if err != nil {
			t.Fatal(err)
		}
		checkRanges(t, m, naiveCRLF(b), r, 8)
		if held := len(m.buf) == keepSize; held != (n < keepSize) {
			t.Errorf("%d bytes are held: %v", n, held)
		}
	}
}

func TestCompressedFixture(t *testing.T) {
	root := filepath.Join(unpack(t, "dovecot23-zlib/Maildir.tar.gz"), "Maildir")
	b, err := os.ReadFile("testdata/dovecot23-zlib/EXPECTED.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Mailbox map[string][]struct {
			File, Kind string
			Size       int64  `json:"rfc822_size"`
			Sum        string `json:"body_sha256"`
		}
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	for _, c := range want.Mailbox["INBOX"] {
		m, err := openPath(t, filepath.Join(root, filepath.Dir(c.File)), filepath.Base(c.File))
		if err != nil {
			t.Errorf("%s: %v", c.Kind, err)
			continue
		}
		sum := sha256.New()
		n, err := m.WriteRange(sum, 0, 1<<20)
		if err != nil || n != c.Size || hex.EncodeToString(sum.Sum(nil)) != c.Sum {
			t.Errorf("%s: %d bytes, want %d: %v", c.Kind, n, c.Size, err)
		}
	}
}

func TestUnreadableContent(t *testing.T) {
	if _, err := writeMessage(t, []byte("CRYPTED\x03\x07\x02...")); !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("mail_crypt: %v", err)
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	io.CopyN(w, rand.NewChaCha8([32]byte{}), 1<<17)
	w.Close()
	for name, b := range map[string][]byte{
		"cut off":     z.Bytes()[:z.Len()/2],
		"no header":   z.Bytes()[:5],
		"wrong sum":   append(z.Bytes()[:z.Len()-8:z.Len()-8], "deadbeef"...),
		"bad bzip2":   []byte("BZh9garbage"),
		"bad zstd":    []byte("\x28\xb5\x2f\xfdgarbage"),
		"bad lz4":     []byte(lz4Magic + "\x00\x01\x00\x00\x00\x00\x00\x05garba"),
		"cut off lz4": []byte(lz4Magic + "\x00\x01\x00\x00\x00\x00\x00\x05\x40gar"),
		"huge lz4":    []byte(lz4Magic + "\xff\x01\x00\x00\x00\x00\x00\x05garba"),
	} {
		m, err := writeMessage(t, b)
		if err == nil {
			_, err = m.Size()
		}
		if !errors.Is(err, store.ErrUnreadable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m, err := writeMessage(t, []byte("text\n"))
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("client went away")
	if _, err := m.WriteRange(failingWriter{broken}, 0, 3); err != broken {
		t.Errorf("an error of the writer came as %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// A message is read by a FETCH and the notes of another at once.
func TestContentConcurrent(t *testing.T) {
	b := randomMessage(rand.New(rand.NewPCG(3, 4)), 2*crlfStride)
	want := naiveCRLF(b)
	for _, file := range [][]byte{b, packers["gzip"](t, b)} {
		m, err := writeMessage(t, file)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				p := make([]byte, 1000)
				for off := i * 15000; off >= 0; off -= 4000 {
					if _, err := m.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p, want[off:off+1000]) {
						t.Errorf("at %d: %v", off, err)
					}
				}
			})
		}
		wg.Wait()
	}
}

// A message is one read of its file where it is short, and its header is one whatever
// follows.
func TestReadsOfAMessage(t *testing.T) {
	header := []byte("Subject: s\n\n")
	for _, c := range []struct {
		name          string
		size          int
		head          bool // is all that is wanted
		reads, atMost int
	}{
		{"short", 3000, false, 1, 3000},
		{"longer", 60_000, false, 2, 60_000},
		{"header of a short one", 3000, true, 1, 3000},
		{"header of a long one", 5 << 20, true, 1, headBytes},
	} {
		b := append(slices.Clone(header), bytes.Repeat([]byte("line\n"), (c.size-len(header))/5)...)
		f := &readsOf{memFile: memFile{b: b}}
		m, err := newContent(f, fsys.Stat{Size: int64(len(b))}, testUnpacked)
		if err != nil {
			t.Fatal(err)
		}
		if c.head {
			p := make([]byte, 2000)
			if _, err := m.ReadAt(p, 0); err != nil || !bytes.HasPrefix(p, []byte("Subject: s\r\n\r\nline\r\n")) {
				t.Errorf("%s: %.20q, %v", c.name, p, err)
			}
		} else {
			var out bytes.Buffer
			size, err := m.Size()
			if _, werr := m.WriteRange(&out, 0, size); err != nil || werr != nil || !bytes.Equal(out.Bytes(), naiveCRLF(b)) {
				t.Errorf("%s: %d bytes, %v, %v", c.name, out.Len(), err, werr)
			}
		}
		if f.reads != c.reads || f.bytes > c.atMost {
			t.Errorf("%s: %d bytes in %d reads", c.name, f.bytes, f.reads)
		}
		m.close()
	}
}

// readsOf counts the reads of a file.
type readsOf struct {
	memFile
	reads, bytes int
}

func (f *readsOf) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.memFile.ReadAt(p, off)
	f.reads++
	f.bytes += n
	return n, err
}

func FuzzCRLF(f *testing.F) {
	f.Add([]byte("a\nb\r\nc\rd\x00\n"), uint16(2), uint16(5), uint8(1))
	f.Add([]byte("\n\n\n\r\n"), uint16(0), uint16(7), uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, off, n uint16, step uint8) {
		want := naiveCRLF(b)
		table, err := scanCRLF(bytes.NewReader(b))
		if err != nil || table.size() != int64(len(want)) {
			t.Fatalf("size %d, want %d: %v", table.size(), len(want), err)
		}
		from, to := min(int(off), len(want)), min(int(off)+int(n), len(want))
		at := table.before(int64(from))
		c := &cursor{r: io.NopCloser(bytes.NewReader(b[at.raw:])), at: at}
		var got bytes.Buffer
		written, err := c.copy(&got, int64(from), int64(to-from))
		if err != nil || int(written) != to-from || !bytes.Equal(got.Bytes(), want[from:to]) {
			t.Fatalf("from %d to %d: %q, want %q: %v", from, to, got.Bytes(), want[from:to], err)
		}
		// The same cursor goes on, in pieces, with a gap before each but the first.
		for at := to; step > 0 && at < len(want); at += 2 * int(step) {
			end := min(at+int(step), len(want))
			var got bytes.Buffer
			if _, err := c.copy(&got, int64(at), int64(end-at)); err != nil || !bytes.Equal(got.Bytes(), want[at:end]) {
				t.Fatalf("on from %d to %d: %q, want %q: %v", at, end, got.Bytes(), want[at:end], err)
			}
		}
	})
}

func BenchmarkWriteRangeLF(b *testing.B) {
	text := bytes.Repeat([]byte(strings.Repeat("x", 70)+"\n"), 1<<14)
	m, err := writeMessage(b, text)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.WriteRange(io.Discard, 0, 1<<30); err != nil {
			b.Fatal(err)
		}
	}
}

// A long message that stays open for its next piece holds no buffer meanwhile, and can be
// read again.
func TestIdleMessageHoldsNoBuffer(t *testing.T) {
	b := bytes.Repeat([]byte("a line\n"), keepSize/5)
	var s shelf
	defer s.close()
	for range 2 {
		c, err := s.open(&memFile{b: b}, fsys.Stat{Size: int64(len(b))}, testUnpacked)
		if err != nil {
			t.Fatal(err)
		}
		checkRanges(t, c, naiveCRLF(b), rand.New(rand.NewPCG(1, 2)), 10)
		if err := s.put(c); err != nil || len(s.idle) != 1 || s.idle[0].buf != nil {
			t.Fatalf("%d idle, %v", len(s.idle), err)
		}
	}
}
