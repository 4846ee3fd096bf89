package maildir

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/maildir/fsys/faultfs"
	"roost/maildir/index"
	"roost/store"
)

// closedMailbox is a tree whose INBOX was closed well and is old enough to be believed, with
// gaps among its UIDs, mail in new/, and flags and keywords of all kinds.
func closedMailbox(t *testing.T) (d *diary, before store.View, st store.Status, rows map[imap.UID]string) {
	t.Helper()
	d = newDiary(t, faultfs.NewMem())
	d.must(d.start("boot"))
	for i := range 12 {
		_, err := d.add(store.Inbox, []imap.Flag{imap.FlagSeen, imap.Flag(fmt.Sprint("kw", i%30))}[:i%3], fmt.Sprintf("Subject: %d\r\n\r\nx\r\n", i))
		d.must(err)
	}
	set := func(flag imap.Flag, uids ...imap.UID) {
		_, _, err := d.box.SetFlags(t.Context(), uids, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{flag}})
		d.must(err)
	}
	set(imap.FlagSeen, 1, 2)
	set(imap.FlagDeleted, 4, 9)
	_, _, err := d.box.Expunge(t.Context(), nil)
	d.must(err)
	set(imap.FlagDeleted, 6)
	m := d.box.(*hold).m
	m.files.Lock()
	m.tidyNew(len(m.inNew)) // as the worker does, when it comes to it
	m.files.Unlock()
	d.box.Close()
	d.outside(d.mem, "", "new/1795400000.M1P1.mta") // that nobody has taken
	d.rest()
	d.rest() // the list, which has the new mail now, is old enough too
	d.box = nil
	a, ok := d.a.(*account)
	if !ok {
		t.Fatal("not an account")
	}
	st, err = a.Status(t.Context(), store.Inbox, false)
	d.must(err)
	m, err = d.s.acquire(t.Context(), d.place(store.Inbox))
	d.must(err)
	before = m.newest()
	now, err := d.now(&hold{m: m})
	d.must(err)
	d.s.release(m)
	d.close()
	d.wall.pass(10 * time.Second)
	return d, before, st, now.rows
}

// opened opens INBOX as its summary tells it.
func (d *diary) opened(boot string) *hold {
	d.Helper()
	d.must(d.start(boot))
	h := d.box.(*hold)
	if !h.m.unread.pending.Load() {
		snap, err := index.Load(h.m.dirs.index, indexLimit, nil)
		d.Fatalf("it was not opened by its summary: %+v, %v\n%s", snap.Head, err, d.log.String())
	}
	return h
}

// SELECT and STATUS after a restart read no row, and tell what they told before; who asks for
// rows finds them.
func TestRestartAnswersBeforeRowsAreRead(t *testing.T) {
	d, before, status, rows := closedMailbox(t)
	h := d.opened("boot")
	v, delta, err := h.Advance(store.View{}, true)
	d.must(err)
	if v.ModSeq != before.ModSeq || v.UIDNext != before.UIDNext || !slices.Equal(v.UIDs.Slice(0, 99), before.UIDs.Slice(0, 99)) {
		t.Errorf("told %+v, was %+v", v, before)
	}
	if !slices.Equal(delta.Recent, []imap.UID{13}) {
		t.Errorf("recent: %v", delta.Recent)
	}
	if got := h.FirstUnseen(); got != 7 {
		t.Errorf("first unseen: %d", got)
	}
	st, err := h.m.status()
	d.must(err)
	status.Recent = 0 // this session has them
	if st != status {
		t.Errorf("status %+v, was %+v", st, status)
	}
	if info := h.Info(); !slices.Contains(info.Keywords, "kw2") || info.ReadOnly || info.NoModSeq {
		t.Errorf("%+v", info)
	}
	if !h.m.unread.pending.Load() {
		t.Error("rows were read for that")
	}
	if now, err := d.now(h); err != nil || !maps.Equal(now.rows, rows) {
		t.Errorf("rows %v, %v, were %v", now.rows, err, rows)
	}
	if h.m.unread.pending.Load() {
		t.Error("rows are there and yet to be read")
	}
	to, delta, err := h.Advance(v, true)
	if err != nil || len(delta.Changed)+len(delta.Vanished) > 0 || delta.Grown || to.ModSeq != v.ModSeq {
		t.Errorf("told of rows that did not change: %+v, %v", delta, err)
	}
	if gone, exact, err := h.Vanished(before.ModSeq-1, to); err != nil || !exact || len(gone) > 0 {
		t.Errorf("vanished: %v, exact %v, %v", gone, exact, err)
	}
	if !strings.HasPrefix(d.files(d.mem)["1795400000.M1P1.mta"], "cur/") {
		t.Error("new mail stays in new/")
	}
	d.stop()
}

