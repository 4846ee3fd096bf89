package session

import (
	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// Deed is what a client did to mail, for who wants to know who did it. That \\Seen is set by
// reading is none.
type Deed struct {
	What    string // "expunge", "move", "flags", "replace", "delete_mailbox", "rename_mailbox"
	Mailbox store.Name
	To      store.Name  // of move, replace, rename_mailbox
	UIDs    []imap.UID  // of messages in Mailbox; not to be kept
	Flags   []imap.Flag // of flags
	Op      string      // of flags: "+", "-", "="
}

// did tells of a deed, where somebody wants to know.
func (s *session) did(d Deed) {
	if s.opt.Audit == nil || len(d.UIDs) == 0 && d.What != "delete_mailbox" && d.What != "rename_mailbox" {
		return
	}
	s.opt.Audit(s.login, s.client, d)
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
