package memstore

import (
	"bytes"
	"io"
)

// content implements store.Message. It stays readable after an expunge because
// the bytes of a message never change.
type content struct{ *bytes.Reader }

func newContent(b []byte) content { return content{bytes.NewReader(b)} }

// Size implements store.Message.
func (c content) Size() (int64, error) { return c.Reader.Size(), nil }

// WriteRange implements store.Message.
func (c content) WriteRange(w io.Writer, off, n int64) (int64, error) {
	return io.Copy(w, io.NewSectionReader(c.Reader, off, n))
}

// Stream implements store.Message.
func (c content) Stream(w io.Writer) error {
	_, err := c.WriteRange(w, 0, c.Reader.Size())
	return err
}

// Close implements store.Message.
func (c content) Close() error { return nil }

// withCRLF gives bare LFs their CR; a bare CR is left alone.
func withCRLF(b []byte) []byte {
	out := make([]byte, 0, len(b)+bytes.Count(b, []byte("\n")))
	for i, c := range b {
		if c == '\n' && (i == 0 || b[i-1] != '\r') {
			out = append(out, '\r')
		}
		out = append(out, c)
	}
	return out
}