// Every way to ask for a row waits for them: each method of store.Mailbox is here, or among
// those that need none.
func TestAllThatNeedsRowsReadsThem(t *testing.T) {
	needing := map[string]func(h *hold) (ok bool, err error){
		"Having": func(h *hold) (bool, error) {
			uids, err := h.Having(t.Context(), h.View().UIDs.Slice(0, 99), store.FlagDeleted, store.FlagDeleted)
			return slices.Equal(uids, []imap.UID{6}), err
		},
		"Candidates": func(h *hold) (bool, error) {
			_, _, err := h.Candidates(t.Context(), h.View(), []byte("subject"))
			return true, err
		},
		"Advance": func(h *hold) (bool, error) {
			_, _, err := h.Advance(h.View(), true)
			return true, err
		},
		"Rows": func(h *hold) (bool, error) {
			for rows, err := range h.Rows(t.Context(), []imap.UID{1}, 0) {
				return len(rows) == 1, err
			}
			return false, nil
		},
		"Message": func(h *hold) (bool, error) {
			msg, err := h.Message(t.Context(), 1)
			if err == nil {
				msg.Close()
			}
			return true, err
		},
		"SetFlags": func(h *hold) (bool, error) {
			rows, _, err := h.SetFlags(t.Context(), []imap.UID{1}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagFlagged}})
			return len(rows) == 1, err
		},
		"Expunge": func(h *hold) (bool, error) {
			gone, _, err := h.Expunge(t.Context(), nil)
			return slices.Equal(gone, []imap.UID{6}), err
		},
		"Copy": func(h *hold) (bool, error) {
			c, err := h.Copy(t.Context(), []imap.UID{1, 2}, "Archive")
			return len(c.To) == 2, err
		},
		"Move": func(h *hold) (bool, error) {
			c, err := h.Move(t.Context(), []imap.UID{1, 2}, "Archive")
			return len(c.To) == 2, err
		},
		"Vanished": func(h *hold) (bool, error) {
			h.m.mu.Lock()
			since := h.m.vanished.since
			h.m.mu.Unlock()
			gone, exact, err := h.Vanished(since, h.View())
			return exact && slices.Equal(gone, []imap.UID{4, 9}), err
		},
		"Changed": func(h *hold) (bool, error) {
			uids, known, err := h.Changed(h.View().ModSeq, h.View())
			return known && len(uids) == 0, err
		},
		"Measure": func(h *hold) (bool, error) {
			rows := []store.Row{{UID: 1, Internal: store.Unmeasured}}
			err := h.Measure(t.Context(), rows)
			return rows[0].Internal != store.Unmeasured, err
		},
		"Note": func(h *hold) (bool, error) {
			h.Note(1, 1, []byte("kept"))
			for _, b := range h.Notes(t.Context(), []imap.UID{1}, 1) {
				return string(b) == "kept", nil
			}
			return false, nil
		},
		"status with sizes": func(h *hold) (bool, error) {
			n, err := h.m.totalSize(t.Context())
			return n > 100, err
		},
		"Look": func(h *hold) (bool, error) {
			h.m.watch.young.Store(false)
			return true, h.Look(t.Context())
		},
		"append": func(h *hold) (bool, error) {
			b, err := h.account.Batch(t.Context(), store.Inbox)
			if err != nil {
				return false, err
			}
			defer b.Close()
			if err := b.Add(t.Context(), store.Meta{}, strings.NewReader("x\r\n")); err != nil {
				return false, err
			}
			c, err := b.Commit(t.Context())
			return slices.Equal(c.To, []imap.UID{14}), err
		},
	}
	needless := []string{"Info", "View", "FirstUnseen", "Notes", "Close", "Coming", "Settled"}
	all := reflect.TypeFor[store.Mailbox]()
	for i := range all.NumMethod() {
		name := all.Method(i).Name
		if needing[name] == nil && !slices.Contains(needless, name) {
			t.Errorf("whether %s needs rows is not tested", name)
		}
	}
	for name, do := range needing {
		t.Run(name, func(t *testing.T) {
			d, _, _, _ := closedMailbox(t)
			h := d.opened("boot")
			if ok, err := do(h); !ok || err != nil {
				t.Errorf("ok %v, %v", ok, err)
			}
			if h.m.unread.pending.Load() {
				t.Error("it did without")
			}
			d.stop()
		})
	}
}

