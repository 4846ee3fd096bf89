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

// content looks for the Body and Text keys in a message.
func (r *run) content(m store.Message) error {
	parts, err := r.parts(m)
	if err != nil {
		return err
	}
	for p := range message.Passages(parts) {
		wanted := r.plan.content
		if !p.Inside {
			wanted = r.plan.texts
		}
		if !r.match.start(wanted) {
			continue
		}
		if !p.Header {
			if err := r.body(m, p.Part); err != nil {
				return err
			}
			continue
		}
		header, err := readRange(m, p.Range())
		if err == nil {
			err = r.match.header(header, wanted)
		}
		if err != nil {
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

// parts gives the parts of a message, from its note where that is a good one.
func (r *run) parts(m store.Message) ([]message.Part, error) {
	size, err := m.Size()
	if err != nil {
		return nil, err
	}
	if r.noted != nil {
		// A note that does not fit the message is none.
		if parts, err := message.DecodeParts(r.noted); err == nil && parts[0].Body.End() == size {
			return parts, nil
		}
	}
	if r.scan == nil {
		r.scan = message.NewScanner(r.src.Limits)
		r.scan.Lean = true
	}
	r.scan.Reset()
	if _, err := m.WriteRange(r.scan, 0, size); err != nil {
		return nil, err
	}
	return r.scan.Finish(), nil
}

// readRange reads a header, at most message.MaxSearchedHeader of it.
func readRange(m store.Message, rg message.Range) ([]byte, error) {
	b := make([]byte, min(rg.Len, message.MaxSearchedHeader))
	n, err := m.ReadAt(b, rg.Off)
	if err == io.EOF {
		err = nil
	}
	return b[:n], err
}

// readHeader reads the header of a message whose parts are not known into room, or into
// more where that is not enough. It is not longer than message.MaxSearchedHeader.
func readHeader(m store.Message, room []byte) ([]byte, error) {
	b := room[:0]
	for size := max(4<<10, min(cap(b), 16<<10)); ; size *= 4 {
		have := len(b)
		b = slices.Grow(b, size-have)[:size]
		n, err := m.ReadAt(b[have:], int64(have))
		b = b[:have+n]
		if end := bytes.Index(b[max(0, have-3):], []byte("\r\n\r\n")); end >= 0 {
			return b[:max(0, have-3)+end+4], nil
		}
		if err == io.EOF || err == nil && len(b) >= message.MaxSearchedHeader {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
	}
}
