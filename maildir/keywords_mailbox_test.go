package maildir

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys/faultfs"
	"roost/maildir/uidlist"
	"roost/maildir/watch"
	"roost/maildir/watch/watchtest"
	"roost/store"
)

// manyKeywords are more than have letters.
func manyKeywords(n int) (flags []imap.Flag) {
	for i := range n {
		flags = append(flags, imap.Flag(fmt.Sprintf("key-%02d", i)))
	}
	return flags
}

// keywordsOf are the keywords of each message, in order.
func keywordsOf(t *testing.T, box store.Mailbox) (out [][]string) {
	t.Helper()
	v := box.View()
	for rows, err := range box.Rows(t.Context(), v.UIDs.Slice(0, v.UIDs.Len()), 0) {
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			out = append(out, slices.Sorted(slices.Values(r.Keywords.Names())))
		}
	}
	return out
}

// The keywords for which no letter is left live through all that happens to a message:
// reopening with and without the caches, another program's flags, copies and moves.
func TestMoreKeywordsThanLetters(t *testing.T) {
	o := openOutside(t, 3, Options{Poll: true})
	set := func(box store.Mailbox, uid imap.UID, op imap.StoreFlagsOp, flags ...imap.Flag) {
		t.Helper()
		if _, _, err := box.SetFlags(t.Context(), []imap.UID{uid}, store.FlagOp{Op: op, Flags: flags}); err != nil {
			t.Fatal(err)
		}
	}
	many := manyKeywords(40)
	set(o.box, 1, imap.StoreFlagsAdd, many...)
	set(o.box, 2, imap.StoreFlagsAdd, "key-39", "KEY-38", "key-01")
	set(o.box, 1, imap.StoreFlagsDel, "key-00", "key-30", "Key-31")
	var all []string
	for _, k := range many {
		if k != "key-00" && k != "key-30" && k != "key-31" {
			all = append(all, string(k))
		}
	}
	want := [][]string{all, {"key-01", "key-38", "key-39"}, nil}
	check := func(when string, box store.Mailbox, want [][]string) {
		t.Helper()
		got := keywordsOf(t, box)
		if !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%s: %q\nwant %q", when, got, want)
		}
	}
	check("set", o.box, want)
	reopen := func() { t.Helper(); o.close(); o.open(Options{Poll: true}) }
	reopen()
	check("reopened", o.box, want)
	o.close()
	removeCaches(t, o.root)
	o.open(Options{Poll: true})
	check("without caches", o.box, want)

	// Another program, which knows the letters only, flags one.
	m := o.box.(*hold).m
	m.files.Lock() // the worker moves files
	i, _ := m.table.find(1)
	from := m.table.fileName(i)
	m.files.Unlock()
	to := withFlags(from, store.FlagFlagged, func() letterSet { _, l := flagsOf(from); return l }())
	o.must(os.Rename(o.path("cur/"+from), o.path("cur/"+to)))
	o.must(o.box.Look(t.Context()))
	check("flagged by another", o.box, want)
	if r := rowOf(t, o.box, 1); r.Flags&store.FlagFlagged == 0 {
		t.Error("the other's flag is not seen")
	}

	o.must(o.a.Create(t.Context(), "Other", nil))
	if _, err := o.box.Copy(t.Context(), []imap.UID{1, 2, 3}, "Other"); err != nil {
		t.Fatal(err)
	}
	if _, err := o.box.Move(t.Context(), []imap.UID{1, 2}, "Other"); err != nil {
		t.Fatal(err)
	}
	check("moved away", o.box, [][]string{nil})
	other, err := o.a.Hold(t.Context(), "Other", true, func() {})
	o.must(err)
	check("copied and moved", other, [][]string{want[0], want[1], nil, want[0], want[1]})
	other.Close()
	reopen()
	other, err = o.a.Hold(t.Context(), "Other", true, func() {})
	o.must(err)
	defer other.Close()
	check("reopened after that", other, [][]string{want[0], want[1], nil, want[0], want[1]})

	// What no message has any more goes from the file when it is mostly that.
	for i := range 150 {
		set(other, 3, imap.StoreFlagsAdd, manyKeywords(40)[39-i%2])
		set(other, 3, imap.StoreFlagsDel, manyKeywords(40)[39-i%2])
	}
	b, err := os.ReadFile(o.path(".Other/" + extraFile))
	o.must(err)
	if n := strings.Count(string(b), "\n"); n > 1+2*4+64+2 {
		t.Errorf("%d lines for 4 messages", n)
	}
	check("after many changes", other, [][]string{want[0], want[1], nil, want[0], want[1]})
}

