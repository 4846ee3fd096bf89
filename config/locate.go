package config

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Pos is a place in the file: line and column count from 1, columns in
// characters. The zero Pos is nowhere.
type Pos struct{ Line, Col int }

// place is where a key and its value stand.
type place struct{ key, value Pos }

// locate finds the places of all keys and values of a TOML document: TOML's own
// decoder has no places for keys that nobody asked for. Keys are paths:
// "tls.cert", "listen[1].address", "limits.trusted_networks[0]"; the first
// place of a path counts. It is total: of a document that is not TOML it finds
// something, without meaning, in linear time.
func locate(doc string) map[string]place {
	s := &scanner{doc: doc, line: 1, places: map[string]place{}, count: map[string]int{}}
	prefix := ""
	for {
		s.blank(true)
		start := s.off
		switch {
		case s.off >= len(s.doc):
			return s.places
		case strings.HasPrefix(s.rest(), "[["):
			s.skip(2)
			prefix = s.header(true)
			s.toLineEnd()
		case s.rest()[0] == '[':
			s.skip(1)
			prefix = s.header(false)
			s.toLineEnd()
		default:
			s.pair(prefix)
			s.toLineEnd()
		}
		if s.off == start { // nothing that TOML knows: go on behind it
			s.skip(1)
		}
	}
}

// depthLimit ends the descent into arrays and inline tables.
const depthLimit = 100

// scanner walks over a document.
type scanner struct {
	doc    string
	off    int
	line   int
	bol    int // offset of the line's first byte
	col    int // column of colOff, so that long lines are counted once
	colOff int
	depth  int
	places map[string]place
	count  map[string]int // elements of each array of tables so far
}

func (s *scanner) rest() string { return s.doc[s.off:] }

// skip moves over n bytes and counts the lines.
func (s *scanner) skip(n int) {
	for range min(n, len(s.doc)-s.off) {
		if s.doc[s.off] == '\n' {
			s.line++
			s.bol = s.off + 1
		}
		s.off++
	}
}

// pos is the place of the next byte.
func (s *scanner) pos() Pos {
	if s.colOff < s.bol {
		s.col, s.colOff = 1, s.bol
	}
	if s.col == 0 {
		s.col = 1
	}
	s.col += utf8.RuneCountInString(s.doc[s.colOff:s.off])
	s.colOff = s.off
	return Pos{s.line, s.col}
}

// blank skips blanks, and with lines also ends of lines and comments.
func (s *scanner) blank(lines bool) {
	for s.off < len(s.doc) {
		switch c := s.doc[s.off]; {
		case c == ' ' || c == '\t' || c == '\r':
			s.skip(1)
		case lines && c == '\n':
			s.skip(1)
		case lines && c == '#':
			s.toLineEnd()
		default:
			return
		}
	}
}

// toLineEnd skips what is left of the line.
func (s *scanner) toLineEnd() {
	if i := strings.IndexByte(s.rest(), '\n'); i >= 0 {
		s.skip(i)
	} else {
		s.skip(len(s.rest()))
	}
}

// header reads the name of a table, or of an array's next element, and gives the
// path that its keys have.
func (s *scanner) header(array bool) string {
	s.blank(false)
	at := s.pos()
	parts := s.keyParts()
	path := ""
	for i, part := range parts {
		path = join(path, part)
		last := i == len(parts)-1
		if last && array {
			s.note(path, at, at)
			s.count[path]++
			path = fmt.Sprintf("%s[%d]", path, s.count[path]-1)
		} else if n := s.count[path]; n > 0 {
			path = fmt.Sprintf("%s[%d]", path, n-1) // a table below the newest element
		}
		s.note(path, at, at)
	}
	return path
}

// pair reads "key = value".
func (s *scanner) pair(prefix string) {
	at := s.pos()
	path := prefix
	parts := s.keyParts()
	if len(parts) == 0 {
		return
	}
	for _, part := range parts[:len(parts)-1] {
		path = join(path, part)
		s.note(path, at, at)
	}
	path = join(path, parts[len(parts)-1])
	s.blank(false)
	if !strings.HasPrefix(s.rest(), "=") {
		s.note(path, at, at)
		return
	}
	s.skip(1)
	s.blank(false)
	s.note(path, at, s.pos())
	s.value(path)
}

// value skips a value and notes what is in it.
func (s *scanner) value(path string) {
	rest := s.rest()
	switch {
	case rest == "":
	case s.depth == depthLimit:
		s.toLineEnd()
	case rest[0] == '[':
		s.depth++
		s.array(path)
		s.depth--
	case rest[0] == '{':
		s.depth++
		s.table(path)
		s.depth--
	case strings.HasPrefix(rest, `"""`), strings.HasPrefix(rest, "'''"):
		s.text(rest[:3])
	case rest[0] == '"', rest[0] == '\'':
		s.text(rest[:1])
	default:
		n := strings.IndexAny(rest, ",]}#\n")
		if n < 0 {
			n = len(rest)
		}
		s.skip(n)
	}
}

