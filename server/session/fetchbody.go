package session

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"roost/message"
	"roost/server/wire"
)

// sectionText is the last specifier of a section.
type sectionText uint8

const (
	textWhole     sectionText = iota // none: the whole message or part
	textHeader                       // HEADER
	textFields                       // HEADER.FIELDS
	textNotFields                    // HEADER.FIELDS.NOT
	textBody                         // TEXT
	textMIME                         // MIME
)

// section is what stands in the brackets of BODY[...] and BINARY[...]
// (RFC 9051 section 6.4.5.1).
type section struct {
	path   []uint32
	text   sectionText
	fields []string
	names  message.FieldNames // the same, to look for
	kept   bool               // noteFields answers it
}

// maxPath is deeper than any part that the scanner makes.
const maxPath = 256

// partial is <off.n>.
type partial struct {
	set    bool
	off, n int64
}

// clip is what of size bytes is asked for.
func (p partial) clip(size int64) (off, n int64) {
	if !p.set {
		return 0, size
	}
	off = min(p.off, size)
	return off, min(p.n, size-off)
}

// parseSection reads a section from spec, which is what of it stands in the atom
// of the item, and from lex, where the list of field names follows it.
func parseSection(lex *wire.Lexer, spec string) (section, error) {
	var sec section
	for spec != "" && '0' <= spec[0] && spec[0] <= '9' {
		number, rest, more := strings.Cut(spec, ".")
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil || n == 0 || more && rest == "" {
			return sec, lex.Unexpected("a part number")
		}
		if len(sec.path) == maxPath {
			return sec, bad("No message has parts as deep as that")
		}
		sec.path, spec = append(sec.path, uint32(n)), rest
	}
	switch strings.ToUpper(spec) {
	case "":
	case "HEADER":
		sec.text = textHeader
	case "TEXT":
		sec.text = textBody
	case "MIME":
		if len(sec.path) == 0 {
			return sec, bad("MIME needs the number of a part before it")
		}
		sec.text = textMIME
	case "HEADER.FIELDS", "HEADER.FIELDS.NOT":
		sec.text = textFields
		if len(spec) > len("HEADER.FIELDS") {
			sec.text = textNotFields
		}
		if err := lex.SP(); err != nil {
			return sec, err
		}
		err := lex.List(func() error {
			name, err := lex.AString()
			sec.fields = append(sec.fields, name)
			return err
		})
		if err != nil {
			return sec, err
		}
		if len(sec.fields) == 0 {
			return sec, lex.Unexpected("the name of a header field")
		}
		sec.names = message.NewFieldNames(sec.fields...)
		sec.kept = sec.text == textFields && len(sec.path) == 0 && allKept(sec.fields)
	default:
		return sec, bad("Unknown section %s", shown(spec))
	}
	return sec, nil
}

// parsePartial reads <off.n> where it stands next.
func parsePartial(lex *wire.Lexer) (partial, error) {
	if c, err := lex.Peek(); err != nil || c != '<' {
		return partial{}, err
	}
	atom, err := lex.Atom()
	if err != nil {
		return partial{}, err
	}
	a, b, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(atom, "<"), ">"), ".")
	off, err1 := strconv.ParseInt(a, 10, 64)
	n, err2 := strconv.ParseInt(b, 10, 64)
	if !ok || err1 != nil || err2 != nil || off < 0 || n <= 0 || !strings.HasSuffix(atom, ">") {
		return partial{}, bad("A partial fetch is written <offset.length>, not %s", shown(atom))
	}
	return partial{true, off, n}, nil
}

// write writes the section as a response names it: what was asked, and of a
// partial only where it begins (RFC 9051 section 7.5.2).
func (sec section) write(enc *wire.Encoder, p partial) {
	enc.Raw("[")
	for i, n := range sec.path {
		if i > 0 {
			enc.Raw(".")
		}
		enc.Number(uint64(n))
	}
	if len(sec.path) > 0 && sec.text != textWhole {
		enc.Raw(".")
	}
	enc.Raw([...]string{"", "HEADER", "HEADER.FIELDS (", "HEADER.FIELDS.NOT (", "TEXT", "MIME"}[sec.text])
	if sec.fields != nil {
		for i, f := range sec.fields {
			if i > 0 {
				enc.SP()
			}
			enc.AString(f)
		}
		enc.Raw(")")
	}
	enc.Raw("]")
	if p.set {
		enc.Raw("<").Number(uint64(p.off)).Raw(">")
	}
}

