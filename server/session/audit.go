package session

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// Deed is what a client did to mail, for who wants to know who did it. That \\Seen is set by
// reading is none.
type Deed struct {
	What    string // one of deeds
	Mailbox store.Name
	To      store.Name  // of move, replace, rename_mailbox
	UIDs    []imap.UID  // of messages in Mailbox; not to be kept
	Flags   []imap.Flag // of flags
	Op      string      // of flags: "+", "-", "="
}

// Brief is a Deed in few words, whatever it was for: what is written down of it, and what a
// worker tells.
type Brief struct {
	What, Mailbox string
	To            string `json:",omitempty"`
	Messages      int    `json:",omitempty"`
	UIDs          string `json:",omitempty"` // as a set, which ends in ",..." where it would be long
	Flags         string `json:",omitempty"` // with blanks between
	Op            string `json:",omitempty"`
}

const (
	briefUIDs = 1000 // bytes
	briefName = 1000 // bytes of a mailbox's name, and of all flags
)

// Brief gives a deed in few words.
func (d Deed) Brief() Brief {
	b := Brief{What: d.What, Mailbox: clipped(string(d.Mailbox)), To: clipped(string(d.To)), Messages: len(d.UIDs), Op: d.Op}
	if len(d.UIDs) > 0 {
		if b.UIDs = imap.UIDSetNum(d.UIDs...).String(); len(b.UIDs) > briefUIDs {
			b.UIDs = b.UIDs[:strings.LastIndexByte(b.UIDs[:briefUIDs], ',')] + ",..."
		}
	}
	var flags strings.Builder
	for i, f := range d.Flags {
		if i > 0 {
			flags.WriteByte(' ')
		}
		flags.WriteString(string(f))
	}
	b.Flags = clipped(flags.String())
	return b
}

func clipped(s string) string {
	s = strings.ToValidUTF8(s, "?") // JSON would make it longer
	if len(s) <= briefName {
		return s
	}
	return strings.ToValidUTF8(s[:briefName], "") + "..."
}

// Check reports whether a Brief that another process made is one that Brief can have made:
// then a line with it has a bound.
func (b *Brief) Check() error {
	uids := strings.TrimSuffix(b.UIDs, ",...")
	switch {
	case !slices.Contains(deeds, b.What):
		return fmt.Errorf("there is no deed %.20q", b.What)
	case !slices.Contains([]string{"", "+", "-", "="}, b.Op):
		return fmt.Errorf("there is no change of flags %.20q", b.Op)
	case b.Messages < 0 || b.Messages > math.MaxUint32:
		return fmt.Errorf("%d messages", b.Messages)
	case len(b.UIDs) > briefUIDs+len(",...") || strings.Trim(uids, "0123456789:,") != "":
		return fmt.Errorf("no set of UIDs: %.20q", b.UIDs)
	}
	for _, s := range []string{b.Mailbox, b.To, b.Flags} {
		if len(s) > briefName+len("...") {
			return errors.New("a name without end")
		}
	}
	return nil
}

// deeds are what Deed.What can be.
var deeds = []string{"expunge", "move", "flags", "replace", "delete_mailbox", "rename_mailbox"}

// did tells of a deed, where somebody wants to know.
func (s *session) did(d Deed) {
	if s.opt.Audit == nil || len(d.UIDs) == 0 && d.What != "delete_mailbox" && d.What != "rename_mailbox" {
		return
	}
	s.opt.Audit(s.login, s.login.Client, d)
}

// uidsOf gives the UIDs of rows.
func uidsOf(rows []store.Row) []imap.UID {
	uids := make([]imap.UID, 0, len(rows))
	for _, row := range rows {
		uids = append(uids, row.UID)
	}
	return uids
}

func opSign(op imap.StoreFlagsOp) string {
	switch op {
	case imap.StoreFlagsAdd:
		return "+"
	case imap.StoreFlagsDel:
		return "-"
	}
	return "="
}
