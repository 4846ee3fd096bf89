package resync

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// identities are what was told of ids, to any client in the life of the mailbox: RFC 8474.
type identities struct {
	mailbox map[uint32]string    // MAILBOXID by UIDVALIDITY
	emails  map[[2]uint32]string // EMAILID by UIDVALIDITY and UID
	sent    map[string]string    // what was delivered, by the id that it must have
}

func newIdentities() *identities {
	return &identities{map[uint32]string{}, map[[2]uint32]string{}, map[string]string{}}
}

// delivered notes the bytes of a message, whose lines end with LF.
func (ids *identities) delivered(text string) {
	sum := sha256.Sum256([]byte(strings.ReplaceAll(text, "\n", "\r\n")))
	ids.sent["M"+hex.EncodeToString(sum[:20])] = text
}

// hear takes in what a response says of ids. A MAILBOXID stays as long as UIDVALIDITY, an
// EMAILID for ever, and it is that of the bytes, so that copies have the same.
func (ids *identities) hear(m *mirror, line string) error {
	if id := between(line, "[MAILBOXID (", ")"); id != "" {
		if was := ids.mailbox[m.validity]; was != "" && was != id {
			return fmt.Errorf("%q: the MAILBOXID was %s", line, was)
		}
		ids.mailbox[m.validity] = id
	}
	id := between(line, "EMAILID (", ")")
	if id == "" {
		return nil
	}
	uid, err := strconv.ParseUint(between(line, "UID ", " )"), 10, 32)
	if m.uidOnly {
		uid, err = strconv.ParseUint(between(line, "* ", " "), 10, 32)
	}
	if err != nil {
		return fmt.Errorf("%q has no UID", line)
	}
	key := [2]uint32{m.validity, uint32(uid)}
	if was := ids.emails[key]; was != "" && was != id {
		return fmt.Errorf("%q: the EMAILID was %s", line, was)
	}
	if _, ok := ids.sent[id]; !ok {
		return fmt.Errorf("%q: no message has these bytes", line)
	}
	ids.emails[key] = id
	return nil
}

// copied checks the pairs of a COPYUID.
func (ids *identities) copied(m *mirror, text string) error {
	f := strings.Fields(between(text, "[COPYUID ", "]"))
	if len(f) != 3 {
		return nil
	}
	var sets [2][]uint32
	for i := range sets {
		if err := each(f[i+1], func(uid uint32) error { sets[i] = append(sets[i], uid); return nil }); err != nil {
			return err
		}
	}
	for i, from := range sets[0] {
		if id := ids.emails[[2]uint32{m.validity, from}]; id != "" {
			ids.emails[[2]uint32{m.validity, sets[1][i]}] = id // another is found out when it is told
		}
	}
	return nil
}

// has gives a session without numbers the UID, where it may be one that it was told of by
// EXISTS alone; false where it is not there.
func (m *mirror) has(uid uint32) bool {
	if slices.Contains(m.seqs, uid) {
		return true
	}
	i := slices.Index(m.seqs, 0)
	if i >= 0 {
		m.seqs[i] = uid
	}
	return i >= 0
}
