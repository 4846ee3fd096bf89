package message

import (
	"bytes"
	"strings"
)

// Limits bound what a Scanner takes apart; what lies beyond stays reachable as
// part of the body around it. 0 is the default.
type Limits struct {
	Depth   int // entities inside each other; 100
	Parts   int // entities in all; 10,000
	Header  int // bytes of one header that are read; 1 MiB
	Headers int // bytes of all headers that are read; 4 MiB
}

func (l Limits) orDefault() Limits {
	for _, v := range []struct {
		p *int
		n int
	}{{&l.Depth, 100}, {&l.Parts, 10_000}, {&l.Header, 1 << 20}, {&l.Headers, 4 << 20}} {
		if *v.p <= 0 {
			*v.p = v.n
		}
	}
	return l
}

// maxBoundary is the longest boundary that is looked for. RFC 2046 section 5.1.1
// allows 70 bytes; some programs write more, and a line of mail has 998.
const maxBoundary = 990

// A Scanner finds the parts of a message that is written to it, in one pass and
// without holding it. Lines may end in LF or CRLF, mixed as they like.
//
// A boundary is a line that starts with two dashes and the boundary parameter of
// an open multipart, the innermost first, with nothing but blanks behind it
// (RFC 2046 section 5.1.1). A multipart without boundary parameter is text/plain, as
// is every other content type that cannot be parsed (RFC 2045 section 5.2). Entities
// beyond the limits are application/octet-stream.
type Scanner struct {
	// Lean, to be set before the first Write, is for who wants no more than the compact form
	// of the parts holds: there are no Envelopes, and there is no Header.
	Lean bool

	limits Limits
	parts  []Part
	open   []entity // from the message itself to the innermost entity that has not ended

	off       int64 // of the next byte
	lines     int64 // line ends so far
	lineStart int64 // offset of the current line
	lineBytes int   // of the current line so far, up to its end; what they are stands in line
	line      []byte
	cr        bool // the last byte was a CR
	watched   int  // open multiparts whose boundary may still come

	afterDelimiter bool // the line before was a boundary

	inHeader bool
	head     []byte // of the innermost entity, with CRLF
	spent    int    // bytes of the headers before it
	top      []byte // the message's own header
	done     bool
}

// entity is a part that has not ended yet.
type entity struct {
	at        int32 // its index
	last      int32 // the newest child's
	bodyLines int64 // line ends before its body
	boundary  string
	digest    bool // its parts are messages unless they say otherwise
	message   bool // what is in it is the body of a message: its header makes an envelope
}

// NewScanner makes a scanner for one message.
func NewScanner(l Limits) *Scanner {
	s := &Scanner{limits: l.orDefault(), inHeader: true, head: make([]byte, 0, 2<<10)}
	s.parts = make([]Part, 1, 4)
	s.open = append(s.open, entity{message: true})
	return s
}

// Reset makes the scanner ready for another message. Parts that it gave are of no use then.
func (s *Scanner) Reset() {
	*s = Scanner{Lean: s.Lean, limits: s.limits, inHeader: true, parts: append(s.parts[:0], Part{}), open: append(s.open[:0], entity{message: true}), line: s.line[:0], head: s.head[:0]}
}

// Write takes the next bytes of the message. It never fails.
func (s *Scanner) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if !s.inHeader && s.watched == 0 {
			s.skip(p)
			break
		}
		if k := s.linesBeforeBoundary(p); k > 0 {
			s.skip(p[:k])
			s.afterDelimiter = false
			s.nextLine()
			p = p[k:]
			continue
		}
		end := bytes.IndexByte(p, '\n') + 1
		if end == 0 {
			s.take(p)
			break
		}
		s.take(p[:end])
		s.endLine()
		p = p[end:]
	}
	return n, nil
}

// linesBeforeBoundary gives the length of whole lines of a body at the start of p of which
// none can be a boundary; 0 where that is not so.
func (s *Scanner) linesBeforeBoundary(p []byte) int {
	if s.inHeader || s.lineBytes > 0 || s.cr || p[0] == '-' {
		return 0
	}
	if i := bytes.Index(p, []byte("\n--")); i >= 0 {
		return i + 1
	}
	return bytes.LastIndexByte(p, '\n') + 1
}

