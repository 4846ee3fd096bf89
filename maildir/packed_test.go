package maildir

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"roost/maildir/fsys"
	"roost/store"
)

// linesText is what testdata/packed/lines.bz2 holds, of which Go has no packer.
func linesText() []byte {
	var b bytes.Buffer
	for i := range 20000 {
		fmt.Fprintf(&b, "Line %d of a message that was packed by bzip2\n", i%1000)
	}
	return b.Bytes()
}

// packers pack a message in each way that is read; nil where the text must be linesText.
var packers = map[string]func(t testing.TB, b []byte) []byte{
	"gzip": func(t testing.TB, b []byte) []byte {
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		w.Write(b)
		w.Close()
		return z.Bytes()
	},
	"zstd": func(t testing.TB, b []byte) []byte { return packZstd(t, b) },
	"lz4": func(t testing.TB, b []byte) []byte {
		out := append([]byte(lz4Magic), 0, 1, 0, 0)
		for len(b) > 0 {
			n := min(len(b), 1<<16)
			block := lz4Literals(b[:n])
			out = binary.BigEndian.AppendUint32(out, uint32(len(block)))
			out, b = append(out, block...), b[n:]
		}
		return out
	},
	"bzip2": func(t testing.TB, b []byte) []byte {
		z, err := os.ReadFile("testdata/packed/lines.bz2")
		if err != nil {
			t.Fatal(err)
		}
		return z
	},
}

func packZstd(t testing.TB, b []byte, opt ...zstd.EOption) []byte {
	var z bytes.Buffer
	w, err := zstd.NewWriter(&z, opt...)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(b)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return z.Bytes()
}

// lz4Literals is an lz4 block that holds b as it is.
func lz4Literals(b []byte) []byte {
	out := []byte{0xf0}
	n := len(b) - 15
	if n < 0 {
		return append([]byte{byte(len(b)) << 4}, b...)
	}
	for ; n >= 255; n -= 255 {
		out = append(out, 255)
	}
	return append(append(out, byte(n)), b...)
}

// countUnpacked counts the bytes that any packed file gives while a test runs.
func countUnpacked(t *testing.T) *atomic.Int64 {
	t.Helper()
	var n atomic.Int64
	old := append([]packing(nil), packings...)
	t.Cleanup(func() { packings = old })
	packings = append([]packing(nil), packings...)
	for i := range packings {
		open := packings[i].open
		if open == nil {
			continue
		}
		packings[i].open = func(r io.Reader) (io.ReadCloser, error) {
			z, err := open(r)
			if err != nil {
				return nil, err
			}
			return &countingReader{z, &n}, nil
		}
	}
	return &n
}

type countingReader struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// onDisk writes a file, and gives what opens it through a shelf.
func onDisk(t *testing.T, s *shelf, b []byte) func() *content {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "msg"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := fsys.OS.Root(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	t.Cleanup(func() { s.close() })
	return func() *content {
		t.Helper()
		f, st, err := d.OpenStat("msg")
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.open(f, st, 64<<20)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
}

// A client that reads a message in pieces opens it once a piece. All of them together
// may cost what the message costs twice: once to know its size, once to read it.
func TestPiecesOfAPackedMessageCostItsLength(t *testing.T) {
	text := linesText()
	want := naiveCRLF(text)
	for name, pack := range packers {
		for _, header := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s header=%v", name, header), func(t *testing.T) {
				n := countUnpacked(t)
				var s shelf
				open := onDisk(t, &s, pack(t, text))
				var got []byte
				pieces := 0
				const piece = 64 << 10
				for off := 0; off < len(want); off += piece {
					pieces++
					c := open()
					if header { // is looked at in between
						head := make([]byte, 100)
						if _, err := c.ReadAt(head, 0); err != nil || !bytes.Equal(head, want[:100]) {
							t.Fatalf("header: %v", err)
						}
					}
					var b bytes.Buffer
					if _, err := c.WriteRange(&b, int64(off), piece); err != nil {
						t.Fatal(err)
					}
					got = append(got, b.Bytes()...)
					if err := s.put(c); err != nil {
						t.Fatal(err)
					}
				}
				if !bytes.Equal(got, want) {
					t.Fatal("the pieces are not the message")
				}
				limit := 2 * int64(len(text))
				if header {
					limit += int64(pieces) * 1000
				}
				if n.Load() > limit+piece {
					t.Errorf("%d bytes were unpacked for a message of %d", n.Load(), len(text))
				}
			})
		}
	}
}

