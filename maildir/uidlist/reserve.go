package uidlist

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"roost/maildir/fsys"
)

// roost-state: text, synced before the first line of a uidlist that is not.
//
//	roost-state 1
//	boot 5f0c7a0e-4b6f-4d0a-9f5e-0d3a6b1c2d3e
//	uidvalidity 1288361218
//	uidnext 2004
//
// While the machine runs, lines that were shown but not synced are safe in its memory.
// Found with another boot id, some may be lost, and UIDs below uidnext may have been
// shown. A clean close removes the file.
const (
	ReserveName = "roost-state"
	reserveTmp  = "roost-state.tmp"
	reserveMax  = 4 << 10
)

// ErrReserve is a roost-state that cannot be read; treat it as one of another boot
// with a UIDNEXT that nobody knows.
var ErrReserve = errors.New("damaged roost-state")

// Reserve is what roost-state says.
type Reserve struct {
	BootID   string
	Validity uint32
	Next     uint32 // no UID from here on was shown
}

// ReadReserve reads roost-state from a control directory; ok is false when there is
// none. ErrReserve.
func ReadReserve(dir fsys.Dir) (r Reserve, ok bool, err error) {
	b, err := fsys.ReadFile(dir, ReserveName, reserveMax)
	if errors.Is(err, fs.ErrNotExist) {
		return Reserve{}, false, nil
	} else if err != nil {
		return Reserve{}, false, err
	}
	r, err = parseReserve(string(b))
	if err != nil {
		return Reserve{}, false, fmt.Errorf("read %s/%s: %w", dir.Path(), ReserveName, err)
	}
	return r, true, nil
}

func parseReserve(s string) (r Reserve, err error) {
	first, rest, whole := strings.Cut(s, "\n")
	if first != "roost-state 1" || !whole || !strings.HasSuffix(s, "\n") {
		return r, ErrReserve
	}
	for line := range strings.Lines(rest) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch ok := true; key {
		case "boot":
			r.BootID = value
		case "uidvalidity":
			if r.Validity, ok = number(value); !ok {
				return Reserve{}, ErrReserve
			}
		case "uidnext":
			if r.Next, ok = number(value); !ok {
				return Reserve{}, ErrReserve
			}
		}
	}
	if r.Next == 0 || r.Validity == 0 {
		return Reserve{}, ErrReserve
	}
	return r, nil
}

// WriteReserve puts r in place; durable on return.
func WriteReserve(dir fsys.Dir, r Reserve) error {
	self, err := dir.Self()
	if err != nil {
		return err
	}
	_, mode := self.Modes()
	text := fmt.Sprintf("roost-state 1\nboot %s\nuidvalidity %d\nuidnext %d\n", r.BootID, r.Validity, r.Next)
	return fsys.Replace(dir, ReserveName, reserveTmp, []byte(text), mode, true)
}

// RemoveReserve says that all lines are synced.
func RemoveReserve(dir fsys.Dir) error {
	if err := dir.Remove(ReserveName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
