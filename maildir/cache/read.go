package cache

import (
	"hash/crc32"
	"iter"
	"sync"

	"github.com/emersion/go-imap/v2"
)

// A client asks for the same kind of note of thousands of messages in a row. The notes of
// messages that were read one after the other lie behind each other, so one call of the
// system reads those of about a hundred.

const (
	// windowBytes is how much of the file is read at once.
	windowBytes = 64 << 10

	// windowGap is how far apart two notes may lie for what is between them to be read too.
	windowGap = 8 << 10

	// windowTail is how much is read behind the place where the last note begins: most are
	// shorter, and one that is not is read alone.
	windowTail = 1 << 10

	// windowNotes is how many are looked up under one hold of the lock.
	windowNotes = 128
)

// window is what one step of All works with.
type window struct {
	buf   []byte
	long  []byte // a note that does not lie in buf whole
	found []found
}

type found struct {
	uid  imap.UID
	at   int64
	note []byte
	ok   bool // else it is not there, or damaged
}

var windows = sync.Pool{New: func() any {
	return &window{buf: make([]byte, 0, windowBytes), found: make([]found, 0, windowNotes)}
}}

// All yields the notes of one kind of those of uids, ascending, that have one. What is
// yielded is good until the next step. No lock is held meanwhile.
func (c *Cache) All(uids []imap.UID, kind uint16) iter.Seq2[imap.UID, []byte] {
	return func(yield func(imap.UID, []byte) bool) {
		w := windows.Get().(*window)
		defer w.done()
		for len(uids) > 0 {
			uids = uids[c.fill(w, uids, kind):]
			for i := range w.found {
				if f := &w.found[i]; f.ok && !yield(f.uid, f.note) {
					return
				}
			}
		}
	}
}

func (w *window) done() {
	if cap(w.long) > windowBytes {
		w.long = nil
	}
	windows.Put(w)
}

// fill reads the notes of the first of uids, and says of how many.
func (c *Cache) fill(w *window, uids []imap.UID, kind uint16) (used int) {
	w.found = w.found[:0]
	c.rlock()
	defer c.mu.RUnlock()
	hint := 0
	for _, uid := range uids {
		at, next, ok := c.table.findFrom(hint, keyOf(uint32(uid), kind))
		hint = next
		if ok {
			if n := len(w.found); n > 0 {
				first, last := w.found[0].at, w.found[n-1].at
				if n == windowNotes || at < last || at-last > windowGap || at-first > windowBytes-windowTail || at >= c.size {
					break
				}
			}
			w.found = append(w.found, found{uid: uid, at: at})
		}
		used++
	}
	if len(w.found) == 0 {
		return used
	}
	first := w.found[0].at
	w.buf = w.buf[:0]
	if first < c.size && c.file != nil {
		end := min(w.found[len(w.found)-1].at+windowTail, c.size, first+windowBytes)
		n, _ := c.file.ReadAt(w.buf[:end-first], first) // what is missing is read alone, and fails there
		w.buf = w.buf[:n]
	}
	w.long = w.long[:0]
	for i := range w.found {
		f := &w.found[i]
		var whole bool
		if f.note, whole = noteIn(w.buf, f.at-first, uint32(f.uid), kind); whole {
			f.ok = f.note != nil
			continue
		}
		from := len(w.long)
		long, ok := c.readLocked(w.long, f.at, uint32(f.uid), kind)
		if ok {
			w.long = long
			f.note, f.ok = long[from:len(long):len(long)], true
		}
	}
	return used
}

// noteIn gives the note that begins at an offset of b. whole is false where it does not lie
// in b to its end; the note is nil where it is damaged or another.
func noteIn(b []byte, at int64, uid uint32, kind uint16) (note []byte, whole bool) {
	if at+noteHeader > int64(len(b)) {
		return nil, false
	}
	b = b[at:]
	h, ok := parseHeader(b)
	if !ok || h.uid != uid || h.kind != kind {
		return nil, true
	}
	end := noteHeader + int64(h.length)
	if end > int64(len(b)) {
		return nil, false
	}
	note = b[noteHeader:end:end]
	if crc32.Checksum(note, castagnoli) != h.sum {
		return nil, true
	}
	return note, true
}
