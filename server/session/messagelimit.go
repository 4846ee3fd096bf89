package session

import (
	"strconv"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// MESSAGELIMIT and SAVELIMIT: RFC 9738. Where an admin sets a limit a command is for so many
// messages at most: of those it names the ones with the highest UIDs, and its answer says
// where it stopped. COPY and APPEND, which are for all or none, are refused.

// limitCode is the response code; lowest is the lowest UID that was worked on, 0 where
// nothing was.
func limitCode(n int, lowest imap.UID) string {
	code := "MESSAGELIMIT " + strconv.Itoa(n)
	if lowest > 0 {
		code += " " + strconv.FormatUint(uint64(lowest), 10)
	}
	return code
}

// messageLimit is how many messages one command may be for; 0 is no limit. A client from
// which it is hidden cannot know how to go on, and has none.
func (s *session) messageLimit() int {
	if s.hiding.hides("MESSAGELIMIT") {
		return 0
	}
	return s.opt.Limits.Messages
}

// limited gives those of uids, which ascend, that one command may be for, and the code that
// tells of the others; "" when there are none.
func (s *session) limited(uids []imap.UID) ([]imap.UID, string) {
	n := s.messageLimit()
	if n <= 0 || len(uids) <= n {
		return uids, ""
	}
	uids = uids[len(uids)-n:]
	return uids, limitCode(n, uids[0])
}

// limitedDeleted is limited for UID EXPUNGE, of which only what is \Deleted counts.
func (s *session) limitedDeleted(uids []imap.UID, rows []store.Row) ([]imap.UID, string) {
	var deleted []imap.UID
	for _, row := range rows {
		if row.Flags&store.FlagDeleted != 0 {
			deleted = append(deleted, row.UID)
		}
	}
	if kept, code := s.limited(deleted); code != "" {
		return kept, code
	}
	return uids, ""
}

// saveLimit is how many messages one COPY or APPEND may add; 0 is no limit.
func (s *session) saveLimit() int {
	if n := s.messageLimit(); n > 0 {
		return n
	}
	if s.hiding.hides("SAVELIMIT") {
		return 0
	}
	return s.opt.Limits.Saved
}

// checkSaved refuses a COPY of too many messages.
func (s *session) checkSaved(uids []imap.UID) error {
	if n := s.saveLimit(); n > 0 && len(uids) > n {
		return no(limitCode(n, uids[len(uids)-n]), "At most %d messages can be copied at once", n)
	}
	return nil
}

// partly is the answer of a command that met the limit.
func partly(code string) reply {
	return reply{"OK", code, "Done for the newest of these messages; ask again for the others"}
}

// writeLimit tells of the limit beside an answer that has another code: RFC 9738 section 3.1.
func (s *session) writeLimit(code string) {
	if code != "" {
		s.enc.Raw("* NO [").Raw(code).Raw("] Done for the newest of these messages\r\n")
	}
}