// byHeader tells whether the header of the message is all that the section needs.
func (sec section) byHeader() bool {
	return len(sec.path) == 0 && (sec.text == textHeader || sec.text == textFields || sec.text == textNotFields)
}

// find gives the bytes that the section is cut from: itself, or the header whose
// fields are chosen. What does not exist is empty, as other servers answer it.
func (sec section) find(parts []message.Part) message.Range {
	at, ok := message.Find(parts, sec.path)
	if !ok {
		return message.Range{}
	}
	p := &parts[at]
	if len(sec.path) > 0 {
		switch {
		case sec.text == textWhole:
			return p.Body
		case sec.text == textMIME:
			return p.Header
		case p.Kind != message.Message:
			return message.Range{}
		}
		p = &parts[p.First]
	}
	switch sec.text {
	case textWhole:
		return message.Range{Off: 0, Len: p.Body.End()}
	case textBody:
		return p.Body
	}
	return p.Header
}

// headerLimit is how much of a header fields are chosen from.
const headerLimit = 1 << 20

// writeSection writes the literal of one section of an opened message. An error
// of the stream stays in enc; one that is returned is the message's, and then
// NIL was written.
func (m *opened) writeSection(enc *wire.Encoder, sec section, p partial) error {
	if sec.byHeader() && m.header != nil {
		writeBytes(enc, sec.choose(nil, m.header), p)
		return nil
	}
	r := message.Range{Len: m.size}
	if sec.text != textWhole || len(sec.path) > 0 {
		r = sec.find(m.parts)
	}
	if sec.fields != nil {
		var header collector
		if _, err := m.WriteRange(&header, r.Off, min(r.Len, headerLimit)); err != nil {
			enc.Raw("NIL")
			return err
		}
		if r.Len > 0 || len(sec.path) == 0 {
			header = sec.choose(nil, header)
		}
		writeBytes(enc, header, p)
		return nil
	}
	off, n := p.clip(r.Len)
	enc.Literal(n, func(w io.Writer) error {
		_, err := m.WriteRange(w, r.Off+off, n)
		return err
	})
	return nil
}

// choose is what the section has of a header, in buf or in the header itself.
func (sec *section) choose(buf, header []byte) []byte {
	if sec.fields == nil {
		return header
	}
	return message.AppendFields(buf[:0], header, sec.names, sec.text == textNotFields)
}

func writeBytes(enc *wire.Encoder, b []byte, p partial) {
	off, n := p.clip(int64(len(b)))
	enc.LiteralBytes(b[off : off+n])
}

// errHeaderLong says that a header does not end within what is read of it.
var errHeaderLong = errors.New("header is longer than what is read at once")

// headBytes is how much of a message is read at first for its header.
const headBytes = 8 << 10

var headPool = sync.Pool{New: func() any { return new([headBytes]byte) }}

// readHeader reads the header of a message up to the blank line that ends it, or
// the end of the message, into head where there is room.
func readHeader(r io.ReaderAt, head *[headBytes]byte) ([]byte, error) {
	header := head[:0]
	for size := int64(headBytes); ; size *= 4 {
		size = min(size, headerLimit)
		have := int64(len(header))
		header = slices.Grow(header, int(size-have))[:size]
		n, err := r.ReadAt(header[have:], have)
		header = header[:have+int64(n)]
		if end := headerEnd(header); end >= 0 {
			return header[:end:end], nil
		}
		switch {
		case err == io.EOF:
			return header, nil
		case err != nil:
			return nil, fmt.Errorf("read header: %w", err)
		case size == headerLimit:
			return header, errHeaderLong
		}
	}
}

// headerEnd finds the end of the blank line, -1 where there is none.
func headerEnd(b []byte) int {
	if bytes.HasPrefix(b, []byte("\r\n")) {
		return 2
	}
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		return i + 4
	}
	return -1
}
