package maildir

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys/faultfs"
	"roost/store"
)

// An unchanged mailbox opens from its snapshot: no directory is read and no message is
// looked at, and MODSEQs, flags and expunges are those of before.
func TestUnchangedMailboxOpensWithoutScan(t *testing.T) {
	mem := faultfs.NewMem()
	mem.Now = func() time.Time { return time.Now().Add(-time.Hour) }
	l := newLab(t, mem)
	l.must(l.open("boot"))
	var texts []string
	for range 50 {
		texts = append(texts, "Subject: x\n\nx\n")
	}
	_, err := l.add(store.Inbox, []imap.Flag{imap.FlagSeen, "Work"}, texts...)
	l.must(err)
	box, err := l.a.Hold(t.Context(), store.Inbox, true, nil)
	l.must(err)
	_, _, err = box.SetFlags(t.Context(), []imap.UID{7}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}})
	l.must(err)
	_, _, err = box.Expunge(t.Context(), nil)
	l.must(err)
	rows := func(m store.Mailbox) (out []store.Row) {
		v := m.View()
		for part, err := range m.Rows(t.Context(), v.UIDs.Slice(0, v.UIDs.Len()), 0) {
			l.must(err)
			out = append(out, part...)
		}
		return out
	}
	before, want := box.View(), rows(box)
	l.must(box.Close())
	l.must(l.a.Close())
	l.must(l.s.Close(context.Background()))

	l.must(l.open("boot"))
	defer l.close()
	var seen []string
	l.fs.FailWhere(func(_ int, call string) error {
		if strings.HasPrefix(call, "names cur") || strings.HasPrefix(call, "names new") || strings.HasPrefix(call, "stat cur/1") || strings.HasPrefix(call, "open cur/1") {
			seen = append(seen, call)
		}
		return nil
	})
	m, err := l.s.acquire(t.Context(), l.place(store.Inbox))
	l.must(err)
	defer l.s.release(m)
	if len(seen) > 0 {
		t.Errorf("the mailbox was scanned: %q", seen)
	}
	h := &hold{m: m}
	after, got := m.newest(), rows(h)
	if after.ModSeq != before.ModSeq || after.UIDNext != before.UIDNext || after.UIDs.Len() != 49 || !slices.Equal(got, want) {
		t.Errorf("opened with MODSEQ %d, UIDNEXT %d, %d messages; was %d, %d, %d", after.ModSeq, after.UIDNext, after.UIDs.Len(), before.ModSeq, before.UIDNext, before.UIDs.Len())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if uids, ok := m.vanished.between(before.ModSeq-1, before.ModSeq); !ok || !slices.Equal(uids, []imap.UID{7}) {
		t.Errorf("vanished: %v, %v", uids, ok)
	}
}

func (l *lab) place(n store.Name) place {
	l.Helper()
	p, err := l.a.(*account).place(n)
	l.must(err)
	return p
}