// A mailbox does not take keywords without end, and says so.
func TestKeywordsHaveAnEnd(t *testing.T) {
	o := openOutside(t, 1, Options{Poll: true})
	add := func(flags []imap.Flag) error {
		_, _, err := o.box.SetFlags(t.Context(), []imap.UID{1}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: flags})
		return err
	}
	all := manyKeywords(maxKeywords + 1)
	o.must(add(all[:maxKeywords]))
	if !o.box.Info().KeywordsEnd {
		t.Error(`PERMANENTFLAGS says \*`)
	}
	if err := add(all); !errors.Is(err, store.ErrLimit) {
		t.Errorf("one more: %v", err)
	}
	if got := keywordsOf(t, o.box)[0]; len(got) != maxKeywords {
		t.Errorf("%d keywords", len(got))
	}
}

// The file is text that a crash may have torn, and somebody may have deleted.
func TestRoostKeywordsThatAreDamaged(t *testing.T) {
	for what, damage := range map[string]func(b []byte) []byte{
		"torn":    func(b []byte) []byte { return append(b, "key-27 key-28 :1700"...) },
		"garbage": func(b []byte) []byte { return append(b, "\x00\xff nonsense\n:\n : \n"...) },
		"empty":   func(b []byte) []byte { return nil },
		"foreign": func(b []byte) []byte { return []byte("something else\n") },
	} {
		t.Run(what, func(t *testing.T) {
			o := openOutside(t, 2, Options{Poll: true})
			_, _, err := o.box.SetFlags(t.Context(), []imap.UID{1, 2}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: manyKeywords(30)})
			o.must(err)
			o.close()
			b, err := os.ReadFile(o.path(extraFile))
			o.must(err)
			o.must(os.WriteFile(o.path(extraFile), damage(b), 0o600))
			removeCaches(t, o.root)
			o.open(Options{Poll: true})
			want := 30
			if what == "empty" || what == "foreign" {
				want = maxLetters
			}
			for _, got := range keywordsOf(t, o.box) {
				if len(got) != want {
					t.Errorf("%d keywords, want %d", len(got), want)
				}
			}
			_, _, err = o.box.SetFlags(t.Context(), []imap.UID{1}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: manyKeywords(35)})
			o.must(err)
			o.close()
			removeCaches(t, o.root)
			o.open(Options{Poll: true})
			if got := keywordsOf(t, o.box); len(got[0]) != 35 || len(got[1]) != want {
				t.Errorf("%d and %d keywords after the repair", len(got[0]), len(got[1]))
			}
		})
	}
}

// A letter that was seen before its name is called by it as soon as that is known, also
// where the name was read because a STORE needed a letter.
func TestLetterWhoseNameIsLearnedByStoreIsNotUnknownForEver(t *testing.T) {
	o := openOutside(t, 2, Options{Poll: true})
	o.must(os.Rename(o.path("cur/"+o.base(0)+":2,"), o.path("cur/"+o.base(0)+":2,a")))
	o.must(o.box.Look(t.Context()))
	if got := keywordsOf(t, o.box); fmt.Sprint(got) != "[[unknown-0] []]" {
		t.Fatalf("keywords %v", got)
	}
	o.must(os.WriteFile(o.path(lettersFile), []byte("0 Work\n"), 0o600))
	_, _, err := o.box.SetFlags(t.Context(), []imap.UID{2}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{"Work"}})
	o.must(err)
	o.must(o.box.Look(t.Context()))
	if got := keywordsOf(t, o.box); fmt.Sprint(got) != "[[Work] [Work]]" {
		t.Errorf("keywords %v", got)
	}
}

