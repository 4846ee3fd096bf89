package message

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// crlf is b as clients see it: every bare LF with a CR.
func crlf(b []byte) []byte {
	var out []byte
	for i, c := range b {
		if c == '\n' && (i == 0 || b[i-1] != '\r') {
			out = append(out, '\r')
		}
		out = append(out, c)
	}
	return out
}

func scan(b []byte, l Limits) []Part {
	s := NewScanner(l)
	s.Write(b)
	return s.Finish()
}

// answer is what the reference server said to one item.
type answer struct {
	Len    *int   `json:"len"`
	SHA256 string `json:"sha256"`
	Error  string `json:"error"`
}

type expected struct {
	Size  int64                      `json:"RFC822.SIZE"`
	Fetch map[string]json.RawMessage `json:"fetch"`
	Count int                        `json:"part_count"`
	Parts map[string]map[string]json.RawMessage
	Quirk string `json:"dovecot_quirk"`
}

func fixtures(t testing.TB) map[string]expected {
	t.Helper()
	b, err := os.ReadFile("testdata/mime/EXPECTED.json")
	if err != nil {
		t.Fatal(err)
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		t.Fatal(err)
	}
	delete(raw, "_about")
	out := map[string]expected{}
	for name, r := range raw {
		var e expected
		if err := json.Unmarshal(r, &e); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out[name] = e
	}
	return out
}

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata/mime", name+".eml"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// section is the range that a section names, as FETCH finds it.
func section(parts []Part, spec string) Range {
	var path []uint32
	for spec != "" && spec[0] >= '0' && spec[0] <= '9' {
		n, rest, _ := strings.Cut(spec, ".")
		v, _ := strconv.ParseUint(n, 10, 32)
		path, spec = append(path, uint32(v)), rest
	}
	at, ok := Find(parts, path)
	if !ok {
		return Range{}
	}
	p := parts[at]
	if len(path) > 0 {
		switch {
		case spec == "":
			return p.Body
		case spec == "MIME":
			return p.Header
		case p.Kind != Message:
			return Range{}
		}
		p = parts[p.First]
	}
	switch spec {
	case "HEADER":
		return p.Header
	case "TEXT":
		return p.Body
	}
	return Range{p.Header.Off, p.Header.Len + p.Body.Len}
}

// numbered counts the parts that have a number of their own.
func numbered(parts []Part) int {
	n := len(parts)
	for i, p := range parts {
		if i == 0 && p.Kind == Multipart {
			n--
		}
		if p.Kind == Message && parts[p.First].Kind == Multipart {
			n--
		}
	}
	return n
}

// Where the RFC says otherwise than the reference server did, with the reason. All
// sections not named are as there.
var departures = map[string]string{
	// RFC 2046 section 5.1.1: only blanks may follow a boundary; there it matches as a prefix,
	// and only its first bytes when it is longer than 70.
	"mp-text-after-boundary": "prefix boundary",
	"mp-prefix-boundary":     "prefix boundary",
	"mp-boundary-long":       "prefix boundary",
	"nested-200":             "prefix boundary: b1 takes the lines of b10 and b101",
	// RFC 2045 section 5.2: without a usable boundary it is not a multipart but text.
	"ctype-06": "text", "ctype-07": "text", "ctype-08": "text",
	// RFC 2046 section 5.1.1: the line end before the boundary is no content, here as elsewhere.
	"rfc822-base64": "a message without a blank line",
	// RFC 9051 section 9, media-message: message/global holds a message.
	"global": "message/global",
}