// editIndex writes roost.index as another program does.
func (d *diary) editIndex(edit func(b []byte) []byte) {
	d.Helper()
	box, err := d.mem.Root("/Maildir")
	d.must(err)
	b, err := fsys.ReadFile(box, index.Name, 1<<20)
	d.must(err)
	d.must(fsys.Replace(box, index.Name, index.Name+".new", edit(bytes.Clone(b)), 0o600, true))
}

// Rows that prove to be damaged behind the answer are read from the directories: what was
// told stays true, and every row is told anew.
func TestRowsDamagedBehindTheAnswer(t *testing.T) {
	for at := 60; ; at += 97 {
		d, before, status, rows := closedMailbox(t)
		size := 0
		d.editIndex(func(b []byte) []byte {
			if size = len(b); at < size-300 {
				b[at] ^= 0x20
			}
			return b
		})
		if at >= size-300 { // what follows is the summary's own
			if at < 500 {
				t.Fatalf("an index of %d bytes", size)
			}
			return
		}
		h := d.opened("boot")
		v, _, err := h.Advance(store.View{}, true)
		d.must(err)
		h.m.whole()
		to, delta, err := h.Advance(v, true)
		d.must(err)
		if len(delta.Vanished) > 0 || delta.Grown || len(delta.Changed) != v.UIDs.Len() || to.ModSeq <= before.ModSeq || to.UIDs.Len() != before.UIDs.Len() {
			t.Fatalf("byte %d: %+v on the way to %+v from %+v", at, delta, to, before)
		}
		for _, r := range delta.Changed {
			if r.ModSeq <= before.ModSeq || r.ModSeq > to.ModSeq {
				t.Fatalf("byte %d: UID %d has MODSEQ %d, told were %d and %d", at, r.UID, r.ModSeq, before.ModSeq, to.ModSeq)
			}
		}
		if now, err := d.now(h); err != nil || !maps.Equal(now.rows, rows) {
			t.Fatalf("byte %d: rows %v, %v, were %v", at, now.rows, err, rows)
		}
		st, err := h.m.status()
		d.must(err)
		if st.Unseen != status.Unseen || st.Deleted != status.Deleted || st.UIDValidity != status.UIDValidity || st.ID != status.ID || st.UIDNext != status.UIDNext || h.FirstUnseen() != 7 {
			t.Fatalf("byte %d: status %+v, was %+v", at, st, status)
		}
		if _, exact, _ := h.Vanished(before.ModSeq-1, to); exact {
			t.Fatalf("byte %d: the list of expunges was lost with the index", at)
		}
		if !strings.Contains(d.log.String(), "index_damaged") {
			t.Fatalf("byte %d: the log says nothing: %s", at, d.log.String())
		}
		// It is as good as any from now on.
		_, err = d.add(store.Inbox, nil, "x\r\n")
		d.must(err)
		after, delta, err := h.Advance(to, true)
		if err != nil || !delta.Grown || after.UIDs.Len() != to.UIDs.Len()+1 {
			t.Fatalf("byte %d: a message more: %+v, %v", at, delta, err)
		}
		indexed(d.box) // what the worker does to it, before it is left alone
		d.rest()
		d.rest()
		d.stop()
		d.wall.pass(10 * time.Second)
		d.lab.now = d.lab.now.Add(time.Second)
		h = d.opened("boot")
		if now, err := d.now(h); err != nil || len(now.rows) != len(rows)+1 {
			t.Fatalf("byte %d: opened again: %v, %v", at, now.rows, err)
		}
		d.stop()
	}
}

// damaged damages the rows.
func (d *diary) damaged() {
	d.editIndex(func(b []byte) []byte { b[100] ^= 1; return b })
}

