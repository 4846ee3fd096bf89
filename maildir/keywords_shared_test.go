package maildir

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// another opens the mailbox in a second process.
func (o *outside) another(opt Options) *outside {
	o.Helper()
	p := &outside{T: o.T, root: o.root, bell: make(chan struct{}, 1)}
	opt.PID = os.Getppid() // one that lives: locks of the dead are taken away
	p.open(opt)
	return p
}

func (o *outside) flag(op imap.StoreFlagsOp, uid imap.UID, flags ...imap.Flag) {
	o.Helper()
	_, _, err := o.box.SetFlags(context.Background(), []imap.UID{uid}, store.FlagOp{Op: op, Flags: flags})
	o.must(err)
}

// Of two processes each changes keywords without letters that the other has set: what the
// other did to the same message stays.
func TestKeywordsWithoutLettersOfAnotherProcessAreKept(t *testing.T) {
	o := openOutside(t, 2, Options{Poll: true})
	many := manyKeywords(34)
	o.flag(imap.StoreFlagsAdd, 2, many...) // no letter is left
	o.flag(imap.StoreFlagsAdd, 1, many[30], many[31])
	p := o.another(Options{Poll: true})
	o.flag(imap.StoreFlagsAdd, 1, many[32])
	p.flag(imap.StoreFlagsDel, 1, many[30])
	o.flag(imap.StoreFlagsAdd, 1, many[33])
	p.flag(imap.StoreFlagsAdd, 1, imap.FlagSeen)
	o.flag(imap.StoreFlagsDel, 1, many[33])
	want := []string{"key-31", "key-32"}
	for _, box := range []*outside{o, p} {
		box.must(box.box.Look(t.Context()))
		if got := keywordsOf(t, box.box)[0]; !slices.Equal(got, want) {
			t.Errorf("one process sees %q, want %q", got, want)
		}
	}
	p.close()
	o.close()
	removeCaches(t, o.root)
	o.open(Options{Poll: true})
	if got := keywordsOf(t, o.box)[0]; !slices.Equal(got, want) {
		t.Errorf("opened again: %q, want %q", got, want)
	}
}

// Both write at once, so often that the file is written anew again and again.
func TestKeywordsWithoutLettersOfTwoProcessesAtOnce(t *testing.T) {
	o := openOutside(t, 4, Options{Poll: true})
	many := manyKeywords(32)
	o.flag(imap.StoreFlagsAdd, 4, many...)
	p := o.another(Options{Poll: true})
	const rounds = 150
	var wg sync.WaitGroup
	for i, box := range []*outside{o, p} {
		wg.Go(func() {
			uid := imap.UID(i + 1)
			for n := range rounds {
				op := imap.StoreFlagsAdd
				if n%2 == 1 {
					op = imap.StoreFlagsDel
				}
				if _, _, err := box.box.SetFlags(context.Background(), []imap.UID{uid}, store.FlagOp{Op: op, Flags: []imap.Flag{many[30]}}); err != nil {
					t.Error(err)
				}
			}
			if _, _, err := box.box.SetFlags(context.Background(), []imap.UID{uid}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: many[26:30]}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	p.close()
	o.close()
	removeCaches(t, o.root)
	o.open(Options{Poll: true})
	for i, got := range keywordsOf(t, o.box)[:2] {
		if fmt.Sprint(got) != "[key-26 key-27 key-28 key-29]" {
			t.Errorf("message %d has %q", i+1, got)
		}
	}
}

// A mailbox has room for new keywords again when the messages with the old ones are gone.
func TestKeywordsOfExpungedMessagesMakeRoom(t *testing.T) {
	const messages = 30
	o := openOutside(t, messages, Options{Poll: true})
	all := manyKeywords(maxKeywords)
	o.flag(imap.StoreFlagsAdd, messages, all[:maxLetters]...)
	rest := all[maxLetters:]
	for i := range messages - 1 {
		from, to := i*len(rest)/(messages-1), (i+1)*len(rest)/(messages-1)
		o.flag(imap.StoreFlagsAdd, imap.UID(i+1), append([]imap.Flag{imap.FlagDeleted}, rest[from:to]...)...)
	}
	if !o.box.Info().KeywordsEnd {
		t.Fatal("the mailbox is not full")
	}
	_, _, err := o.box.Expunge(t.Context(), nil)
	o.must(err)
	if o.box.Info().KeywordsEnd {
		t.Error("the mailbox is still full, so that no client would try")
	}
	o.flag(imap.StoreFlagsAdd, messages, "fresh")
	if got := keywordsOf(t, o.box)[0]; len(got) != maxLetters+1 || !slices.Contains(got, "fresh") {
		t.Errorf("keywords %q", got)
	}
	if o.box.Info().KeywordsEnd {
		t.Error(`PERMANENTFLAGS has no \*`)
	}
}

// The line of a message that another process is about to put into the mailbox survives
// that the file is written anew meanwhile.
func TestKeywordsOfAMessageOnItsWay(t *testing.T) {
	o := openOutside(t, 2, Options{Poll: true})
	many := manyKeywords(31)
	o.flag(imap.StoreFlagsAdd, 1, many...)
	b, err := os.ReadFile(o.path(extraFile))
	o.must(err)
	o.must(os.WriteFile(o.path(extraFile), append(b, "key-30 :"+o.base(9)+"\n"...), 0o600))
	before, err := os.Stat(o.path(extraFile))
	o.must(err)
	for written := false; !written; { // until the file is another
		o.flag(imap.StoreFlagsAdd, 2, many[29])
		o.flag(imap.StoreFlagsDel, 2, many[29])
		now, err := os.Stat(o.path(extraFile))
		o.must(err)
		written = !os.SameFile(before, now)
	}
	o.deliver(o.base(9))
	o.must(o.box.Look(t.Context()))
	if got := keywordsOf(t, o.box)[2]; fmt.Sprint(got) != "[key-30]" {
		t.Errorf("keywords %q", got)
	}
}
