package session

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
)

// A SELECT whose QRESYNC fails leaves nothing selected, whatever it has told so far.
func TestSelectThatCannotResyncSelectsNothing(t *testing.T) {
	w, p := watchedMailbox(t, small, small)
	p.ok("ENABLE QRESYNC")
	validity := ""
	for _, line := range p.ok("SELECT INBOX") {
		if _, rest, ok := strings.Cut(line, "[UIDVALIDITY "); ok {
			validity, _, _ = strings.Cut(rest, "]")
		}
	}
	w.vanished = errors.New("no log")
	if _, tagged := p.do("SELECT INBOX (QRESYNC (%s 1))", validity); !strings.HasPrefix(tagged, "NO [SERVERBUG]") {
		t.Fatalf("answer %q", tagged)
	}
	if _, tagged := p.do("FETCH 1 UID"); !strings.HasPrefix(tagged, "BAD") {
		t.Errorf("FETCH after it: %q", tagged)
	}
	w.vanished = nil
	p.ok("SELECT INBOX (QRESYNC (%s 1))", validity)
}

// Of many ranges and many vanished messages each range costs what lies in it: all by all
// would be 10^11 steps here.
func TestEarlierVanishedAmongManyRanges(t *testing.T) {
	const n = 300_000
	var vanished []imap.UID
	var got imap.UIDSet
	for i := range imap.UID(n) {
		vanished = append(vanished, 2*i+1)
	}
	for i := range imap.UID(n) {
		got = appendListed(got, vanished, imap.UIDRange{Start: 2*i + 1, Stop: 2*i + 1})
	}
	if len(got) != n {
		t.Errorf("%d ranges", len(got))
	}
}

func TestEarlierVanished(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		var vanished []imap.UID
		for uid := range imap.UID(30) {
			if rnd.IntN(3) == 0 {
				vanished = append(vanished, uid+1)
			}
		}
		var got imap.UIDSet
		var want []imap.UID
		for at := imap.UID(1); at < 32; {
			r := imap.UIDRange{Start: at + imap.UID(rnd.IntN(4))}
			r.Stop = r.Start + imap.UID(rnd.IntN(5))
			at = r.Stop + 1
			got = appendListed(got, vanished, r)
			for _, uid := range vanished {
				if r.Start <= uid && uid <= r.Stop {
					want = append(want, uid)
				}
			}
		}
		nums, ok := got.Nums()
		if len(want) > 0 && (!ok || !slices.Equal(nums, want)) {
			t.Fatalf("of %v: got %v, want %v", vanished, got, want)
		}
	}
}
