package cache

import (
	"bytes"
	"io"
)

// loadLocked builds the table. A file that is missing, unreadable or another's is
// an empty one, which the first Put makes anew.
func (c *Cache) loadLocked() {
	if c.loaded {
		return
	}
	c.loaded = true
	f, err := c.dir.Open(Name)
	if err != nil {
		return
	}
	st, err := f.Stat()
	if err != nil || st.Size > c.limit.Bytes || !c.scanLocked(io.NewSectionReader(f, 0, st.Size)) {
		f.Close()
		return
	}
	c.file = f
}

// scanLocked reads all headers and passes over the notes; false when the file is not
// this cache.
func (c *Cache) scanLocked(r io.Reader) bool {
	b := make([]byte, 64<<10)
	n, _ := io.ReadFull(r, b)
	window, eof := b[:n], n < len(b)
	if n < fileHeader || !bytes.Equal(window[:fileHeader], appendFileHeader(nil, c.validity)) {
		return false
	}
	window = window[fileHeader:]
	c.size = fileHeader
	for {
		if len(window) < noteHeader && !eof {
			kept := copy(b, window)
			n, err := io.ReadFull(r, b[kept:])
			eof = err != nil
			window = b[:kept+n]
		}
		if len(window) < noteHeader {
			return true
		}
		h, ok := parseHeader(window)
		if !ok {
			return true
		}
		total := noteHeader + int64(h.length)
		if total <= int64(len(window)) {
			window = window[total:]
		} else {
			rest := total - int64(len(window))
			if n, _ := io.CopyN(io.Discard, r, rest); n < rest {
				return true
			}
			window = nil
		}
		if h.kind == forget {
			c.wasted += total + int64(c.table.remove(h.uid))*noteHeader
			c.size += total
			continue
		}
		key := keyOf(h.uid, h.kind)
		if _, twice := c.table.find(key); twice {
			c.wasted += total // about what the one before it took
		}
		c.table.put(key, c.size)
		c.size += total
	}
}
