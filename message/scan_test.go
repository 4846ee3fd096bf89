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