// skip counts bytes in which no boundary matters.
func (s *Scanner) skip(p []byte) {
	lf := bytes.Count(p, []byte{'\n'})
	bare := lf - bytes.Count(p, []byte("\r\n"))
	if s.cr && p[0] == '\n' {
		bare--
	}
	s.noteNUL(p)
	s.cr = p[len(p)-1] == '\r'
	s.off += int64(len(p) + bare)
	s.lines += int64(lf)
}

func (s *Scanner) noteNUL(p []byte) {
	part := &s.parts[s.open[len(s.open)-1].at]
	if !part.NUL && bytes.IndexByte(p, 0) >= 0 {
		part.NUL = true
	}
}

// take adds a piece of the current line, which may hold its line end.
func (s *Scanner) take(p []byte) {
	s.noteNUL(p)
	n := len(p)
	eol := p[n-1] == '\n'
	if eol {
		bare := n == 1 && !s.cr || n > 1 && p[n-2] != '\r'
		s.cr = false
		if s.inHeader {
			s.takeHeader(p[:n-1])
			if bare {
				s.takeHeader([]byte("\r\n"))
			} else {
				s.takeHeader([]byte("\n"))
			}
		}
		s.off += int64(n)
		if bare {
			s.off++
		}
		p = p[:n-1]
	} else {
		s.cr = p[n-1] == '\r'
		if s.inHeader {
			s.takeHeader(p)
		}
		s.off += int64(n)
	}
	s.lineBytes += len(p)
	if room := maxBoundary + 32 - len(s.line); room > 0 {
		s.line = append(s.line, p[:min(room, len(p))]...)
	}
}

func (s *Scanner) takeHeader(p []byte) {
	room := min(s.limits.Header-len(s.head), s.limits.Headers-s.spent-len(s.head))
	if room > 0 {
		s.head = append(s.head, p[:min(room, len(p))]...)
	}
}

// endLine decides what the line was that just ended.
func (s *Scanner) endLine() {
	s.lines++
	delimiter := s.delimiter()
	if !delimiter && s.inHeader {
		if s.lineBytes == 0 || s.lineBytes == 1 && s.line[0] == '\r' {
			s.endHeader(s.off)
		}
	}
	s.afterDelimiter = delimiter
	s.nextLine()
}

func (s *Scanner) nextLine() {
	s.lineStart, s.lineBytes, s.line = s.off, 0, s.line[:0]
}

// delimiter handles the current line if it is a boundary.
func (s *Scanner) delimiter() bool {
	if s.watched == 0 || len(s.line) < 2 || s.line[0] != '-' || s.line[1] != '-' {
		return false
	}
	text := bytes.TrimRight(s.line[2:], " \t\r")
	if s.lineBytes > len(s.line) {
		return false
	}
	for level := len(s.open) - 1; level >= 0; level-- {
		b := s.open[level].boundary
		if b == "" || !bytes.HasPrefix(text, []byte(b)) {
			continue
		}
		rest := string(text[len(b):])
		last := rest == "--"
		if rest != "" && !last {
			continue
		}
		if !last && len(s.parts) >= s.limits.Parts {
			return false
		}
		// The line end before a boundary belongs to it (RFC 2046 section 5.1.1), unless it
		// is that of another boundary: Dovecot's way, so that BODY[n] keeps its hash.
		if s.afterDelimiter {
			s.closeTo(level+1, s.lineStart, 1)
		} else {
			s.closeTo(level+1, s.lineStart-2, 2)
		}
		if last {
			s.open[level].boundary = ""
			s.watched--
		} else {
			s.begin(level, s.off)
		}
		return true
	}
	return false
}

// begin opens a new part inside the entity at level; its header begins at off.
func (s *Scanner) begin(level int, off int64) {
	outer := &s.open[level]
	at := int32(len(s.parts))
	s.parts = append(s.parts, Part{Header: Range{Off: off}})
	if outer.last == 0 {
		s.parts[outer.at].First = at
	} else {
		s.parts[outer.last].Next = at
	}
	outer.last = at
	s.open = append(s.open, entity{at: at, message: s.parts[outer.at].Kind == Message})
	s.inHeader = true
}

