package fts

import (
	"errors"
	"io/fs"
	"slices"
)

// fanIn is how much bigger a segment is than those that are merged into it, or more: so a
// message is written as many times as there are levels, and there are fewer than fanIn
// segments of each.
const fanIn = 8

// level orders segments by size.
func level(docs int) (n int) {
	for docs /= 64; docs >= fanIn; docs /= fanIn {
		n++
	}
	return n
}

// due gives which segments are to be merged now: the last ones, where together they are of a
// higher level than any of them; else one of which most messages are gone.
func (x *Index) due() (from, to int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for top := range level(maxDocs) {
		from, to, docs := len(x.segs), len(x.segs), 0
		for from > 0 && level(x.segs[from-1].docs) <= top && docs+x.segs[from-1].docs <= maxDocs {
			from--
			docs += x.segs[from].docs
		}
		if to-from > 1 && level(docs) > top {
			return from, to
		}
	}
	for i, l := range x.segs {
		if l.gone*2 > l.docs {
			return i, i + 1
		}
	}
	return 0, 0
}

// Tidy does one piece of work that keeps the index small and fast, and says whether there
// may be more. breathe is called often; its error ends the work and is returned, and should be
// ErrStopped.
func (x *Index) Tidy(breathe func() error) (more bool, err error) {
	from, to := x.due()
	if from == to {
		return false, x.shrink(breathe)
	}
	x.mu.RLock()
	segs := slices.Clone(x.segs[from:to])
	file, at, failed := x.file, x.size, x.failed
	x.mu.RUnlock()
	if failed != nil {
		return false, failed
	}
	var parts []part
	kept := 0
	for _, l := range segs {
		p, err := x.keep(l.segment)
		if err != nil {
			return false, x.damaged(err)
		}
		parts = append(parts, p)
		kept += len(p.kept)
	}
	if kept == 0 { // all are gone
		x.mu.Lock()
		defer x.mu.Unlock()
		x.segs = slices.DeleteFunc(x.segs, func(l *live) bool { return slices.Contains(segs, l) })
		for _, l := range segs {
			x.unused += l.size
		}
		return false, nil
	}
	if err := x.write(file, at, parts, breathe); err != nil {
		return false, err
	}
	return true, nil
}

// keep finds the messages of a segment that are there still.
func (x *Index) keep(s *segment) (part, error) {
	p := part{segment: s, kept: make([]doc, 0, s.docs)}
	to := make([]int32, s.docs)
	var uids, sums []uint32
	now := make([]uint32, chunkDocs)
	var err error
	for c := range s.chunks() {
		if uids, err = s.uids(uids[:0], c); err != nil {
			return p, err
		}
		if sums, err = s.sums(sums[:0], c); err != nil {
			return p, err
		}
		x.names(uids, now)
		for k, uid := range uids {
			if now[k] == 0 {
				to[c*chunkDocs+k] = -1
				continue
			}
			to[c*chunkDocs+k] = int32(len(p.kept))
			p.kept = append(p.kept, doc{uid, sums[k]})
		}
	}
	if len(p.kept) < s.docs {
		p.to = to
	}
	return p, nil
}

// shrink writes the file anew where less than half of it is in use.
func (x *Index) shrink(breathe func() error) error {
	x.mu.RLock()
	file, segs, unused, size, failed := x.file, slices.Clone(x.segs), x.unused, x.size, x.failed
	x.mu.RUnlock()
	if failed != nil || unused < 64<<10 || unused < size/2 {
		return failed
	}
	f, err := x.dir.Create(tmpName, x.mode)
	if errors.Is(err, fs.ErrExist) { // left by a crash
		if err = x.dir.Remove(tmpName); err == nil {
			f, err = x.dir.Create(tmpName, x.mode)
		}
	}
	if err != nil {
		return x.fail(err)
	}
	_, err = f.WriteAt(x.header(), 0)
	moved := make([]*live, len(segs))
	at := int64(fileHeader)
	buf := make([]byte, 128<<10)
	for i, l := range segs {
		for off := int64(0); off < l.size && err == nil; off += int64(len(buf)) {
			b := buf[:min(int64(len(buf)), l.size-off)]
			if err = readFull(file, b, l.at+off); err == nil {
				_, err = f.WriteAt(b, at+off)
			}
			if err == nil {
				err = breathe()
			}
		}
		copied := *l.segment
		copied.r, copied.at = f, at
		moved[i] = &live{segment: &copied, valid: l.valid, gone: l.gone}
		at += l.size
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if err == nil && (x.file != file || x.size != size) {
		err = fs.ErrClosed // thrown away meanwhile
	}
	if err == nil {
		// The names in f are those of a moment ago.
		was, wasSegs := x.file, x.segs
		x.file, x.segs = f, moved
		for uid := range x.forgotten {
			if err == nil {
				err = x.eraseLocked(uid)
			}
		}
		if err == nil {
			err = x.dir.Rename(tmpName, x.dir, Name)
		}
		if err == nil {
			was.Close() // all that was in it is in f
			x.size, x.unused = at, 0
			return nil
		}
		x.file, x.segs = was, wasSegs
	}
	f.Close()
	x.dir.Remove(tmpName) // best effort: the first error is the one to tell
	if errors.Is(err, errDamaged) {
		x.discardLocked()
	}
	if x.loaded && x.failed == nil && !errors.Is(err, fs.ErrClosed) && !errors.Is(err, ErrStopped) {
		x.failed = err
	}
	return err
}
