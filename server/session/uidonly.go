package session

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