// Another program puts letters into file names and writes their keywords behind, as Dovecot
// does. The event of the keywords comes last: no client is told of "unknown-0" by then.
func TestLetterIsCalledByItsNameBeforeTheEventOfTheName(t *testing.T) {
	const base = "1795500001.M1P1.dovecot"
	write := func(d dirs, text string) {
		t.Helper()
		f, err := d.box.Create(lettersFile+".lock", 0o600)
		if err == nil {
			_, err = f.Write([]byte(text))
		}
		if err = errors.Join(err, f.Close(), d.box.Rename(lettersFile+".lock", d.box, lettersFile)); err != nil {
			t.Fatal(err)
		}
	}
	for name, event := range map[string]func(d dirs, s *Store, m *mailbox, theirs store.Account){
		"delivery": func(d dirs, s *Store, m *mailbox, _ store.Account) {
			makeFile(d.cur, base+":2,Sa")
			write(d, "0 Work\n")
			s.watch.(*watchtest.Fake).Note("/Maildir/cur", watch.Report{Names: []string{base + ":2,Sa"}})
		},
		"delivery that is looked for": func(d dirs, s *Store, m *mailbox, _ store.Account) {
			makeFile(d.cur, base+":2,Sa")
			s.pause = func(time.Duration) {}
			f := m.st.opt.FS.(*faultfs.FS)
			f.FailWhere(func(_ int, call string) error {
				if call == "names cur/" {
					write(d, "0 Work\n")
				}
				return nil
			})
			s.watch.(*watchtest.Fake).Note("/Maildir/cur", watch.Report{Look: true})
		},
		"delivery by a program that holds the lock": func(d dirs, s *Store, m *mailbox, _ store.Account) {
			makeFile(d.cur, base+":2,Sa")
			makeFile(d.box, uidlist.LockName)
			s.env.Sleep = func(context.Context, time.Duration) error {
				write(d, "0 Work\n")
				return d.box.Remove(uidlist.LockName)
			}
			s.watch.(*watchtest.Fake).Note("/Maildir/cur", watch.Report{Names: []string{base + ":2,Sa"}})
		},
		"mark": func(d dirs, s *Store, m *mailbox, _ store.Account) {
			mark(t, d, "Sa")
			write(d, "0 Work\n")
			m.doubt = true
		},
		"mark by a program that holds the lock": func(d dirs, s *Store, m *mailbox, _ store.Account) {
			to := mark(t, d, "Sa")
			makeFile(d.box, uidlist.LockName)
			s.env.Sleep = func(context.Context, time.Duration) error {
				write(d, "0 Work\n")
				return d.box.Remove(uidlist.LockName)
			}
			s.watch.(*watchtest.Fake).Note("/Maildir/cur", watch.Report{Names: []string{to}})
		},
		"message of another process": func(d dirs, s *Store, m *mailbox, theirs store.Account) {
			appendOne(t, theirs, []imap.Flag{imap.FlagSeen, "Work"})
			makeFile(d.new, "1795500002.M1P1.mta")
			s.watch.(*watchtest.Fake).Note("/Maildir/new", watch.Report{Names: []string{"1795500002.M1P1.mta"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs, d, ours, theirs := twoStores(t)
			appendOne(t, ours, []imap.Flag{imap.FlagSeen})
			box, err := ours.Hold(t.Context(), store.Inbox, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer box.Close()
			m := box.(*hold).m
			v := box.View()
			m.files.Lock()
			event(d, m.st, m, theirs)
			m.files.Unlock()
			for len(slices.Concat(keywordsOf(t, box)...)) == 0 {
				if err := box.Look(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			fs.FailWhere(nil)
			if got := slices.Concat(keywordsOf(t, box)...); fmt.Sprint(got) != "[Work]" {
				t.Errorf("keywords %v", got)
			}
			_, delta, err := box.Advance(v, true)
			m.mu.Lock()
			times := len(m.changed.entries)
			m.mu.Unlock()
			if err != nil || times > 1 {
				t.Errorf("it was told of %d times: %+v, %v", times, delta, err)
			}
		})
	}
}

// mark changes the name of the one message.
func mark(t *testing.T, d dirs, flags string) (to string) {
	t.Helper()
	var from string
	if err := d.cur.Names(func(name string, _ iofs.FileMode) bool { from = name; return false }); err != nil {
		t.Fatal(err)
	}
	to = baseOf(from) + infoMark + flags
	if err := d.cur.Rename(from, d.cur, to); err != nil {
		t.Fatal(err)
	}
	return to
}

// A letter whose keyword is written long after gets its name then, with a MODSEQ that tells
// clients: by the event, by a look where no events come, and when the mailbox is opened next.
func TestLetterThatIsNamedLater(t *testing.T) {
	for _, way := range []string{"event", "look", "open"} {
		t.Run(way, func(t *testing.T) {
			opt := Options{Poll: way != "event", PollEvery: time.Hour}
			o := openOutside(t, 2, opt)
			o.must(os.Rename(o.path("cur/"+o.base(0)+":2,"), o.path("cur/"+o.base(0)+":2,a")))
			for fmt.Sprint(keywordsOf(t, o.box)) != "[[unknown-0] []]" {
				o.must(o.box.Look(t.Context()))
			}
			before := rowOf(t, o.box, 1).ModSeq
			if way == "open" {
				o.close()
			}
			o.must(os.WriteFile(o.path(lettersFile+".lock"), []byte("0 Work\n"), 0o600))
			o.must(os.Rename(o.path(lettersFile+".lock"), o.path(lettersFile)))
			switch way {
			case "event":
				for fmt.Sprint(keywordsOf(t, o.box)) == "[[unknown-0] []]" {
					runtime.Gosched()
				}
			case "look":
				o.must(o.box.Look(t.Context()))
			case "open":
				o.open(opt)
			}
			if got := keywordsOf(t, o.box); fmt.Sprint(got) != "[[Work] []]" {
				t.Errorf("keywords %v", got)
			}
			if now := rowOf(t, o.box, 1).ModSeq; now <= before {
				t.Errorf("MODSEQ %d, and it was %d before", now, before)
			}
		})
	}
}
