package message

import (
	"io"

	"golang.org/x/text/transform"
)

// NewTextWriter gives a writer that takes the body of p as it stands in the
// message and passes text in UTF-8 on to w: transfer encoding and charset decoded.
// Close writes what is left and does not close w. What cannot be decoded is passed
// on as it is; broken sequences of a charset come out as U+FFFD.
func NewTextWriter(p *Part, w io.Writer) io.WriteCloser {
	var text *transform.Writer
	if !asIs(p.Charset) {
		if e, ok := Charset(p.Charset); ok {
			text = transform.NewWriter(w, e.NewDecoder())
			w = text
		}
	}
	d := NewDecoder(p.Encoding, w)
	if text == nil {
		return d
	}
	return &textWriter{d, text}
}

type textWriter struct {
	io.WriteCloser
	text *transform.Writer
}

func (t *textWriter) Close() error {
	if err := t.WriteCloser.Close(); err != nil {
		return err
	}
	return t.text.Close()
}
