package maildir

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/maildir/uidlist"
	"roost/maildir/watch"
	"roost/maildir/watch/watchtest"
	"roost/store"
)

// A Dovecot that works in a mailbox holds its uidlist's lock by the path. Were the
// directory given another name meanwhile, the lock would stay in it, in the name of a
// living process, and hold up everybody for minutes.
func TestRenameAndDeleteWaitForWhoHoldsTheUidlist(t *testing.T) {
	eachLayout(t, func(t *testing.T, a *account) {
		for _, what := range []string{"rename", "delete"} {
			if err := a.Create(t.Context(), "a/b", nil); err != nil {
				t.Fatal(err)
			}
			s, err := a.trees[0].find("a/b")
			if err != nil {
				t.Fatal(err)
			}
			control, err := s.openControl()
			if err != nil {
				t.Fatal(err)
			}
			defer control.Close()
			sleep := a.s.env.Sleep
			if err := fsys.Replace(control, uidlist.LockName, "x", fmt.Appendf(nil, "%d:test.example", os.Getppid()), 0o600, false); err != nil {
				t.Fatal(err)
			}
			asks := make(chan struct{}, 1)
			a.s.env.Sleep = func(ctx context.Context, d time.Duration) error {
				select {
				case asks <- struct{}{}:
				default:
				}
				return sleep(ctx, d)
			}
			done := make(chan error)
			go func() { // ends with the command
				if what == "rename" {
					done <- a.Rename(t.Context(), "a", "c")
				} else {
					done <- a.Delete(t.Context(), "a/b")
				}
			}()
			select {
			case <-asks:
			case err := <-done:
				t.Fatalf("%s did not wait: %v", what, err)
			}
			if _, err := a.trees[0].find("a/b"); err != nil {
				t.Errorf("%s while another holds the lock: %v", what, err)
			}
			if err := control.Remove(uidlist.LockName); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if what == "delete" {
				continue
			}
			s, err = a.trees[0].find("c/b")
			if err != nil {
				t.Fatal(err)
			}
			moved, err := s.openControl()
			if err != nil {
				t.Fatal(err)
			}
			defer moved.Close()
			moved.Names(func(name string, _ fs.FileMode) bool {
				if strings.HasPrefix(name, uidlist.LockName) {
					t.Errorf("%s was left", name)
				}
				return true
			})
		}
	})
}

// A Dovecot that reads the directories holds the lock, and would expunge what it misses
// because it is renamed meanwhile: flags wait for it.
func TestFlagsWaitForADovecotThatReads(t *testing.T) {
	o := openOutside(t, 3, Options{Watch: &watchtest.Fake{}})
	lock := o.path(uidlist.LockName)
	for round := range 2 {
		o.must(os.WriteFile(lock, fmt.Appendf(nil, "%d:test.example", os.Getppid()), 0o600))
		asks := make(chan struct{}, 1)
		sleep := o.s.env.Sleep
		o.s.env.Sleep = func(ctx context.Context, d time.Duration) error {
			select {
			case asks <- struct{}{}:
			default:
			}
			return sleep(ctx, d)
		}
		done := make(chan error, 1)
		uid := imap.UID(1 + round)
		go func() { // ends with the command
			_, _, err := o.box.SetFlags(t.Context(), []imap.UID{uid}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagSeen}})
			done <- err
		}()
		select {
		case <-asks:
		case err := <-done:
			t.Fatalf("the flags did not wait: %v", err)
		}
		if _, err := os.Stat(o.path("cur/" + o.base(round) + ":2,")); err != nil {
			t.Errorf("renamed while another holds the lock: %v", err)
		}
		o.must(os.Remove(lock))
		o.must(<-done)
		if _, err := os.Stat(o.path("cur/" + o.base(round) + ":2,S")); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(lock); err == nil {
			t.Error("the lock was left")
		}
		o.s.env.Sleep = sleep
	}
}

// A message is seen, and while its UID waits for a Dovecot's lock that Dovecot moves it
// elsewhere: no UID is given to what is not there, and no client told of it.
func TestNoUIDForAMessageThatLeftMeanwhile(t *testing.T) {
	fake := &watchtest.Fake{}
	o := openOutside(t, 3, Options{Watch: fake})
	// A Dovecot is at work here: it gave a UID.
	o.deliver("1800000000.M0P9.host")
	f, err := os.OpenFile(o.path(uidlist.Name), os.O_WRONLY|os.O_APPEND, 0)
	o.must(err)
	_, err = f.WriteString("4 :1800000000.M0P9.host\n")
	o.must(err)
	o.must(f.Close())
	fake.Note(o.root, watch.Report{Names: []string{uidlist.Name}})
	fake.Note(o.path("new"), watch.Report{Names: []string{"1800000000.M0P9.host"}})
	o.must(o.box.Look(o.Context()))

	const base = "1800000001.M1P9.host"
	lock := o.path(uidlist.LockName)
	o.must(os.WriteFile(lock, fmt.Appendf(nil, "%d:test.example", os.Getppid()), 0o600))
	o.deliver(base)
	var once sync.Once
	waited := make(chan struct{})
	m := o.box.(*hold).m
	m.files.Lock() // under which the worker sleeps
	sleep := o.s.env.Sleep
	o.s.env.Sleep = func(ctx context.Context, d time.Duration) error {
		once.Do(func() {
			for _, name := range []string{"new/" + base, "cur/" + base + ":2,"} {
				os.Remove(o.path(name))
			}
			os.Remove(lock)
			close(waited)
		})
		return sleep(ctx, d)
	}
	m.files.Unlock()
	fake.Note(o.path("new"), watch.Report{Names: []string{base}})
	<-waited
	m.files.Lock() // whoever waited for the lock is done with it
	v, d, err := o.box.Advance(o.v, true)
	m.files.Unlock()
	o.must(err)
	if v.UIDs.Len() != 4 || v.UIDNext != 5 || len(d.Vanished) > 0 {
		t.Errorf("%d messages, UIDNEXT %d, vanished %v", v.UIDs.Len(), v.UIDNext, d.Vanished)
	}
	b, err := os.ReadFile(o.path(uidlist.Name))
	o.must(err)
	if strings.Contains(string(b), base) {
		t.Errorf("it has a line:\n%s", b)
	}
}

// A mailbox that is deleted goes to one place, ours and Dovecot's, and is removed there:
// two programs that delete at once meet in it.
func TestTwoProgramsDeleteAtOnce(t *testing.T) {
	eachLayout(t, func(t *testing.T, a *account) {
		b := openAccount(t, '/', a.who.Roots[0])
		var both sync.WaitGroup
		for i, one := range []*account{a, b} {
			both.Go(func() {
				for n := range 100 {
					name := store.Name(fmt.Sprintf("m%d-%d", i, n))
					if err := one.Create(t.Context(), name, nil); err != nil {
						t.Error(err)
					}
					if err := one.Delete(t.Context(), name); err != nil {
						t.Error(err)
					}
				}
			})
		}
		both.Wait()
	})
}
