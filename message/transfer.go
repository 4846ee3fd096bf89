package message

import (
	"io"
	"slices"
	"strings"
	"sync"
)

// Encoding is a Content-Transfer-Encoding (RFC 2045 section 6).
type Encoding uint8

const (
	Identity        Encoding = iota // 7bit, 8bit, binary
	Base64                          // RFC 2045 section 6.8
	QuotedPrintable                 // RFC 2045 section 6.7
	EncodingUnknown                 // any other; cannot be decoded
)

func parseEncoding(s string) Encoding {
	switch strings.ToLower(s) {
	case "", "7bit", "8bit", "binary":
		return Identity
	case "base64":
		return Base64
	case "quoted-printable":
		return QuotedPrintable
	}
	return EncodingUnknown
}

// NewDecoder gives a writer that decodes what is written to it and passes it on
// to w, in pieces; Close writes what is left and does not close w. Damaged input
// is no error: bytes that are not of the base64 alphabet are passed over, padding
// may be missing or stand in the middle, and a broken quoted-printable sequence
// stays as it is. An unknown encoding is passed on as it is.
func NewDecoder(e Encoding, w io.Writer) io.WriteCloser {
	switch e {
	case Base64:
		return &base64Decoder{w: w}
	case QuotedPrintable:
		return &qpDecoder{w: w}
	}
	return passing{w}
}

type passing struct{ io.Writer }

func (passing) Close() error { return nil }

// base64Values has 0x40 for bytes that are passed over, 0x80 for the padding.
var base64Values = func() (t [256]byte) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range t {
		t[i] = 0x40
	}
	for i := range len(alphabet) {
		t[alphabet[i]] = byte(i)
	}
	t['='] = 0x80
	return t
}()

// decoded are buffers for what one Write decodes.
var decoded = sync.Pool{New: func() any { return new([]byte) }}

type base64Decoder struct {
	w    io.Writer
	bits uint32
	n    int // sextets in bits
}