// What changes between the answer and the rows is told as changes, be the rows damaged or not.
func TestChangesBetweenAnswerAndRows(t *testing.T) {
	for _, damaged := range []bool{false, true} {
		t.Run(fmt.Sprint("damaged=", damaged), func(t *testing.T) {
			d, before, _, _ := closedMailbox(t)
			if damaged {
				d.damaged()
			}
			h := d.opened("boot")
			v, _, err := h.Advance(store.View{}, true)
			d.must(err)
			files := d.files(d.mem)
			var names []string
			for _, base := range slices.Sorted(maps.Keys(files)) {
				if strings.HasPrefix(files[base], "cur/") {
					names = append(names, files[base])
				}
			}
			d.outside(d.mem, names[0], "")                                         // UID 1
			d.outside(d.mem, names[1], strings.SplitAfter(names[1], ":2,")[0]+"F") // UID 11, as names are sorted
			d.outside(d.mem, "", "new/1795400009.M2P2.mta")
			h.m.watch.young.Store(false)
			d.must(h.Look(t.Context()))
			to, delta, err := h.Advance(v, true)
			d.must(err)
			if !slices.Equal(delta.Vanished, []imap.UID{1}) || !delta.Grown || to.UIDs.Len() != before.UIDs.Len() || to.UIDs.At(to.UIDs.Len()-1) != 14 {
				t.Errorf("%+v, %v", delta, to.UIDs.Slice(0, 99))
			}
			i := slices.IndexFunc(delta.Changed, func(r store.Row) bool { return r.UID == 11 })
			if i < 0 || delta.Changed[i].Flags != store.FlagFlagged || !damaged && len(delta.Changed) != 1 {
				t.Errorf("changed: %+v", delta.Changed)
			}
			// Who may not be told of the expunge stays before it.
			if to, delta, err := h.Advance(v, false); err != nil || len(delta.Vanished) > 0 || to.ModSeq >= h.View().ModSeq {
				t.Errorf("without expunges: %+v, %v", delta, err)
			}
			d.stop()
		})
	}
}

// Where nothing of what was told can be kept, the session ends, and the next finds what is.
func TestOtherListBehindDamagedRows(t *testing.T) {
	d, before, status, _ := closedMailbox(t)
	d.damaged()
	h := d.opened("boot")
	v, _, err := h.Advance(store.View{}, true)
	d.must(err)
	d.rewrite(d.mem, "dovecot-uidlist", func(s string) string {
		return strings.Replace(s, fmt.Sprint(" V", status.UIDValidity), fmt.Sprint(" V", status.UIDValidity+7), 1)
	})
	if _, err := d.now(h); !errors.Is(err, store.ErrReplaced) {
		t.Errorf("rows of another UIDVALIDITY: %v", err)
	}
	if _, _, err := h.Advance(v, true); !errors.Is(err, store.ErrReplaced) {
		t.Errorf("advance: %v", err)
	}
	again, err := d.a.Hold(t.Context(), store.Inbox, true, nil)
	d.must(err)
	if got := again.Info().UIDValidity; got != status.UIDValidity+7 || again.View().UIDs.Len() != before.UIDs.Len() {
		t.Errorf("UIDVALIDITY %d, %d messages", got, again.View().UIDs.Len())
	}
	again.Close()
	d.stop()
}

// A mailbox that nobody asked for rows is closed as it was found, and killed likewise; an
// index that is removed meanwhile is not missed.
func TestClosedWithoutRows(t *testing.T) {
	d, _, _, rows := closedMailbox(t)
	was := d.mem.Tree()["/Maildir/"+index.Name]
	for _, how := range []string{"examined and closed", "killed"} {
		d.must(d.open("boot"))
		d.s.wall, d.s.lateAfter = d.wall.now, time.Hour
		box, err := d.a.Hold(t.Context(), store.Inbox, false, nil)
		d.must(err)
		if !box.(*hold).m.unread.pending.Load() {
			t.Fatalf("before it was %s: not opened by its summary", how)
		}
		if how == "killed" {
			mem := d.mem.Clone()
			mem.Now = d.mem.Now
			box.Close()
			d.close()
			d.mem, d.fs = mem, faultfs.New(mem)
			continue
		}
		box.Close()
		d.close()
	}
	if now := d.mem.Tree()["/Maildir/"+index.Name]; now != was {
		t.Error("the index was written")
	}
	h := d.opened("boot")
	box, err := d.mem.Root("/Maildir")
	d.must(err)
	d.must(box.Remove(index.Name))
	if now, err := d.now(h); err != nil || !maps.Equal(now.rows, rows) {
		t.Errorf("rows %v, %v, were %v", now.rows, err, rows)
	}
	d.stop()
}

// After a power cut, and where directories changed, the summary is not believed.
func TestSummaryIsNotBelieved(t *testing.T) {
	for name, change := range map[string]func(d *diary) (boot string){
		"another boot": func(*diary) string { return "boot 2" },
		"new mail": func(d *diary) string {
			d.outside(d.mem, "", "new/1795400009.M2P2.mta")
			return "boot"
		},
		"a list that was touched": func(d *diary) string {
			d.rewrite(d.mem, "dovecot-uidlist", func(s string) string { return s })
			return "boot"
		},
		"a log that goes on": func(d *diary) string {
			d.editIndex(func(b []byte) []byte { return append(b, 0) })
			return "boot"
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, _, _, _ := closedMailbox(t)
			d.must(d.start(change(d)))
			if d.box.(*hold).m.unread.pending.Load() {
				t.Error("it was")
			}
			d.stop()
		})
	}
}

