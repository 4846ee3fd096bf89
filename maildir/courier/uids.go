package courier

import (
	"errors"
	"strings"

	"roost/maildir/uidlist"
)

// UIDsName is the file of a mailbox's UIDs:
//
//	1 795465324 52                        version SP UIDVALIDITY SP UIDNEXT LF
//	3 1795465324.M328663P75V..._2.mail    UID SP base LF
//
// It is version 1 of Dovecot's uidlist. Courier writes it anew and renames it into
// place, so that UIDNEXT is exact: none from there on was ever given.
const UIDsName = "courierimapuiddb"

// ErrUIDs is a file whose first line does not say which UIDs were given. Nothing can
// be taken over from it: a UID could come to name a second message.
var ErrUIDs = errors.New(UIDsName + " has no UIDVALIDITY and UIDNEXT in its first line")

// UIDs is what courierimapuiddb says.
type UIDs struct {
	Validity uint32
	Next     uint32           // no UID from here on was given
	Records  []uidlist.Record // ascending UIDs; no UID and no base twice
	Bad      int              // lines that prove nothing
}

// ParseUIDs reads a courierimapuiddb. Lines may be damaged and in any order, as in
// uidlist.Parse. ErrUIDs.
func ParseUIDs(b []byte, limit uidlist.Limits) (UIDs, error) {
	l, err := uidlist.Parse(b, limit)
	if l.Version != 1 || l.Header.Validity == 0 || l.Header.Next == 0 {
		return UIDs{}, ErrUIDs
	}
	return UIDs{l.Header.Validity, l.Next(), l.Records, l.Bad}, err
}

// HeaderBytes are enough of a courierimapuiddb for ParseHeader.
const HeaderBytes = 64

// ParseHeader reads the first line alone. Next is as it stands there. ErrUIDs.
func ParseHeader(b []byte) (validity, next uint32, err error) {
	line, _, whole := strings.Cut(string(b), "\n")
	if !whole {
		return 0, 0, ErrUIDs
	}
	u, err := ParseUIDs([]byte(line+"\n"), uidlist.Limits{LineBytes: HeaderBytes})
	return u.Validity, u.Next, err
}
