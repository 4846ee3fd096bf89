package deflate

import (
	"bytes"
	stdflate "compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

// samples are data of the kinds that pass.
func samples() map[string][]byte {
	rnd := rand.New(rand.NewSource(1))
	random := make([]byte, 100_000)
	rnd.Read(random)
	letters := make([]byte, 100_000)
	for i := range letters {
		letters[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[random[i]&63]
	}
	var lines strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&lines, "* %d FETCH (UID %d FLAGS (\\Seen) RFC822.SIZE %d)\r\n", i, i*3, rnd.Intn(1e6))
	}
	return map[string][]byte{
		"nothing": nil, "a byte": {'x'}, "lines": []byte(lines.String()), "random": random, "base64": letters,
		"zeros": make([]byte, 300_000), "far back": append(append(bytes.Clone(random[:32768]), random[:300]...), random[:32768]...),
	}
}

// packed is data as the library compresses it, flushed now and then.
func packed(t testing.TB, data []byte, level int) []byte {
	var out bytes.Buffer
	w, err := stdflate.NewWriter(&out, level)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(data); i += 7000 {
		w.Write(data[i:min(i+7000, len(data))])
		w.Flush()
	}
	w.Close()
	return out.Bytes()
}

// What the library writes is read, however it comes in and is taken out.
func TestReadsWhatTheLibraryWrites(t *testing.T) {
	for name, data := range samples() {
		for level := -2; level <= 9; level++ {
			in := packed(t, data, level)
			for how, src := range map[string]io.Reader{
				"whole": bytes.NewReader(in), "bytes": iotest.OneByteReader(bytes.NewReader(in)),
				"halves": iotest.HalfReader(bytes.NewReader(in)), "with its end": iotest.DataErrReader(bytes.NewReader(in)),
			} {
				got, err := io.ReadAll(iotest.HalfReader(NewReader(src, nil)))
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s at level %d, %s: %d of %d bytes, %v", name, level, how, len(got), len(data), err)
				}
			}
		}
	}
}

// A timeout anywhere in the stream loses nothing: a look ahead ends so.
func TestReadGoesOnAfterATimeout(t *testing.T) {
	for name, data := range samples() {
		src := &stumbling{src: iotest.OneByteReader(bytes.NewReader(packed(t, data, 6)))}
		r, got := NewReader(src, nil), []byte(nil)
		for b := make([]byte, 100); ; {
			n, err := r.Read(b)
			got = append(got, b[:n]...)
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				if err != io.EOF {
					t.Errorf("%s: %v", name, err)
				}
				break
			}
		}
		if !bytes.Equal(got, data) {
			t.Errorf("%s: %d of %d bytes", name, len(got), len(data))
		}
	}
}

// stumbling fails every second time.
type stumbling struct {
	src  io.Reader
	fail bool
}

func (s *stumbling) Read(p []byte) (int, error) {
	if s.fail = !s.fail; s.fail {
		return 0, os.ErrDeadlineExceeded
	}
	return s.src.Read(p)
}

// What a Writer was given, the library reads back at once after each Write.
func TestEachWriteCanBeRead(t *testing.T) {
	for name, data := range samples() {
		for _, size := range []int{1, 100, 511, 512, 513, 5000, 16 << 10, 70_000} {
			data := data[:min(len(data), 300*size)]
			pr, pw := io.Pipe()
			go func() { // ends with the data
				w := NewWriter(pw)
				for i := 0; i < len(data); i += size {
					if n, err := w.Write(data[i:min(i+size, len(data))]); err != nil || n == 0 {
						t.Error(n, err)
					}
				}
				pw.Close()
			}()
			r := stdflate.NewReader(pr)
			for i := 0; i < len(data); i += size {
				want := data[i:min(i+size, len(data))]
				got := make([]byte, len(want))
				if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%s in pieces of %d: at %d: %v", name, size, i, err)
				}
			}
			pr.Close()
		}
	}
}