func TestSectionsAreThoseOfTheReferenceServer(t *testing.T) {
	for name, want := range fixtures(t) {
		raw := fixture(t, name)
		whole := crlf(raw)
		sent := bytes.ReplaceAll(whole, []byte{0}, []byte{0x80})
		parts := scan(raw, Limits{})
		if got := parts[0].Body.End(); got != want.Size {
			t.Errorf("%s: size %d, want %d", name, got, want.Size)
		}
		if _, ok := departures[name]; ok {
			continue
		}
		if got := numbered(parts); got != want.Count {
			t.Errorf("%s: %d parts, want %d", name, got, want.Count)
		}
		check := func(spec string, r json.RawMessage) {
			var a answer
			if err := json.Unmarshal(r, &a); err != nil || a.Len == nil {
				return
			}
			rg := section(parts, spec)
			data := sent[rg.Off:rg.End()]
			sum := sha256.Sum256(data)
			if len(data) != *a.Len || hex.EncodeToString(sum[:])[:32] != a.SHA256 {
				t.Errorf("%s: BODY[%s] is %.100q (%d bytes), want %d bytes: %s", name, spec, data, len(data), *a.Len, r)
			}
		}
		for item, r := range want.Fetch {
			spec, ok := strings.CutPrefix(item, "BODY.PEEK[")
			if ok && strings.HasSuffix(spec, "]") && !strings.Contains(spec, "FIELDS") {
				check(strings.TrimSuffix(spec, "]"), r)
			}
		}
		for n, items := range want.Parts {
			for item, r := range items {
				if spec, ok := strings.CutPrefix(item, "BODY[n"); ok && strings.HasSuffix(spec, "]") {
					check(n+strings.TrimSuffix(spec, "]"), r)
				}
			}
		}
	}
}

func TestScanIsTheSameInAnyPieces(t *testing.T) {
	for name := range fixtures(t) {
		raw := fixture(t, name)
		if len(raw) > 20_000 {
			continue
		}
		want := AppendParts(nil, scan(raw, Limits{}))
		for _, step := range []int{1, 2, 3, 7} {
			s := NewScanner(Limits{})
			for b := raw; len(b) > 0; b = b[min(step, len(b)):] {
				s.Write(b[:min(step, len(b))])
			}
			if got := AppendParts(nil, s.Finish()); !bytes.Equal(got, want) {
				t.Errorf("%s in pieces of %d gives other parts", name, step)
			}
		}
		if got := AppendParts(nil, scan(crlf(raw), Limits{})); !bytes.Equal(got, want) {
			t.Errorf("%s with CRLF gives other parts", name)
		}
	}
}

func TestPrefixIsNoBoundary(t *testing.T) {
	parts := scan(fixture(t, "mp-text-after-boundary"), Limits{})
	text := crlf(fixture(t, "mp-text-after-boundary"))
	var got []string
	for _, p := range parts[1:] {
		got = append(got, string(text[p.Body.Off:p.Body.End()]))
	}
	want := []string{"one\r\n--X--abc\r\nepi", "after final\r\n"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("parts %q, want %q", got, want)
	}
}

func TestLinesAreThoseOfTheBody(t *testing.T) {
	for msg, want := range map[string]int64{
		"":                      0,
		"A: b":                  0,
		"A: b\n\n":              0,
		"A: b\n\none":           0,
		"A: b\n\none\n":         1,
		"A: b\r\n\r\none\n\r\n": 2,
	} {
		if got := scan([]byte(msg), Limits{})[0].Lines; got != want {
			t.Errorf("%q has %d lines, want %d", msg, got, want)
		}
	}
	parts := scan([]byte("Content-Type: multipart/mixed; boundary=x\n\n--x\n\na\nb\n--x\n\n\n--x--\n"), Limits{})
	if parts[1].Lines != 1 || parts[2].Lines != 0 {
		t.Errorf("parts have %d and %d lines, want 1 and 0", parts[1].Lines, parts[2].Lines)
	}
}

