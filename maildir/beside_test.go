package maildir

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/maildir/uidlist"
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
