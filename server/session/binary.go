package session

import (
	"errors"
	"io"

	"roost/message"
	"roost/server/wire"
)

// BINARY, BINARY.PEEK and BINARY.SIZE: RFC 3516, RFC 9051 section 6.4.5. Of a part that
// holds others, for which RFC 9051 has no answer, the leaves inside are decoded and all
// else stays, but that their headers say binary, as Dovecot answers it.

// decodable refuses items whose part has a transfer encoding that nobody knows
// (RFC 3516 section 4.3).
func (m *opened) decodable(items []fetchItem) error {
	for _, item := range items {
		if item.kind != fetchBinary && item.kind != fetchBinarySize {
			continue
		}
		at, ok := message.Find(m.parts, item.section.path)
		if !ok {
			continue
		}
		for _, p := range subtree(m.parts, at) {
			if p.Kind == message.Leaf && p.Encoding == message.EncodingUnknown {
				return no("UNKNOWN-CTE", "A part has a Content-Transfer-Encoding that cannot be decoded")
			}
		}
	}
	return nil
}

// subtree is the part at and all that is inside it.
func subtree(parts []message.Part, at int) []message.Part {
	end := at + 1
	for end < len(parts) && parts[end].Header.Off >= parts[at].Body.Off && parts[end].Body.End() <= parts[at].Body.End() {
		end++
	}
	return parts[at:end]
}

// binary is one section that is being decoded.
type binary struct {
	m      *opened
	whole  message.Range  // of the section as it stands
	leaves []message.Part // inside it, those to decode
	nul    bool           // the decoded section may hold NUL
}

func (m *opened) binary(sec section) binary {
	b := binary{m: m}
	at, ok := message.Find(m.parts, sec.path)
	if !ok {
		return b
	}
	b.whole = m.parts[at].Body
	if len(sec.path) == 0 {
		b.whole = message.Range{Len: m.size}
	}
	b.nul = m.parts[at].NUL
	for _, p := range subtree(m.parts, at) {
		if p.Kind == message.Leaf && p.Encoding != message.Identity && p.Body.Len > 0 {
			b.leaves, b.nul = append(b.leaves, p), true
		}
	}
	return b
}

// decode streams the decoded section to w.
func (b binary) decode(w io.Writer) error {
	at := b.whole.Off
	for _, p := range b.leaves {
		if p.Header.Off >= at {
			if _, err := b.m.WriteRange(w, at, p.Header.Off-at); err != nil {
				return err
			}
			if err := b.header(w, p.Header); err != nil {
				return err
			}
		}
		d := message.NewDecoder(p.Encoding, w)
		if _, err := b.m.WriteRange(d, p.Body.Off, p.Body.Len); err != nil {
			return err
		}
		if err := d.Close(); err != nil {
			return err
		}
		at = p.Body.End()
	}
	_, err := b.m.WriteRange(w, at, b.whole.End()-at)
	return err
}

// header writes the header of a part whose body comes decoded: it must not say any
// more that it is encoded.
func (b binary) header(w io.Writer, r message.Range) error {
	if r.Len > headerLimit {
		_, err := b.m.WriteRange(w, r.Off, r.Len)
		return err
	}
	var header collector
	if _, err := b.m.WriteRange(&header, r.Off, r.Len); err != nil {
		return err
	}
	rest := []byte(header)
	for f := range message.Fields(header) {
		rest = rest[len(f.Raw):]
		if f.Is("Content-Transfer-Encoding") {
			continue
		}
		if _, err := w.Write(f.Raw); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(w, "Content-Transfer-Encoding: binary\r\n"); err != nil {
		return err
	}
	_, err := w.Write(rest)
	return err
}

// size is the length of the decoded section; it is decoded to know it.
func (b binary) size() (int64, error) {
	if len(b.leaves) == 0 {
		return b.whole.Len, nil
	}
	var n counter
	err := b.decode(&n)
	return int64(n), err
}

func (m *opened) writeBinary(enc *wire.Encoder, sec section, p partial) error {
	b := m.binary(sec)
	size, err := b.size()
	if err != nil {
		enc.Raw("NIL")
		return err
	}
	off, n := p.clip(size)
	literal := enc.Literal
	if b.nul {
		literal = enc.Literal8 // RFC 3516 section 4.2: only this form may hold NUL
	}
	literal(n, func(w io.Writer) error {
		err := b.decode(&window{w: w, skip: off, left: n})
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	})
	return nil
}

func (m *opened) writeBinarySize(enc *wire.Encoder, sec section) error {
	n, err := m.binary(sec).size()
	enc.Number(uint64(n))
	return err
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// errEnough ends a decoding of which no more is wanted.
var errEnough = errors.New("enough")

// window passes on left bytes after the first skip ones.
type window struct {
	w          io.Writer
	skip, left int64
}

func (w *window) Write(p []byte) (int, error) {
	n := len(p)
	cut := min(w.skip, int64(n))
	w.skip -= cut
	p = p[cut:]
	p = p[:min(w.left, int64(len(p)))]
	w.left -= int64(len(p))
	if _, err := w.w.Write(p); err != nil {
		return 0, err
	}
	if w.left == 0 && w.skip == 0 {
		return n, errEnough
	}
	return n, nil
}
