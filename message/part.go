package message

import (
	"encoding/binary"
	"errors"
)

// Range is a run of bytes in a message, counted as if every line ended in CRLF.
type Range struct{ Off, Len int64 }

// End is the offset behind the last byte.
func (r Range) End() int64 { return r.Off + r.Len }

// Kind says what a part's body is made of.
type Kind uint8

const (
	Leaf      Kind = iota // content
	Multipart             // parts between boundaries, at least one
	Message               // one whole message (message/rfc822, message/global): its one child
)

// A Part is one MIME entity. The parts of a message are a flat list in the order
// of their headers: the first is the message itself, and First and Next are
// indexes into that list, 0 for none.
type Part struct {
	Header Range // with the blank line that ends it
	Body   Range // begins where Header ends
	Lines  int64 // line ends in Body

	Kind     Kind
	Encoding Encoding
	NUL      bool // a NUL byte in Header or Body

	Type, Subtype string // in small letters
	Charset       string // of text, as written; "" when not said

	First, Next int32

	// Info is what the header says, for a part that was just scanned; nil for a
	// decoded one.
	Info *Info
}

// Find follows the numbers of a section specification (RFC 9051 section 6.4.5.1)
// and gives the part's index. An empty path is the message itself.
//
// The one part of a body that is not multipart is number 1. A leaf inside a
// multipart answers to a further 1 as well, as it does in Dovecot.
func Find(parts []Part, path []uint32) (int, bool) {
	at, outer := int32(0), true // outer: the body of at is not entered by a number yet
	for i, n := range path {
		p := &parts[at]
		if p.Kind == Message && !outer {
			at, outer = p.First, true
			p = &parts[at]
		}
		switch {
		case p.Kind == Multipart:
			at = child(parts, p, n)
			if at == 0 {
				return 0, false
			}
			outer = false
		case n != 1:
			return 0, false
		case outer:
			if p.Kind == Leaf && i < len(path)-1 {
				return 0, false
			}
			outer = false
		case i < len(path)-1:
			return 0, false
		}
	}
	return int(at), true
}

func child(parts []Part, p *Part, n uint32) int32 {
	at := p.First
	for ; n > 1 && at != 0; n-- {
		at = parts[at].Next
	}
	if n == 0 {
		return 0
	}
	return at
}

/*
The compact form, all numbers as unsigned varints:

	version   1 byte
	count     of parts, then for each, in order:
	flags     kind, encoding<<2, NUL<<5, has-type<<6
	children  only of a Multipart
	header    its offset less that of the part before
	length    of the header
	length    of the body
	lines
	type, subtype, charset   only with has-type; each a length and bytes.
	                         Without it the part is text/plain, no charset.
*/
const partsVersion = 1

var errParts = errors.New("not a list of parts")

// AppendParts appends the compact form of parts, Info left out.
func AppendParts(dst []byte, parts []Part) []byte {
	dst = append(dst, partsVersion)
	dst = binary.AppendUvarint(dst, uint64(len(parts)))
	var before int64
	for i := range parts {
		p := &parts[i]
		plain := p.Type == "text" && p.Subtype == "plain" && p.Charset == ""
		flags := byte(p.Kind) | byte(p.Encoding)<<2
		if p.NUL {
			flags |= 1 << 5
		}
		if !plain {
			flags |= 1 << 6
		}
		dst = append(dst, flags)
		if p.Kind == Multipart {
			n := uint64(0)
			for c := p.First; c != 0; c = parts[c].Next {
				n++
			}
			dst = binary.AppendUvarint(dst, n)
		}
		dst = binary.AppendUvarint(dst, uint64(p.Header.Off-before))
		dst = binary.AppendUvarint(dst, uint64(p.Header.Len))
		dst = binary.AppendUvarint(dst, uint64(p.Body.Len))
		dst = binary.AppendUvarint(dst, uint64(p.Lines))
		if !plain {
			for _, s := range []string{p.Type, p.Subtype, p.Charset} {
				dst = binary.AppendUvarint(dst, uint64(len(s)))
				dst = append(dst, s...)
			}
		}
		before = p.Header.Off
	}
	return dst
}

// DecodeParts reads what AppendParts wrote. Every range it gives lies within the
// first part, and every child within its parent.
func DecodeParts(b []byte) ([]Part, error) {
	d := partsDecoder{b: b}
	if d.byte() != partsVersion {
		return nil, errParts
	}
	n := d.uint()
	// A part takes five bytes or more, so a count cannot make us allocate without end.
	if d.bad || n == 0 || n > uint64(len(b))/5+1 {
		return nil, errParts
	}
	parts := make([]Part, 0, n)
	var open []openList
	var before int64
	for range n {
		p, children := d.part(before)
		if d.bad {
			return nil, errParts
		}
		at := int32(len(parts))
		parts = append(parts, p)
		before = p.Header.Off
		if at > 0 {
			if len(open) == 0 {
				return nil, errParts
			}
			top := &open[len(open)-1]
			outer := &parts[top.parent]
			if p.Header.Off < outer.Body.Off || p.Body.End() > outer.Body.End() {
				return nil, errParts
			}
			if top.last == 0 {
				outer.First = at
			} else {
				parts[top.last].Next = at
			}
			top.last = at
			if top.left--; top.left == 0 {
				open = open[:len(open)-1]
			}
		}
		if children > 0 {
			open = append(open, openList{parent: at, left: children})
		}
	}
	if len(open) > 0 || len(d.b) > 0 {
		return nil, errParts
	}
	return parts, nil
}

// openList is a parent whose children are still to come.
type openList struct {
	parent, last int32
	left         uint64
}

type partsDecoder struct {
	b   []byte
	bad bool
}

func (d *partsDecoder) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *partsDecoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > 1<<56 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *partsDecoder) string() string {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.bad = true
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

// part reads one part; before is where the header of the last one began.
func (d *partsDecoder) part(before int64) (p Part, children uint64) {
	flags := d.byte()
	p.Kind, p.Encoding, p.NUL = Kind(flags&3), Encoding(flags>>2&7), flags&(1<<5) != 0
	if p.Kind > Message || p.Encoding > EncodingUnknown || flags&(1<<7) != 0 {
		d.bad = true
	}
	switch p.Kind {
	case Multipart:
		if children = d.uint(); children == 0 {
			d.bad = true
		}
	case Message:
		children = 1
	}
	p.Header.Off = before + int64(d.uint())
	p.Header.Len = int64(d.uint())
	p.Body = Range{p.Header.End(), int64(d.uint())}
	p.Lines = int64(d.uint())
	if p.Body.End() < 0 {
		d.bad = true
	}
	p.Type, p.Subtype = "text", "plain"
	if flags&(1<<6) != 0 {
		p.Type, p.Subtype, p.Charset = d.string(), d.string(), d.string()
	}
	return p, children
}
