package maildir

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"roost/maildir/fsys/faultfs"
	"roost/store"
)

// addEach appends each text in a batch of its own, all committed together.
func (l *lab) addEach(n store.Name, texts ...string) ([]store.Committed, error) {
	var list []store.Batch
	defer func() {
		for _, b := range list {
			b.Close()
		}
	}()
	for _, text := range texts {
		b, err := l.a.Batch(context.Background(), n)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
		if err := b.Add(context.Background(), store.Meta{Time: l.now}, strings.NewReader(text)); err != nil {
			return nil, err
		}
	}
	return l.a.Commit(context.Background(), list...), nil
}

func numbered(n int) (texts []string) {
	for i := range n {
		texts = append(texts, fmt.Sprintf("Subject: %d\r\n\r\n%d\r\n", i, i))
	}
	return texts
}

// togetherWith commits three batches while calls fail as fail says, and tells how many
// could not. What is answered must be true of each: what was taken is there under its UID,
// what was not is not.
func togetherWith(t *testing.T, what string, fail func(n int, call string) error) (bad int, whole bool) {
	t.Helper()
	texts := numbered(3)
	mem := faultfs.NewMem()
	mem.Now = func() time.Time { return time.Now().Add(-time.Hour) }
	l := newLab(t, mem)
	l.must(l.open("boot"))
	defer l.close()
	_, err := l.add(store.Inbox, nil, "Subject: first\n\nfirst\n") // what is done once
	l.must(err)
	l.fs.Reset()
	l.fs.FailWhere(fail)
	done, err := l.addEach(store.Inbox, texts...)
	l.fs.Reset()
	have, _, cerr := l.contents(store.Inbox)
	l.must(cerr)
	for i, d := range done {
		if d.Err != nil {
			bad++
		} else if got := have[d.Copied.To[0]]; got != texts[i] {
			t.Errorf("%s: UID %d is %q, not %q", what, d.Copied.To[0], got, texts[i])
		}
	}
	if err == nil && len(have) != 1+len(texts)-bad {
		t.Errorf("%s: %d failed, and there are %v", what, bad, have)
	}
	return bad, err == nil
}

// A call that fails once, whichever it is.
func TestBatchesTogetherAnswerTheTruth(t *testing.T) {
	for n := 1; ; n++ {
		failed := ""
		togetherWith(t, fmt.Sprint("call ", n), func(k int, call string) error {
			if k != n {
				return nil
			}
			failed = call
			return syscall.EIO
		})
		if failed == "" {
			break
		}
	}
}

// A file that cannot be synced fails its own batch; a link or a line fails none, for it is
// tried again; the syncs that are for all fail all.
func TestBatchesTogetherFailAlone(t *testing.T) {
	for _, tc := range []struct {
		call     string
		nth, bad int
	}{
		{"sync tmp/", 1, 1}, {"sync tmp/", 2, 1}, {"sync tmp/", 3, 1},
		{"link tmp/", 1, 0}, {"link tmp/", 2, 0}, {"link tmp/", 3, 0},
		{"write dovecot-uidlist ", 1, 0},
		{"sync new/", 1, 3}, {"sync dovecot-uidlist", 1, 3},
	} {
		n := 0
		bad, whole := togetherWith(t, fmt.Sprint(tc), func(_ int, call string) error {
			if strings.HasPrefix(call, tc.call) {
				if n++; n == tc.nth {
					return syscall.EIO
				}
			}
			return nil
		})
		if bad != tc.bad || !whole || n < tc.nth {
			t.Errorf("%v: %d failed, after %d such calls", tc, bad, n)
		}
	}
}

// One whose name cannot be had stays out, between two that are stored in their order.
func TestOneOfSeveralBatchesCannotBeLinked(t *testing.T) {
	l := newLab(t, faultfs.NewMem())
	l.must(l.open("boot"))
	defer l.close()
	var made []string
	l.fs.FailWhere(func(_ int, call string) error {
		word, what, _ := strings.Cut(call, " ")
		switch {
		case word == "create" && strings.HasPrefix(what, "tmp/"):
			made = append(made, what)
		case word == "link" && len(made) > 1 && strings.HasPrefix(what, made[1]+" "):
			return syscall.ENOSPC
		}
		return nil
	})
	done, err := l.addEach(store.Inbox, numbered(3)...)
	l.must(err)
	if done[0].Err != nil || done[1].Err == nil || done[2].Err != nil || done[0].Copied.To[0] >= done[2].Copied.To[0] {
		t.Errorf("%+v", done)
	}
	have, _, err := l.contents(store.Inbox)
	l.must(err)
	if len(have) != 2 || have[done[2].Copied.To[0]] != numbered(3)[2] {
		t.Errorf("%v", have)
	}
}