func (d *base64Decoder) Write(p []byte) (int, error) {
	buf := decoded.Get().(*[]byte)
	defer decoded.Put(buf)
	out := (*buf)[:0]
	bits, n := d.bits, d.n
	for _, c := range p {
		v := base64Values[c]
		if v >= 0x40 {
			if v == 0x80 {
				out = flushSextets(out, bits, n)
				bits, n = 0, 0
			}
			continue
		}
		bits = bits<<6 | uint32(v)
		if n++; n == 4 {
			out = append(out, byte(bits>>16), byte(bits>>8), byte(bits))
			bits, n = 0, 0
		}
	}
	d.bits, d.n, *buf = bits, n, out
	if len(out) > 0 {
		if _, err := d.w.Write(out); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// flushSextets gives the whole bytes of a quantum that ended early.
func flushSextets(out []byte, bits uint32, n int) []byte {
	switch n {
	case 2:
		out = append(out, byte(bits>>4))
	case 3:
		out = append(out, byte(bits>>10), byte(bits>>2))
	}
	return out
}

func (d *base64Decoder) Close() error {
	out := flushSextets(nil, d.bits, d.n)
	d.n = 0
	if len(out) == 0 {
		return nil
	}
	_, err := d.w.Write(out)
	return err
}

// qpDecoder holds back what may still turn out to be blanks at the end of a line,
// which are no content (RFC 2045 section 6.7, rule 3), or part of an escape.
type qpDecoder struct {
	w    io.Writer
	held []byte // blanks, or an escape that has begun; the line end after blanks
	out  []byte
}

func (d *qpDecoder) Write(p []byte) (int, error) {
	buf := decoded.Get().(*[]byte)
	d.out = slices.Grow((*buf)[:0], len(d.held)+len(p))
	defer func() {
		*buf, d.out = d.out, nil
		decoded.Put(buf)
	}()
	for i := 0; i < len(p); {
		if len(d.held) == 0 {
			if i += d.run(p[i:]); i == len(p) {
				break
			}
		}
		d.byte(p[i])
		i++
	}
	if len(d.out) > 0 {
		if _, err := d.w.Write(d.out); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// run takes, with nothing held, what can be taken of p at once, and gives how much that was:
// text up to blanks at the end of a line, escapes, and soft line breaks.
func (d *qpDecoder) run(p []byte) int {
	i := 0
	for i < len(p) {
		from := i
		for i < len(p) && p[i] != '=' && p[i] != '\r' && p[i] != '\n' {
			i++
		}
		end := i
		for end > from && (p[end-1] == ' ' || p[end-1] == '\t') {
			end--
		}
		d.out = append(d.out, p[from:end]...)
		if end < i && i < len(p) && p[i] == '=' { // blanks before an escape are text
			d.out = append(d.out, p[end:i]...)
			end = i
		}
		rest := p[end:]
		switch {
		case len(rest) >= 3 && rest[0] == '=' && hexValue(rest[1]) >= 0 && hexValue(rest[2]) >= 0:
			d.out = append(d.out, byte(hexValue(rest[1])<<4|hexValue(rest[2])))
			i = end + 3
		case len(rest) >= 3 && rest[0] == '=' && rest[1] == '\r' && rest[2] == '\n':
			i = end + 3
		case len(rest) >= 2 && rest[0] == '\r' && rest[1] == '\n':
			d.out = append(d.out, '\r', '\n')
			i = end + 2
		default:
			return end
		}
	}
	return i
}

// byte takes one byte; held is in one of these states: empty; blanks and at most
// one CR; '=' with a hexadecimal digit, or with blanks and at most one CR.
func (d *qpDecoder) byte(c byte) {
	switch {
	case len(d.held) == 0:
		if c == '=' || c == ' ' || c == '\t' || c == '\r' {
			d.held = append(d.held, c)
		} else {
			d.out = append(d.out, c)
		}
	case d.held[0] == '=':
		d.escape(c)
	case c == '\n':
		if d.held[len(d.held)-1] == '\r' {
			d.out = append(d.out, '\r')
		}
		d.out = append(d.out, '\n')
		d.held = d.held[:0]
	case (c == ' ' || c == '\t' || c == '\r') && d.held[len(d.held)-1] != '\r':
		d.hold(c)
	default:
		d.release()
		d.byte(c)
	}
}

func (d *qpDecoder) escape(c byte) {
	last := d.held[len(d.held)-1]
	switch {
	case c == '\n':
		d.held = d.held[:0] // a soft line break
	case (c == ' ' || c == '\t' || c == '\r') && (last == '=' || last == ' ' || last == '\t'):
		d.hold(c)
	case last == '=' && hexValue(c) >= 0:
		d.held = append(d.held, c)
	case len(d.held) == 2 && hexValue(last) >= 0 && hexValue(c) >= 0:
		d.out = append(d.out, byte(hexValue(last)<<4|hexValue(c)))
		d.held = d.held[:0]
	default:
		d.release()
		d.byte(c)
	}
}

// hold keeps a blank back; a run of them longer than any line is content.
func (d *qpDecoder) hold(c byte) {
	if len(d.held) > 1000 {
		d.release()
	}
	d.held = append(d.held, c)
}

func (d *qpDecoder) release() {
	d.out = append(d.out, d.held...)
	d.held = d.held[:0]
}

func (d *qpDecoder) Close() error {
	d.out = d.out[:0]
	if len(d.held) > 0 && (d.held[0] != '=' || len(d.held) == 1 || hexValue(d.held[1]) < 0) {
		d.held = d.held[:0] // the line end behind it is the boundary's: blanks, or a soft line break
	}
	d.release()
	if len(d.out) == 0 {
		return nil
	}
	_, err := d.w.Write(d.out)
	return err
}

func hexValue(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}