// So may a plain message: where its line ends are is found once.
func TestPiecesOfAPlainMessageCostItsLength(t *testing.T) {
	text := linesText()
	want := naiveCRLF(text)
	var read atomic.Int64
	var s shelf
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "msg"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := fsys.OS.Root(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	const piece = 64 << 10
	for off := 0; off < len(want); off += piece {
		f, st, err := d.OpenStat("msg")
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.open(&countingFile{f, &read}, st, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := c.WriteRange(&b, int64(off), piece); err != nil || !bytes.Equal(b.Bytes(), want[off:min(off+piece, len(want))]) {
			t.Fatal(err)
		}
		s.put(c)
	}
	if read.Load() > 4*int64(len(text)) { // a piece begins at the last of the notes before it
		t.Errorf("%d bytes were read of a file of %d", read.Load(), len(text))
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}

type countingFile struct {
	fsys.File
	n *atomic.Int64
}

func (f *countingFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.n.Add(int64(n))
	return n, err
}

func TestPackedReadsInAnyOrder(t *testing.T) {
	text := linesText()
	r := rand.New(rand.NewPCG(5, 6))
	for name, pack := range packers {
		t.Run(name, func(t *testing.T) {
			m, err := writeMessage(t, pack(t, text))
			if err != nil {
				t.Fatal(err)
			}
			checkRanges(t, m, naiveCRLF(text), r, 8) // going back means to begin anew
		})
	}
}

func TestShelf(t *testing.T) {
	var s shelf
	text := bytes.Repeat([]byte("a line\n"), keepSize/7+1)
	open := onDisk(t, &s, text)
	first := open()
	first.Size()
	if second := open(); second != first {
		t.Error("one file is two contents")
	} else {
		s.put(second)
	}
	s.put(first)
	if again := open(); again != first {
		t.Error("it was not kept")
	}
	s.put(first)
	if s.sweep(time.Hour); open() != first {
		t.Error("it was swept too early")
	}
	s.sweep(0)
	if first.refs != 1 || first.table == nil {
		t.Error("what is in use was swept")
	}
	s.put(first)
	s.sweep(0)
	if c := open(); c == first {
		t.Error("it was not swept")
	} else {
		s.put(c)
	}
	var many []*content
	for i := range maxKept + 5 {
		c := onDisk(t, &s, append(text, byte(i)))()
		c.Size()
		many = append(many, c)
	}
	for _, c := range many {
		s.put(c)
	}
	if len(s.idle) != maxKept || len(s.byKey) != maxKept {
		t.Errorf("%d contents are kept, %d known", len(s.idle), len(s.byKey))
	}
	small := onDisk(t, &s, []byte("small\n"))()
	s.put(small)
	if s.byKey[small.key] != nil {
		t.Error("a small message is kept")
	}
	if err := s.close(); err != nil || len(s.byKey) != 0 {
		t.Errorf("after close %d are open: %v", len(s.byKey), err)
	}
}

// A file that another program writes in place is another content, whatever is kept.
func TestShelfSeesAFileThatWasRewritten(t *testing.T) {
	var s shelf
	dir := t.TempDir()
	path := filepath.Join(dir, "msg")
	text := bytes.Repeat([]byte("a line\n"), keepSize/7+1)
	d, err := fsys.OS.Root(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	defer s.close()
	for i, b := range [][]byte{text, append(text, "grown\n"...), text[:len(text)-100], bytes.ToUpper(text)} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(1_700_000_000+int64(i), 0)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		f, st, err := d.OpenStat("msg")
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.open(f, st, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		c.WriteRange(&got, 0, 1<<30)
		if !bytes.Equal(got.Bytes(), naiveCRLF(b)) {
			t.Errorf("state %d: %d bytes, want %d", i, got.Len(), len(naiveCRLF(b)))
		}
		s.put(c)
	}
}

// The bytes of a file may become fewer while they are read: then less comes than was
// asked for, with an error, and never other bytes or a panic.
func TestFileThatShrinksWhileItIsRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "msg")
	text := bytes.Repeat([]byte("a line\n"), 100_000)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := openPath(t, dir, "msg")
	if err != nil {
		t.Fatal(err)
	}
	size, err := m.Size()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 300_000); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	n, err := m.WriteRange(&got, 0, size)
	if !errors.Is(err, store.ErrUnreadable) || n >= size || !bytes.Equal(got.Bytes(), naiveCRLF(text)[:n]) {
		t.Errorf("%d bytes of %d: %v", n, size, err)
	}
}

func TestConcatenatedMembers(t *testing.T) {
	for _, name := range []string{"gzip", "zstd"} {
		b := append(packers[name](t, []byte("first\n")), packers[name](t, []byte("second\n"))...)
		m, err := writeMessage(t, b)
		if err != nil {
			t.Fatal(err)
		}
		checkMessage(t, m, []byte("first\r\nsecond\r\n"), rand.New(rand.NewPCG(7, 8)))
	}
	z := packers["bzip2"](t, nil)
	m, err := writeMessage(t, append(bytes.Clone(z), z...))
	if err != nil {
		t.Fatal(err)
	}
	m.max = 1 << 30
	text := naiveCRLF(linesText())
	if n, err := m.Size(); err != nil || n != 2*int64(len(text)) {
		t.Errorf("two members of bzip2: %d bytes: %v", n, err)
	}
}

func TestPackedFileThatIsCutOff(t *testing.T) {
	text := []byte(strings.Repeat("some text of a message\n", 3))
	for name, pack := range packers {
		whole := pack(t, text)
		cuts := []int{magicLen, len(whole) / 2, len(whole) - 1}
		if len(whole) < 1000 {
			cuts = nil
			for i := 4; i < len(whole); i++ {
				cuts = append(cuts, i)
			}
		}
		for _, n := range cuts {
			if name == "lz4" && (n < magicLen || n == magicLen+4) {
				continue // a plain text so far; the end between two chunks is one
			}
			m, err := writeMessage(t, whole[:n])
			if err == nil {
				m.max = 1 << 30
				_, err = m.Size()
			}
			if !errors.Is(err, store.ErrDamaged) || !errors.Is(err, store.ErrUnreadable) {
				t.Errorf("%s, %d of %d bytes: %v", name, n, len(whole), err)
			}
		}
	}
}

func TestBombIsBounded(t *testing.T) {
	zeros := make([]byte, 16<<20)
	for _, name := range []string{"gzip", "zstd"} {
		t.Run(name, func(t *testing.T) {
			n := countUnpacked(t)
			var s shelf
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "msg"), packers[name](t, zeros), 0o600); err != nil {
				t.Fatal(err)
			}
			d, err := fsys.OS.Root(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			defer s.close()
			for range 3 {
				f, st, err := d.OpenStat("msg")
				if err != nil {
					t.Fatal(err)
				}
				c, err := s.open(f, st, testUnpacked)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Size(); !errors.Is(err, store.ErrLimit) || !errors.Is(err, store.ErrUnreadable) {
					t.Errorf("16 MiB of zeros: %v", err)
				}
				if _, err := c.ReadAt(make([]byte, 10), 0); !errors.Is(err, store.ErrLimit) {
					t.Errorf("its start: %v", err)
				}
				s.put(c)
			}
			if n.Load() > testUnpacked+1<<18 {
				t.Errorf("%d bytes were unpacked, %d are allowed", n.Load(), testUnpacked)
			}
		})
	}
	// As much as is allowed is no bomb.
	m, err := writeMessage(t, packers["gzip"](t, zeros[:testUnpacked]))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := m.Size(); err != nil || n != testUnpacked {
		t.Errorf("%d bytes: %v", n, err)
	}
}

