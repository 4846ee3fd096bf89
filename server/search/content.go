package search

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"

	"roost/message"
	"roost/store"
)

// content looks for the Body and Text keys in a message. Parts that are not text are
// passed over; headers of messages inside the message are part of its body.
func (r *run) content(m store.Message) error {
	parts, err := r.parts(m)
	if err != nil {
		return err
	}
	var text []int
	for _, i := range r.plan.content {
		if r.plan.keys[i].Op == Text {
			text = append(text, i)
		}
	}
	inner := int32(-1) // the part that is the message inside the part before
	for i := range parts {
		p := &parts[i]
		wanted := text
		if int32(i) == inner {
			wanted = r.plan.content
		}
		if p.Kind == message.Message {
			inner = p.First
		}
		if r.match.start(wanted) {
			header, err := readRange(m, p.Header)
			if err == nil {
				err = r.match.header(header, wanted)
			}
			if err != nil {
				return err
			}
		}
		if p.Kind != message.Leaf || p.Type != "text" && p.Type != "message" {
			continue
		}
		if !r.match.start(r.plan.content) {
			return nil
		}
		if err := r.body(m, p); err != nil {
			return err
		}
	}
	return nil
}

// body streams the text of one part through the matcher, which was started.
func (r *run) body(m store.Message, p *message.Part) error {
	w := message.NewTextWriter(p, &r.match)
	_, err := m.WriteRange(w, p.Body.Off, p.Body.Len)
	if errors.Is(err, store.ErrUnreadable) {
		return err
	}
	// Other errors are the matcher's: all was found, or ctx ended, which end tells.
	w.Close()
	return r.match.end()
}

// Digested reads a message through for its message.Digest, as long as ctx lasts.
func Digested(ctx context.Context, m store.Message) ([]byte, error) {
	size, err := m.Size()
	if err != nil {
		return nil, err
	}
	d := message.NewDigest()
	if _, err := m.WriteRange(while{ctx, d}, 0, size); err != nil {
		return nil, err
	}
	return d.Sum(), nil
}

// while writes as long as ctx lasts.
type while struct {
	ctx context.Context
	w   io.Writer
}

func (w while) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.w.Write(p)
}

// parts gives the parts of a message, from its note where it has a good one.
func (r *run) parts(m store.Message) ([]message.Part, error) {
	size, err := m.Size()
	if err != nil {
		return nil, err
	}
	for _, note := range r.notes(r.src.Parts) {
		// A note that does not fit the message is none.
		if parts, err := message.DecodeParts(note); err == nil && parts[0].Body.End() == size {
			return parts, nil
		}
	}
	s := message.NewScanner(r.src.Limits)
	if _, err := m.WriteRange(s, 0, size); err != nil {
		return nil, err
	}
	return s.Finish(), nil
}

// readRange reads a header, at most maxHeader of it.
func readRange(m store.Message, rg message.Range) ([]byte, error) {
	b := make([]byte, min(rg.Len, maxHeader))
	n, err := m.ReadAt(b, rg.Off)
	if err == io.EOF {
		err = nil
	}
	return b[:n], err
}

// readHeader reads the header of a message whose parts are not known.
func readHeader(m store.Message) ([]byte, error) {
	var b []byte
	for size := 4 << 10; ; size *= 4 {
		have := len(b)
		b = slices.Grow(b, size-have)[:size]
		n, err := m.ReadAt(b[have:], int64(have))
		b = b[:have+n]
		if end := bytes.Index(b[max(0, have-3):], []byte("\r\n\r\n")); end >= 0 {
			return b[:max(0, have-3)+end+4], nil
		}
		if err == io.EOF || err == nil && len(b) >= maxHeader {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
	}
}