func (s *scanner) array(path string) {
	s.skip(1)
	for i := 0; ; i++ {
		s.blank(true)
		if rest := s.rest(); rest == "" || rest[0] == ']' {
			s.skip(1)
			return
		}
		start := s.off
		at := s.pos()
		element := fmt.Sprintf("%s[%d]", path, i)
		s.note(element, at, at)
		s.value(element)
		s.blank(true)
		if strings.HasPrefix(s.rest(), ",") {
			s.skip(1)
		}
		if s.off == start {
			return // not TOML
		}
	}
}

func (s *scanner) table(path string) {
	s.skip(1)
	for {
		s.blank(true)
		if rest := s.rest(); rest == "" || rest[0] == '}' {
			s.skip(1)
			return
		}
		start := s.off
		s.pair(path)
		s.blank(true)
		if strings.HasPrefix(s.rest(), ",") {
			s.skip(1)
		}
		if s.off == start {
			return // not TOML
		}
	}
}

// text skips a string that quote began, which is also what ends it.
func (s *scanner) text(quote string) {
	s.skip(len(quote))
	for s.off < len(s.doc) {
		rest := s.rest()
		switch {
		case rest[0] == '\\' && quote[0] == '"':
			s.skip(2)
		case strings.HasPrefix(rest, quote):
			s.skip(len(quote))
			// """a""" may end in up to two more quotes that belong to it.
			for len(quote) == 3 && strings.HasPrefix(s.rest(), quote[:1]) {
				s.skip(1)
			}
			return
		case rest[0] == '\n' && len(quote) == 1:
			return // not TOML
		default:
			s.skip(1)
		}
	}
}

// keyParts reads a dotted key.
func (s *scanner) keyParts() (parts []string) {
	for {
		s.blank(false)
		rest := s.rest()
		switch {
		case rest == "":
			return parts
		case rest[0] == '"' || rest[0] == '\'':
			start := s.off + 1
			s.text(rest[:1])
			if s.off-1 < start {
				return parts
			}
			part := s.doc[start : s.off-1]
			if rest[0] == '"' {
				part = unescape(part)
			}
			parts = append(parts, part)
		default:
			n := strings.IndexFunc(rest, func(r rune) bool { return !bare(r) })
			if n < 0 {
				n = len(rest)
			}
			if n == 0 {
				return parts
			}
			parts = append(parts, rest[:n])
			s.skip(n)
		}
		s.blank(false)
		if !strings.HasPrefix(s.rest(), ".") {
			return parts
		}
		s.skip(1)
	}
}

// note keeps the first place of a path.
func (s *scanner) note(path string, key, value Pos) {
	if _, ok := s.places[path]; !ok {
		s.places[path] = place{key, value}
	}
}

// bare reports whether r may stand in a key without quotes.
func bare(r rune) bool {
	return r == '_' || r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

// join adds a part to a path; parts that are not bare are quoted, as in TOML.
func join(path, part string) string {
	if part == "" || strings.ContainsFunc(part, func(r rune) bool { return !bare(r) }) {
		part = quote(part)
	}
	if path == "" {
		return part
	}
	return path + "." + part
}

// unescape undoes the escapes of a quoted key that make up a character; an
// unknown one stays.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		digits := 0
		switch s[i] {
		case 'b':
			b.WriteByte('\b')
		case 't':
			b.WriteByte('\t')
		case 'n':
			b.WriteByte('\n')
		case 'f':
			b.WriteByte('\f')
		case 'r':
			b.WriteByte('\r')
		case 'e':
			b.WriteByte(0x1b)
		case 'x':
			digits = 2
		case 'u':
			digits = 4
		case 'U':
			digits = 8
		default:
			b.WriteByte(s[i])
		}
		if digits > 0 && i+digits < len(s) {
			var r rune
			fmt.Sscanf(s[i+1:i+1+digits], "%x", &r)
			b.WriteRune(r)
			i += digits
		}
	}
	return b.String()
}

// withoutIndexes turns "listen[1].address" into "listen.address".
func withoutIndexes(path string) string {
	for {
		i := strings.IndexByte(path, '[')
		if i < 0 {
			return path
		}
		j := strings.IndexByte(path[i:], ']')
		if j < 0 {
			return path
		}
		path = path[:i] + path[i+j+1:]
	}
}