// zstd's levels above 19 declare a window of up to 128 MiB for the shortest message.
func TestZstdThatDeclaresAHugeWindow(t *testing.T) {
	text := []byte(strings.Repeat("packed with --ultra\n", 1000))
	z := packZstd(t, text, zstd.WithWindowSize(128<<20), zstd.WithSingleSegment(false))
	z[4] &^= 0x20
	if z[5] <= maxZstdDescriptor {
		z = append([]byte(zstdMagic), zstdRaw(0x88, text)...)
	}
	m, err := writeMessage(t, z)
	if err != nil {
		t.Fatal(err)
	}
	checkMessage(t, m, naiveCRLF(text), rand.New(rand.NewPCG(9, 10)))
}

// What really needs such a window is refused as too much, not as damaged.
func TestZstdThatNeedsAHugeWindow(t *testing.T) {
	far := append(zstdRaw(0x88, nil)[:2], 0xff, 0xff, 0xff) // a block of the reserved type: what comes is no good
	m, err := writeMessage(t, append([]byte(zstdMagic), far...))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Size(); !errors.Is(err, store.ErrLimit) || errors.Is(err, store.ErrDamaged) {
		t.Error(err)
	}
}

// zstdRaw is a frame without magic: a window, and one block as it is.
func zstdRaw(window byte, b []byte) []byte {
	out := []byte{0, window}
	h := uint32(len(b))<<3 | 1
	return append(append(out, byte(h), byte(h>>8), byte(h>>16)), b...)
}

// FuzzPacked: whatever a file holds, its size is what can be read of it, and no read
// unpacks more than is allowed.
func FuzzPacked(f *testing.F) {
	for name, pack := range packers {
		if name != "bzip2" {
			f.Add(pack(f, []byte("From: a\n\ntext\n")))
		}
	}
	f.Add([]byte("BZh91AY&SY"))
	f.Add([]byte("CRYPTED\x03\x07"))
	d, err := fsys.OS.Root(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	defer d.Close()
	const most = 1 << 16
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := newContent(&memFile{b: b}, fsys.Stat{Size: int64(len(b))}, most)
		if err != nil {
			return
		}
		n, err := c.Size()
		if err != nil {
			if !errors.Is(err, store.ErrUnreadable) {
				t.Fatalf("%v", err)
			}
			return
		}
		if c.packed() && c.table.end.raw > most {
			t.Fatalf("%d bytes", c.table.end.raw)
		}
		var whole, parts bytes.Buffer
		if k, err := c.WriteRange(&whole, 0, n); err != nil || k != n {
			t.Fatalf("%d bytes of %d: %v", k, n, err)
		}
		for off := int64(0); off < n; off += 7 {
			if _, err := c.WriteRange(&parts, off, 7); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(whole.Bytes(), parts.Bytes()) {
			t.Fatal("the pieces are not the whole")
		}
		c.close()
	})
}

// memFile is a file in memory.
type memFile struct {
	fsys.File
	b []byte
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(f.b).ReadAt(p, off)
}
func (f *memFile) Close() error { return nil }