// The sizes that answers shrink to: short ones by what was said before, letters without
// any sense by a quarter.
func TestSizes(t *testing.T) {
	var out bytes.Buffer
	w, said := NewWriter(&out), 0
	for i := range 100 {
		n, _ := fmt.Fprintf(w, "* %d FETCH (UID %d FLAGS (\\Seen))\r\na%d OK UID STORE completed\r\n", i, 3*i, i)
		said += n
	}
	if out.Len() > said/2 {
		t.Errorf("%d bytes of short answers become %d", said, out.Len())
	}
	for name, most := range map[string]int{"base64": 77, "random": 101, "lines": 40, "zeros": 2} {
		out.Reset()
		data := samples()[name]
		for i := 0; i < len(data); i += 16 << 10 {
			w.Write(data[i:min(i+16<<10, len(data))])
		}
		if got := 100 * out.Len() / len(data); got > most {
			t.Errorf("%s become %d%%, more than %d", name, got, most)
		}
	}
}

// Nothing of the stream is left behind the bytes of a WriteLast: what follows them is not
// compressed, and clients differ in how they look for the end.
func TestWriteLastLeavesNothingBehind(t *testing.T) {
	for name, data := range samples() {
		if len(data) == 0 {
			continue
		}
		var out bytes.Buffer
		w := NewWriter(&out)
		w.Write([]byte("before"))
		w.WriteLast(data)
		src := bytes.NewReader(out.Bytes())
		r := stdflate.NewReader(src)
		got := make([]byte, 6+len(data))
		if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got[6:], data) {
			t.Errorf("%s: %v", name, err)
		}
		if n, err := r.Read(got[:1]); n > 0 || err != io.EOF || src.Len() > 0 {
			t.Errorf("%s: %d, %v, %d bytes behind", name, n, err, src.Len())
		}
	}
}

// How a client leaves the stream behind its last command, and what it sends then.
func TestEnd(t *testing.T) {
	var flushed, twice, ended bytes.Buffer
	w, _ := stdflate.NewWriter(&flushed, 6)
	io.WriteString(w, "a NOOP\r\nb UNAUTHENTICATE\r\n")
	w.Flush()
	twice.Write(flushed.Bytes())
	twice.Write([]byte{3, 0})
	NewWriter(&ended).WriteLast([]byte("a NOOP\r\nb UNAUTHENTICATE\r\n"))
	for name, in := range map[string][]byte{"flushed": flushed.Bytes(), "flushed and ended": twice.Bytes(), "ended": ended.Bytes()} {
		for _, size := range []int{1, 26, 27, 64} {
			for first := 0; first <= len(in); first++ {
				plain := "c LOGIN ann secret\r\n"
				r := NewReader(strings.NewReader(string(in[first:])+plain), in[:first:first])
				got := ""
				for b := make([]byte, size); len(got) < 26; {
					n, err := r.Read(b)
					if err != nil {
						t.Fatalf("%s: %v after %q", name, err, got)
					}
					got += string(b[:n])
				}
				behind, err := r.End()
				rest, _ := io.ReadAll(r.src)
				if all := string(behind) + string(rest); err != nil || all != plain && all != "\x03\x00"+plain {
					t.Errorf("%s, %d in advance, by %d: %q, %v", name, first, size, behind, err)
				}
			}
		}
	}
	w.Reset(&flushed)
	flushed.Reset()
	io.WriteString(w, "b UNAUTHENTICATE\r\nc NOOP\r\n")
	w.Flush()
	r := NewReader(&flushed, nil)
	io.ReadFull(r, make([]byte, 18))
	if _, err := r.End(); err != ErrCorrupt {
		t.Errorf("more data: %v", err)
	}
}