// endHeader makes of the innermost entity what its header says; its body begins
// at off.
func (s *Scanner) endHeader(off int64) {
	s.inHeader = false
	e := &s.open[len(s.open)-1]
	p := &s.parts[e.at]
	p.Header.Len = off - p.Header.Off
	p.Body.Off = off
	e.bodyLines = s.lines

	digest := len(s.open) > 1 && s.open[len(s.open)-2].digest
	info, boundary := parseInfo(s.head, digest)
	if e.message && !s.Lean {
		info.Envelope = ParseEnvelope(s.head)
	}
	s.spent += len(s.head)
	if len(s.open) == 1 && !s.Lean {
		s.top, s.head = s.head, nil
	} else {
		s.head = s.head[:0]
	}

	p.Info = info
	switch {
	case strings.EqualFold(info.Type, "multipart"):
		p.Kind = Multipart
	case isMessage(info.Type, info.Subtype):
		p.Kind = Message
	}
	if p.Kind != Leaf && (len(s.open) >= s.limits.Depth || len(s.parts) >= s.limits.Parts) {
		p.Kind = Leaf
		info.Type, info.Subtype, info.Params = "application", "octet-stream", nil
	}
	p.Type, p.Subtype = strings.ToLower(info.Type), strings.ToLower(info.Subtype)
	p.Encoding = parseEncoding(info.Encoding)
	if p.Type == "text" {
		p.Charset = info.charset()
	}
	switch p.Kind {
	case Multipart:
		e.boundary = boundary
		e.digest = p.Subtype == "digest"
		s.watched++
	case Message:
		s.begin(len(s.open)-1, off)
	}
}

// closeTo ends all entities from level on. Their last byte is the one before end;
// over is how many of the line ends so far lie behind that.
func (s *Scanner) closeTo(level int, end, over int64) {
	for len(s.open) > level {
		if s.inHeader {
			// Of a message it opens the message inside, which ends here too.
			s.endHeader(s.lineStart)
			continue
		}
		e := s.open[len(s.open)-1]
		s.open = s.open[:len(s.open)-1]
		if e.boundary != "" {
			s.watched--
		}
		p := &s.parts[e.at]
		p.Lines = max(s.lines-e.bodyLines-over, 0)
		p.Header.Off = min(p.Header.Off, end)
		p.Header.Len = min(p.Header.Len, end-p.Header.Off)
		p.Body.Off = p.Header.End()
		p.Body.Len = end - p.Body.Off
		if p.Kind == Multipart && p.First == 0 {
			s.invent(e.at, end)
		}
		if p := &s.parts[e.at]; p.NUL && len(s.open) > 0 {
			s.parts[s.open[len(s.open)-1].at].NUL = true
		}
	}
}

// invent gives a multipart without any boundary line the one part that
// BODYSTRUCTURE must show (RFC 9051 section 9, body-type-mpart): an empty text.
func (s *Scanner) invent(parent int32, at int64) {
	s.parts[parent].First = int32(len(s.parts))
	info, _ := parseInfo(nil, false)
	s.parts = append(s.parts, Part{
		Header: Range{Off: at}, Body: Range{Off: at},
		Type: "text", Subtype: "plain", Info: info,
	})
}

// Finish ends the message and gives its parts, the message itself first.
func (s *Scanner) Finish() []Part {
	if s.done {
		return s.parts
	}
	s.done = true
	if s.lineBytes > 0 {
		s.lines++ // as if the line had ended: a boundary may be the last thing in the file
		if !s.delimiter() {
			s.lines--
		}
	}
	s.lineStart = s.off
	s.closeTo(0, s.off, 0)
	return s.parts
}

// Size is the length of what was written, with every line end as CRLF.
func (s *Scanner) Size() int64 { return s.off }

// Header is the message's own header as it was written, its line ends as CRLF,
// and at most Limits.Header bytes of it. Good after Finish.
func (s *Scanner) Header() []byte { return s.top }