// Sessions that come at once, ask for rows and leave all find them.
func TestManyAskForRowsAtOnce(t *testing.T) {
	for _, damaged := range []bool{false, true} {
		d, before, _, _ := closedMailbox(t)
		if damaged {
			d.damaged()
		}
		d.must(d.open("boot"))
		d.s.wall, d.s.pause = d.wall.now, func(tick time.Duration) { d.wall.pass(tick + 1) }
		var wg sync.WaitGroup
		for i := range 8 {
			a, err := d.s.Account(t.Context(), d.who())
			d.must(err)
			wg.Go(func() {
				defer a.Close()
				box, err := a.Hold(t.Context(), store.Inbox, i%2 == 0, nil)
				if err != nil {
					t.Error(err)
					return
				}
				defer box.Close()
				v, _, err := box.Advance(store.View{}, true)
				n := 0
				for rows, rerr := range box.Rows(t.Context(), v.UIDs.Slice(0, v.UIDs.Len()), 0) {
					err = errors.Join(err, rerr)
					n += len(rows)
				}
				if err != nil || n != before.UIDs.Len() || box.FirstUnseen() != 7 {
					t.Errorf("%d rows of %d, %v", n, before.UIDs.Len(), err)
				}
				if _, _, err := box.Advance(v, true); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		d.close()
	}
}

// retell puts another summary at the end of the index, as a fault of ours would.
func (d *diary) retell(edit func(s *index.Summary)) {
	d.Helper()
	box, err := d.mem.Root("/Maildir")
	d.must(err)
	u, err := index.Peek(box, indexLimit)
	d.must(err)
	u.Close()
	snap, err := index.Load(box, indexLimit, nil)
	d.must(err)
	edit(&u.Summary)
	d.must(snap.Log().Finish(u.Summary.Head.At, u.Summary))
	d.must(snap.Log().Release())
}

// A summary that is whole and does not tell what the rows do is found out, and mended by the
// ordinary means: counts silently, messages that are not there as expunges; those that are and
// were not told end the session.
func TestRowsThatTheSummaryDoesNotTell(t *testing.T) {
	d, before, status, rows := closedMailbox(t)
	d.retell(func(s *index.Summary) { s.Unseen, s.FirstUnseen = 1, 1 })
	h := d.opened("boot")
	if now, err := d.now(h); err != nil || !maps.Equal(now.rows, rows) {
		t.Errorf("rows %v, %v, were %v", now.rows, err, rows)
	}
	if st, err := h.m.status(); err != nil || st.Unseen != status.Unseen || h.FirstUnseen() != 7 {
		t.Errorf("%+v, %v, first unseen %d", st, err, h.FirstUnseen())
	}
	d.stop()

	d, before, _, rows = closedMailbox(t)
	d.retell(func(s *index.Summary) { s.UIDs = []index.Run{{First: 1, Count: 8}, {First: 10, Count: 4}} }) // 4 is gone
	h = d.opened("boot")
	v, _, err := h.Advance(store.View{}, true)
	d.must(err)
	if v.UIDs.Len() != before.UIDs.Len()+1 {
		t.Fatalf("told %v", v.UIDs.Slice(0, 99))
	}
	to, delta, err := h.Advance(v, true)
	if err != nil || !slices.Equal(delta.Vanished, []imap.UID{4}) || delta.Grown || to.UIDs.Len() != before.UIDs.Len() {
		t.Errorf("%+v, %v", delta, err)
	}
	if now, err := d.now(h); err != nil || !maps.Equal(now.rows, rows) {
		t.Errorf("rows %v, %v, were %v", now.rows, err, rows)
	}
	d.stop()

	d, before, _, _ = closedMailbox(t)
	d.retell(func(s *index.Summary) { s.UIDs = []index.Run{{First: 1, Count: 2}, {First: 10, Count: 4}} })
	h = d.opened("boot")
	v, _, err = h.Advance(store.View{}, true)
	d.must(err)
	if _, _, err := h.Advance(v, true); !errors.Is(err, store.ErrReplaced) {
		t.Errorf("UIDs came to be among those that were told: %v", err)
	}
	again, err := d.a.Hold(t.Context(), store.Inbox, true, nil)
	d.must(err)
	if n := again.View().UIDs.Len(); n != before.UIDs.Len() {
		t.Errorf("%d messages, opened anew", n)
	}
	again.Close()
	d.stop()
}