// Between blocks a Reader holds its window, which is as large as what was read.
func TestMemoryBetweenCommands(t *testing.T) {
	for said, most := range map[int]int{100: 512, 500: 512, 3000: 4096, 200_000: 32 << 10} {
		var in bytes.Buffer
		w, _ := stdflate.NewWriter(&in, 6)
		io.WriteString(w, strings.Repeat("a1 NOOP\r\n", said)[:said])
		w.Flush()
		r := NewReader(&in, nil)
		io.Copy(io.Discard, r)
		if r.t != nil || r.pooled != nil || len(r.ring) > most || cap(r.ring) > most {
			t.Errorf("after %d bytes: tables %t, input %t, window %d", said, r.t != nil, r.pooled != nil, len(r.ring))
		}
	}
}

// resting looks at a Reader at each read.
type resting struct {
	src   io.Reader
	r     *Reader
	reads int
	least float64 // of the window that was kept, at least so much was saved
}

func (s *resting) Read(p []byte) (int, error) {
	s.reads++
	if s.r.ring == nil && s.r.rest != nil {
		s.least = min(s.least, 1-float64(len(s.r.rest))/float64(window))
	}
	s.r.Rest(s.reads%3 > 0)
	return s.src.Read(p)
}

// A Reader that rests keeps little, and knows all when it goes on.
func TestRest(t *testing.T) {
	for name, data := range samples() {
		var in bytes.Buffer
		w, _ := stdflate.NewWriter(&in, 9)
		for i := 0; i < len(data); i += 3000 {
			w.Write(data[i:min(i+3000, len(data))])
			w.Flush()
		}
		w.Close()
		src := &resting{src: iotest.OneByteReader(&in), least: 1}
		src.r = NewReader(src, nil)
		got, err := io.ReadAll(src.r)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d of %d bytes, %v", name, len(got), len(data), err)
		}
		if want := map[string]float64{"lines": 0.7, "base64": 0.2, "zeros": 0.9}[name]; src.least < want || want > 0 && src.least == 1 {
			t.Errorf("%s: %.2f of the window was saved", name, src.least)
		}
	}
}

func TestCorrupt(t *testing.T) {
	for name, in := range map[string]string{
		"a kind of block that is not": "\x07", "a stored length that does not fit": "\x00\x01\x00\x00\x00",
		"a distance to before the beginning": "\x03\x02", "commands in the clear": "a1 NOOP\r\n",
		"too many codes": "\xfd\xff\xff", "a code of lengths that is none": "\x05\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff",
	} {
		r := NewReader(strings.NewReader(in), nil)
		if got, err := io.ReadAll(r); err != ErrCorrupt {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	for _, data := range samples() {
		if len(data) > 5000 {
			data = data[:5000]
		}
		for level := -2; level <= 9; level += 3 {
			f.Add(packed(f, data, level), 3)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, step int) {
		// The library is the judge.
		want, wantErr := io.ReadAll(io.LimitReader(stdflate.NewReader(bytes.NewReader(in)), 1<<20))
		r := NewReader(bytes.NewReader(in), nil)
		var got []byte
		var err error
		for b := make([]byte, 1+step&1023); err == nil && len(got) < 1<<20; {
			var n int
			n, err = r.Read(b)
			got = append(got, b[:n]...)
		}
		got = got[:min(len(got), 1<<20)]
		if wantErr == nil && !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, want %d; %v", len(got), len(want), err)
		}
		if n := min(len(got), len(want)); !bytes.Equal(got[:n], want[:n]) {
			t.Fatal("other bytes")
		}
		var corrupt stdflate.CorruptInputError
		if err == ErrCorrupt && wantErr == nil || err == io.EOF && errors.As(wantErr, &corrupt) && r.err == io.EOF {
			t.Fatalf("%v, the library has %v", err, wantErr)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	for _, name := range []string{"lines", "base64"} {
		data := samples()[name]
		in := packed(b, data, 6)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				io.Copy(io.Discard, NewReader(bytes.NewReader(in), nil))
			}
		})
	}
}
