package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"

	"roost/maildir/fsys"
)

// UIDVALIDITY of new mailboxes comes from two files in the control root, which
// Dovecot shares:
//
//	dovecot-uidvalidity            the last value given, as 8 hex digits, no LF
//	dovecot-uidvalidity.6b049e85   empty, mode 0444; its name has the same value
//
// Who needs a value renames the second to value + 1, which is the one atomic step,
// then writes the first. When both are missing the time is the value. Of two files
// with digits the larger counts, and the smaller is removed.
//
// Who makes the second file may be late: another has made it meanwhile, and others have
// renamed it on, so that its name is free again. So whoever did not find it under the name
// that the first one says looks once more when it has a value: it is taken where a larger
// one stands there.

const (
	uidvalidityFile   = "dovecot-uidvalidity"
	uidvalidityPrefix = uidvalidityFile + "."
)

// A thousand folders that are opened for the first time would cost a sync each, so who takes
// values one after the other takes more at once; what is left of them is never used. They are
// good as long as the name still has the last of them: a mailbox that is made again must not
// get less than what another program gave it meanwhile. The other file is not asked: nobody
// writes that before the name is another.

const (
	maxValidities   = 1024 // taken at once
	fewValidities   = 5    // taken one by one first
	growsValidities = 4    // so many times as many as the last time from then on
)

// validities are UIDVALIDITYs that were taken and not used yet.
type validities struct {
	mu         sync.Mutex // guards what follows; held over file calls
	next, last uint32     // next > last: none
	size       uint32     // how many were taken the last time
	few        int        // how often one was
}

// freshUIDValidity takes a value that no mailbox of this tree ever had; durable.
func (t *tree) freshUIDValidity() (uint32, error) {
	d := t.controlRoot()
	s := &t.validities
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next > 0 && s.next <= s.last {
		if _, err := d.Stat(uidvalidityName(s.last)); err == nil && t.after(s.next-1) == s.next {
			s.next++
			return s.next - 1, nil
		}
		s.size, s.few = 0, 0 // others take values too
	}
	n := uint32(1)
	if s.few++; s.few > fewValidities {
		n = min(growsValidities*s.size, maxValidities)
	}
	v, err := t.nextUIDValidity(d, n)
	if err != nil {
		return 0, fmt.Errorf("take a UIDVALIDITY: %w", err)
	}
	s.next, s.last, s.size = v+1, v+n-1, n
	return v, nil
}

// lendUIDValidity gives a value for a mailbox whose UIDs cannot be kept: the time, or what
// follows the last one given, if that ran ahead. It is not taken for any other afterwards.
func (t *tree) lendUIDValidity() uint32 {
	v := uint32(t.clock().Unix())
	if last, known := readUIDValidity(t.controlRoot()); known {
		v = max(v, last+1)
	}
	for t.lent != nil {
		if last := t.lent.Load(); last >= v || t.lent.CompareAndSwap(last, v) {
			break
		}
	}
	return v
}

// after is the next value behind last that was not lent.
func (t *tree) after(last uint32) uint32 {
	if t.lent != nil {
		last = max(last, t.lent.Load())
	}
	return max(last+1, 1)
}

// nextUIDValidity takes n values and gives the first.
func (t *tree) nextUIDValidity(d fsys.Dir, n uint32) (uint32, error) {
	last, known := readUIDValidity(d)
	straight := known
	for range 100 { // each turn is lost only to another program that took a value
		var err error
		if !known {
			if last, known, err = scanUIDValidity(d); err != nil {
				return 0, err
			}
		}
		var v uint32
		if known {
			v = t.after(last)
			err = d.Move(uidvalidityName(last), d, uidvalidityName(v+n-1))
		} else {
			v = t.after(uint32(t.clock().Unix()) - 1)
			err = touch(d, uidvalidityName(v+n-1))
		}
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist):
			straight, known = false, false
			continue
		case err != nil:
			return 0, err
		case !straight:
			if last, known, err = scanUIDValidity(d); err != nil {
				return 0, err
			}
		}
		if straight || known && last == v+n-1 {
			return v, writeUIDValidity(d, v+n-1)
		}
	}
	return 0, fmt.Errorf("%s/%s* changes without end", d.Path(), uidvalidityFile)
}

// touch makes an empty file, fs.ErrExist where it is there.
func touch(d fsys.Dir, name string) error {
	f, err := d.Create(name, 0o444)
	if err != nil {
		return err
	}
	return f.Close()
}

func uidvalidityName(v uint32) string { return fmt.Sprintf("%s%08x", uidvalidityPrefix, v) }

func parseHex(s string) (uint32, bool) {
	if len(s) != 8 {
		return 0, false
	}
	v, err := strconv.ParseUint(s, 16, 32)
	return uint32(v), err == nil && v != 0
}

func readUIDValidity(d fsys.Dir) (uint32, bool) {
	b, err := fsys.ReadFile(d, uidvalidityFile, 64)
	if err != nil {
		return 0, false
	}
	return parseHex(string(b))
}

// scanUIDValidity looks for the file whose name has the value.
func scanUIDValidity(d fsys.Dir) (last uint32, known bool, err error) {
	var values []uint32
	err = d.Names(func(name string, _ fs.FileMode) bool {
		if digits, ok := strings.CutPrefix(name, uidvalidityPrefix); ok {
			if v, ok := parseHex(digits); ok && name == uidvalidityName(v) {
				values = append(values, v)
			}
		}
		return true
	})
	for _, v := range values {
		last, known = max(last, v), true
	}
	for _, v := range values {
		if v != last {
			d.Remove(uidvalidityName(v)) // somebody else may be at it
		}
	}
	return last, known, err
}

func writeUIDValidity(d fsys.Dir, v uint32) error {
	f, err := d.Update(uidvalidityFile, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(0); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(f, "%08x", v); err != nil {
		return err
	}
	// The name is what counts, so it must be there after a power cut; the file is a
	// short cut to it.
	return d.Sync()
}
