package maildir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// Keywords that no letter is left for were appended to roost-keywords until it was longer
// than what is read of it: from then on the mailbox could not be opened.
func TestKeywordsThatWouldCloseTheMailbox(t *testing.T) {
	o := openOutside(t, 3, Options{Poll: true})
	set := func(uid imap.UID, flags ...imap.Flag) error {
		_, _, err := o.box.SetFlags(t.Context(), []imap.UID{uid}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: flags})
		return err
	}
	if err := set(1, manyKeywords(maxLetters)...); err != nil {
		t.Fatal(err)
	}
	m := o.box.(*hold).m
	m.files.Lock()
	m.keywords.limit = 2000
	m.files.Unlock()
	var refused error
	kept := 0
	for i := range 40 {
		if refused = set(imap.UID(i%3+1), imap.Flag(fmt.Sprintf("long-%s-%02d", strings.Repeat("x", 100), i))); refused != nil {
			break
		}
		kept++
	}
	if !errors.Is(refused, store.ErrLimit) || kept < 3 {
		t.Fatalf("%d were kept, then: %v", kept, refused)
	}
	if st, err := os.Stat(filepath.Join(o.root, extraFile)); err != nil || st.Size() > 2000 {
		t.Error(st.Size(), err)
	}
	before := keywordsOf(t, o.box)
	if err := set(2, imap.FlagFlagged); err != nil { // what needs no room still goes
		t.Error(err)
	}
	o.close()
	o.open(Options{Poll: true})
	if got := keywordsOf(t, o.box); fmt.Sprint(got) != fmt.Sprint(before) {
		t.Errorf("%q, before %q", got, before)
	}
}
