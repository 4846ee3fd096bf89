package session

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// Whatever was done, it is told in few words, which another process takes for such.
func TestBriefIsBounded(t *testing.T) {
	var uids []imap.UID
	for i := range 100_000 {
		uids = append(uids, imap.UID(math.MaxUint32-200_000+2*i))
	}
	for _, name := range []string{"", "INBOX", strings.Repeat("x", 100_000), strings.Repeat("\xff", 999), strings.Repeat("\u65e5", 5000)} {
		d := Deed{What: "flags", Mailbox: store.Name(name), To: store.Name(name), UIDs: uids, Op: "+"}
		for range 100 {
			d.Flags = append(d.Flags, imap.Flag(strings.Repeat("y", 100)))
		}
		text, err := json.Marshal(d.Brief())
		var b Brief
		if err == nil {
			err = json.Unmarshal(text, &b)
		}
		if err == nil {
			err = b.Check()
		}
		if err != nil || len(text) > 8000 || b.Messages != len(uids) || !strings.HasSuffix(b.UIDs, ",...") || !strings.HasPrefix(b.UIDs, "4294767295,4294767297,") {
			t.Errorf("%.20q: %v, %d bytes, %+v", name, err, len(text), b)
		}
	}
	one := Deed{What: "expunge", UIDs: uids[:1]}
	if b := one.Brief(); b.UIDs != "4294767295" || b.Check() != nil {
		t.Errorf("%+v", b)
	}
}
