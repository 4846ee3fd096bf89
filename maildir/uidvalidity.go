package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

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

const (
	uidvalidityFile   = "dovecot-uidvalidity"
	uidvalidityPrefix = uidvalidityFile + "."
)

// freshUIDValidity takes a value that no mailbox of this tree ever had; durable.
func (t *tree) freshUIDValidity() (uint32, error) {
	d := t.controlRoot()
	v, err := t.nextUIDValidity(d)
	if err != nil {
		return 0, fmt.Errorf("take a UIDVALIDITY: %w", err)
	}
	return v, nil
}

// lendUIDValidity gives a value for a mailbox whose UIDs cannot be kept: the time, which
// is not taken for any other afterwards.
func (t *tree) lendUIDValidity() uint32 {
	v := uint32(t.clock().Unix())
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

func (t *tree) nextUIDValidity(d fsys.Dir) (uint32, error) {
	last, known := readUIDValidity(d)
	for range 100 { // each turn is lost only to another program that took a value
		if !known {
			var err error
			if last, known, err = scanUIDValidity(d); err != nil {
				return 0, err
			}
		}
		if !known {
			v := t.after(uint32(t.clock().Unix()) - 1)
			f, err := d.Create(uidvalidityName(v), 0o444)
			if errors.Is(err, fs.ErrExist) {
				continue
			}
			if err != nil {
				return 0, err
			}
			f.Close()
			return v, writeUIDValidity(d, v)
		}
		v := t.after(last)
		err := d.Move(uidvalidityName(last), d, uidvalidityName(v))
		switch {
		case err == nil:
			return v, writeUIDValidity(d, v)
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist):
			return 0, err
		}
		known = false
	}
	return 0, fmt.Errorf("%s/%s* changes without end", d.Path(), uidvalidityFile)
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