func TestLimitsKeepTheRestReadable(t *testing.T) {
	nested := func(n int) []byte {
		var b bytes.Buffer
		for i := range n {
			b.WriteString("Content-Type: multipart/mixed; boundary=b" + strconv.Itoa(i) + "\n\n--b" + strconv.Itoa(i) + "\n")
		}
		b.WriteString("\ndeep\n")
		return b.Bytes()
	}
	parts := scan(nested(500), Limits{})
	last := parts[len(parts)-1]
	if len(parts) != 100 || last.Type != "application" || last.Kind != Leaf {
		t.Errorf("500 levels gave %d parts, the last %s/%s", len(parts), last.Type, last.Subtype)
	}
	if size := int64(len(crlf(nested(500)))); last.Body.End() != size {
		t.Errorf("the last part ends at %d of %d", last.Body.End(), size)
	}

	messages := bytes.Repeat([]byte("Content-Type: message/rfc822\n\n"), 500)
	if parts := scan(messages, Limits{Depth: 20}); len(parts) != 20 || parts[19].Kind != Leaf {
		t.Errorf("500 messages gave %d parts", len(parts))
	}

	many := []byte("Content-Type: multipart/digest; boundary=x\n\n" + strings.Repeat("--x\n\nA: b\n\nc\n", 3000) + "--x--\n")
	if parts := scan(many, Limits{Parts: 1000}); len(parts) > 1001 {
		t.Errorf("3000 messages gave %d parts, want 1000", len(parts))
	}

	long := []byte("Subject: x\nX: " + strings.Repeat("y", 5000) + "\nContent-Type: text/html\n\nbody\n")
	s := NewScanner(Limits{Header: 1000})
	s.Write(long)
	p := s.Finish()[0]
	if p.Subtype != "plain" || p.Body.Len != 6 || len(s.Header()) != 1000 {
		t.Errorf("a long header gave %s/%s, a body of %d, %d bytes of header", p.Type, p.Subtype, p.Body.Len, len(s.Header()))
	}
}

func TestNULIsNoted(t *testing.T) {
	parts := scan(fixture(t, "cte-8bit-binary"), Limits{})
	if !parts[0].NUL || parts[1].NUL || !parts[2].NUL {
		t.Errorf("NUL is noted as %v %v %v, want true false true", parts[0].NUL, parts[1].NUL, parts[2].NUL)
	}
}

// checkParts is what holds for the parts of any bytes.
func checkParts(t *testing.T, parts []Part, size int64) {
	t.Helper()
	if parts[0].Header.Off != 0 || parts[0].Body.End() != size {
		t.Fatalf("the message is %v %v, its size %d", parts[0].Header, parts[0].Body, size)
	}
	for i, p := range parts {
		if p.Header.Len < 0 || p.Body.Len < 0 || p.Body.Off != p.Header.End() || p.Lines < 0 || p.Lines > p.Body.Len {
			t.Fatalf("part %d is %+v", i, p)
		}
		if (p.Kind == Leaf) != (p.First == 0) {
			t.Fatalf("part %d of kind %d has child %d", i, p.Kind, p.First)
		}
		before := p.Body.Off
		for c := p.First; c != 0; c = parts[c].Next {
			q := parts[c]
			if int(c) <= i || q.Header.Off < before || q.Body.End() > p.Body.End() {
				t.Fatalf("part %d %v %v lies outside of part %d %v or before its sibling", c, q.Header, q.Body, i, p.Body)
			}
			before = q.Body.End()
		}
	}
}

func FuzzScanner(f *testing.F) {
	for name := range fixtures(f) {
		if b := fixture(f, name); len(b) < 2000 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := NewScanner(Limits{Depth: 8, Parts: 50, Header: 500, Headers: 2000})
		s.Write(b)
		parts := s.Finish()
		if want := int64(len(crlf(b))); s.Size() != want {
			t.Fatalf("size %d, want %d", s.Size(), want)
		}
		checkParts(t, parts, s.Size())
		note := AppendParts(nil, parts)
		back, err := DecodeParts(note)
		if err != nil {
			t.Fatalf("decode: %v", err)
		}
		if !bytes.Equal(AppendParts(nil, back), note) {
			t.Fatal("encoding what was decoded gives another note")
		}
		checkParts(t, back, s.Size())
		// The same in two pieces, cut anywhere.
		s2 := NewScanner(Limits{Depth: 8, Parts: 50, Header: 500, Headers: 2000})
		s2.Write(b[:len(b)/2])
		s2.Write(b[len(b)/2:])
		if !bytes.Equal(AppendParts(nil, s2.Finish()), note) {
			t.Fatal("in two pieces the parts are others")
		}
	})
}
