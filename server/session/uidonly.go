package session

import "slices"

// UIDONLY: RFC 9586. After ENABLE UIDONLY messages have no sequence numbers, in either
// direction: UIDFETCH comes in place of FETCH (startFetch), VANISHED in place of EXPUNGE
// (writeDelta), and what can only be said in numbers is not said. It may come while a mailbox
// is selected: from its answer on all is told by UIDs.

// numbered are the commands that take or give sequence numbers, whatever they say.
var numbered = map[string]bool{
	"FETCH": true, "STORE": true, "COPY": true, "MOVE": true, "REPLACE": true,
	"SEARCH": true, "SORT": true, "THREAD": true,
}

// uidRequired refuses what goes by sequence numbers.
func uidRequired(what string) error {
	return reply{"BAD", "UIDREQUIRED", what + " goes by message numbers, which ENABLE UIDONLY has turned off"}
}

// forgetNumbers turns UIDONLY on. Results that are kept up to date by sequence numbers
// (RFC 5267) cannot be any longer.
func (s *session) forgetNumbers() {
	if s.uidOnly = true; s.sel == nil {
		return
	}
	s.sel.contexts = slices.DeleteFunc(s.sel.contexts, func(x *searchContext) bool {
		if !x.uid {
			s.refuseUpdate(x.tag, "Its results had message numbers")
		}
		return !x.uid
	})
}
