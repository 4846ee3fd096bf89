package maildir

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys/faultfs"
	"roost/maildir/index"
	"roost/store"
)

// A process that is killed at any call loses no change: not when it was shown and not
// yet written, not when another program undoes it before the next open, not when the
// log is damaged behind it. Nor does a power cut, which may part index, directories and
// uidlist in any way.
func TestNoChangeIsMissedAfterCrash(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n += 1 + 6*int(seed) { // one of them stops at every call
				d := newDiary(t, faultfs.NewMem())
				r := rand.New(rand.NewPCG(seed, 1))
				d.must(d.start("boot 1"))
				for k := range 6 { // not empty, and with a log
					d.must(d.act(r, k))
					d.wall.pass(time.Second)
				}
				if seed%2 == 1 { // closed before, as mostly
					d.must(d.box.Look(t.Context()))
					d.rest()
					d.stop()
					d.lab.now = d.lab.now.Add(time.Second)
					d.must(d.start("boot 1"))
				}
				d.fs.Reset()
				d.fs.Stop(n)
				d.stopAt = n
				finished := true
				before := d.files(d.mem)
				for k := range 14 {
					before = d.files(d.mem)
					if r.IntN(4) == 0 {
						d.rest()
					}
					d.wall.pass(time.Duration(r.IntN(3)) * time.Second)
					if err := d.act(r, 100+k); err != nil {
						finished = false
						break
					}
					d.learn()
				}
				for _, how := range []string{"killed", "killed, undone", "killed, log torn", "killed, log flipped", "power cut 0", "power cut 1", "power cut 2", "rebooted"} {
					what := fmt.Sprintf("seed %d, call %d, %s", seed, n, how)
					rr := rand.New(rand.NewPCG(seed, uint64(n)))
					mem, boot := d.mem.Clone(), "boot 1"
					switch {
					case strings.HasPrefix(how, "power cut"):
						boot = "boot 2"
						mem = d.mem.Crash(rand.New(rand.NewPCG(uint64(n), uint64(how[10]))))
					case how == "rebooted":
						boot = "boot 2"
					}
					mem.Now = d.mem.Now
					d.wall.pass(time.Second)
					d.later = time.Second
					if rr.IntN(2) == 0 {
						d.later = -time.Hour
					}
					if strings.HasPrefix(how, "killed, ") {
						for base, now := range d.files(mem) {
							if was, ok := before[base]; ok && was != now {
								d.outside(mem, now, was)
							}
						}
					}
					if strings.HasPrefix(how, "killed, log") {
						damage(d, mem, rr, how == "killed, log torn")
					}
					again := d.reopen(mem, boot)
					power := strings.HasPrefix(how, "power cut")
					d.check(again, what, power)
					if t.Failed() {
						return
					}
					// And once more, after a change: what was found must have been written too.
					again.later = d.later * 2
					again.inherit(d)
					d.must(again.act(rr, 200))
					again.watch()
					again.learn()
					third := again.reopen(again.mem.Clone(), boot)
					again.check(third, what+", then killed", power)
					third.stop()
					again.stop()
					if t.Failed() {
						return
					}
				}
				d.stop()
				if finished {
					break
				}
			}
		})
	}
}

// The last step of a killed process was told and is not in its log. Where another
// program has undone it since, all looks as it is written.
func TestUnwrittenStepIsToldAgain(t *testing.T) {
	set := func(d *diary, op imap.StoreFlagsOp, flags ...imap.Flag) {
		d.box.SetFlags(context.Background(), []imap.UID{2}, store.FlagOp{Op: op, Flags: flags})
	}
	var many []imap.Flag
	for i := range 26 {
		many = append(many, imap.Flag(fmt.Sprintf("kw%d", i)))
	}
	for _, c := range []struct {
		name string
		do   func(d *diary)
		undo func(d *diary, mem *faultfs.Mem)
	}{
		{"a flag", func(d *diary) { set(d, imap.StoreFlagsAdd, imap.FlagFlagged) }, func(d *diary, mem *faultfs.Mem) {
			for base, name := range d.files(mem) {
				if strings.HasSuffix(name, ":2,F") {
					d.outside(mem, name, "cur/"+base+":2,")
				}
			}
		}},
		{"a flag that stays", func(d *diary) { set(d, imap.StoreFlagsAdd, imap.FlagFlagged) }, nil},
		{"a keyword without a letter", func(d *diary) { set(d, imap.StoreFlagsAdd, "more") }, func(d *diary, mem *faultfs.Mem) {
			d.rewrite(mem, extraFile, func(s string) string { return extraHeader })
		}},
		{"a keyword without a letter that stays", func(d *diary) { set(d, imap.StoreFlagsAdd, "more") }, nil},
		{"a message that is expunged", func(d *diary) {
			d.add(store.Inbox, nil, "x\r\n")
		}, func(d *diary, mem *faultfs.Mem) {
			for base, name := range d.files(mem) {
				if strings.HasPrefix(base, fmt.Sprint(d.lab.now.Unix(), ".M4")) {
					d.outside(mem, name, "")
				}
			}
		}},
		{"a message that is expunged, and its line", func(d *diary) {
			d.add(store.Inbox, nil, "x\r\n")
		}, func(d *diary, mem *faultfs.Mem) {
			for base, name := range d.files(mem) {
				if strings.HasPrefix(base, fmt.Sprint(d.lab.now.Unix(), ".M4")) {
					d.outside(mem, name, "")
				}
			}
			// As Dovecot cleans the list up.
			d.rewrite(mem, "dovecot-uidlist", func(s string) string {
				lines := strings.SplitAfter(s, "\n")
				return strings.Replace(strings.Join(lines[:4], ""), " N1 ", " N5 ", 1)
			})
		}},
		{"an expunge", func(d *diary) {
			d.outside(d.mem, d.files(d.mem)[d.base(2)], "")
			d.box.Look(context.Background())
		}, nil},
	} {
		for _, clean := range []bool{false, true} {
			for _, later := range []time.Duration{time.Second, -time.Hour} {
				what := fmt.Sprintf("%s, clean before %v, clock %v", c.name, clean, later)
				d := newDiary(t, faultfs.NewMem())
				d.must(d.start("boot"))
				for range 3 {
					_, err := d.add(store.Inbox, []imap.Flag{imap.FlagSeen}, "x\r\n")
					d.must(err)
				}
				_, _, err := d.box.SetFlags(t.Context(), []imap.UID{1}, store.FlagOp{Op: imap.StoreFlagsSet, Flags: many})
				d.must(err)
				set(d, imap.StoreFlagsSet, "more")
				set(d, imap.StoreFlagsSet)
				d.must(d.box.Look(t.Context()))
				indexed(d.box)
				d.rest()
				if clean {
					d.stop()
					d.must(d.start("boot"))
				}
				d.wall.pass(10 * time.Second)
				told, marks := len(d.moments()), 0
				if clean {
					marks = 1
				}
				mem := d.unwritten(marks, func() { c.do(d) })
				if len(d.moments()) == told {
					t.Errorf("%s: nobody was told", what)
				}
				if c.undo != nil {
					c.undo(d, mem)
				}
				d.later = later
				again := d.reopen(mem, "boot")
				d.check(again, what, false)
				again.inherit(d)
				set(again, imap.StoreFlagsSet, imap.FlagDraft)
				again.check(again, what+", then a change", false)
				again.stop()
				d.stop()
			}
		}
	}
}

// A power cut takes back what was not synced: of the index, the directories and the
// uidlist each may be as before the last changes or as after them. Before them all was
// synced and the stamps were written, so that an index that was taken back fits directories
// that were.
func TestPowerCutPartsIndexDirectoriesAndUIDList(t *testing.T) {
	for kept := range 8 {
		keeps := func(bit int) bool { return kept&bit != 0 }
		what := fmt.Sprintf("index kept %v, directories %v, uidlist %v", keeps(1), keeps(2), keeps(4))
		d := newDiary(t, faultfs.NewMem())
		d.must(d.start("boot 1"))
		for i := range 4 {
			_, err := d.add(store.Inbox, []imap.Flag{imap.FlagSeen}, fmt.Sprintf("%d\r\n", i))
			d.must(err)
		}
		d.must(d.box.Look(t.Context()))
		indexed(d.box)
		d.rest()
		sync := func(files ...string) {
			for _, name := range files {
				box, err := d.mem.Root(path.Join("/Maildir", path.Dir(name)))
				d.must(err)
				if base := path.Base(name); base != "." {
					f, err := box.Open(base)
					d.must(err)
					d.must(f.Sync())
				}
				d.must(box.Sync())
			}
		}
		sync(index.Name, "dovecot-uidlist", "cur/.", "new/.")
		m := d.box.(*hold).m
		m.files.Lock()
		last := m.index.last.Stamps
		m.files.Unlock()
		if last == (index.Stamps{}) {
			t.Fatal("no stamps were written")
		}
		d.wall.pass(10 * time.Second)
		_, _, err := d.box.SetFlags(t.Context(), []imap.UID{1, 2}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}})
		d.must(err)
		_, _, err = d.box.Expunge(t.Context(), []imap.UID{2})
		d.must(err)
		d.outside(d.mem, "", "new/1795400000.M1P1.mta")
		d.must(d.box.Look(t.Context()))
		d.outside(d.mem, d.files(d.mem)[d.base(3)], "")
		d.must(d.box.Look(t.Context()))
		d.learn()
		for bit, files := range map[int][]string{1: {index.Name}, 2: {"cur/.", "new/."}, 4: {"dovecot-uidlist"}} {
			if keeps(bit) {
				sync(files...)
			}
		}
		mem := d.mem.Crash(nil)
		mem.Now = d.mem.Now
		again := d.reopen(mem, "boot 2")
		d.check(again, what, true)
		again.inherit(d)
		_, err = again.add(store.Inbox, nil, "new\r\n")
		d.must(err)
		again.learn()
		again.check(again, what+", then mail", true)
		again.stop()
		d.stop()
	}
}

// A killed process leaves all MODSEQs and expunges. When the mailbox had been left alone
// for a while it is opened as after a close: no directory is read.
func TestKilledProcessKeepsModSeqsAndExpunges(t *testing.T) {
	for _, rested := range []bool{true, false} {
		for seed := range uint64(20) {
			d := newDiary(t, faultfs.NewMem())
			r := rand.New(rand.NewPCG(seed, 2))
			d.must(d.start("boot"))
			indexed(d.box)
			for k := range 30 {
				d.must(d.act(r, k))
				d.wall.pass(3 * time.Second) // no row is in doubt but the last
			}
			if d.box.View().UIDs.Len() == 0 {
				d.stop()
				continue
			}
			indexed(d.box)
			d.wall.pass(3 * time.Second)
			_, _, err := d.box.SetFlags(t.Context(), d.box.View().UIDs.Slice(0, 1), store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDraft}})
			d.must(err)
			d.must(d.box.Look(t.Context()))
			if rested {
				d.rest()
			}
			rows, vanished, highest := d.known()
			again := newDiary(t, d.mem.Clone())
			again.wall.set(d.wall.now())
			again.lab.now = d.lab.now
			var scans *[]string
			if rested {
				scans = again.scans()
			}
			d.must(again.start("boot"))
			rows2, vanished2, highest2 := again.known()
			if rested && (len(*scans) > 0 || highest != highest2) {
				t.Errorf("seed %d: MODSEQ %d, was %d; scanned: %q", seed, highest2, highest, *scans)
			}
			if !rested { // the last change may be in doubt
				rows[0].ModSeq, rows2[0].ModSeq = 0, 0
			}
			if !slices.Equal(rows, rows2) {
				t.Errorf("seed %d, rested %v: opened with\n%v\nwas\n%v", seed, rested, rows2, rows)
			}
			if !slices.Equal(vanished, vanished2) {
				t.Errorf("seed %d, rested %v: vanished %v, was %v", seed, rested, vanished2, vanished)
			}
			if highest2 < highest {
				t.Errorf("seed %d, rested %v: MODSEQ went back from %d to %d", seed, rested, highest, highest2)
			}
			again.stop()
			d.stop()
		}
	}
}

// What others did after the process was killed is found and written down as changes,
// once: the next open knows it without a look.
func TestChangesWhileNoneWatchedAreLogged(t *testing.T) {
	d := newDiary(t, faultfs.NewMem())
	d.must(d.start("boot"))
	_, err := d.add(store.Inbox, nil, "a\r\n", "b\r\n", "c\r\n", "d\r\n")
	d.must(err)
	d.must(d.box.Look(t.Context()))
	d.rest()
	d.watch()
	_, _, highest := d.known()
	mem := d.mem.Clone()
	mem.Now = d.mem.Now
	d.wall.pass(time.Minute)
	files := d.files(mem)
	bases := slices.Sorted(maps.Keys(files))
	d.outside(mem, files[bases[0]], "cur/"+bases[0]+":2,S")
	d.outside(mem, files[bases[1]], "")
	d.outside(mem, "", "new/1795400000.M1P1.mta")

	d.wall.pass(time.Minute)
	again := d.reopen(mem, "boot")
	d.check(again, "opened again", false)
	rows, vanished, highest2 := again.known()
	if highest2 <= highest || len(rows) != 4 || rows[0].ModSeq <= highest || rows[1].ModSeq > highest || rows[3].ModSeq <= highest || len(vanished) != 1 {
		t.Errorf("MODSEQ %d, was %d; rows %v, vanished %v", highest2, highest, rows, vanished)
	}
	again.rest()
	third := newDiary(t, again.mem.Clone())
	third.wall.set(d.wall.now().Add(time.Minute))
	third.lab.now = d.lab.now.Add(time.Minute)
	scans := third.scans()
	d.must(third.start("boot"))
	rows3, vanished3, highest3 := third.known()
	if len(*scans) > 0 || !slices.Equal(rows, rows3) || !slices.Equal(vanished, vanished3) || highest2 != highest3 {
		t.Errorf("scanned %q; MODSEQ %d, was %d; rows %v, were %v; vanished %v, was %v", *scans, highest3, highest2, rows3, rows, vanished3, vanished)
	}
	third.stop()
	again.stop()
	d.stop()
}

// Keywords change without a file being renamed: in the two files that give them their
// names. What another program wrote there while the mailbox was closed is a change.
func TestKeywordsChangedWhileClosedAreLogged(t *testing.T) {
	for name, edit := range map[string]func(d *diary){
		lettersFile: func(d *diary) {
			d.rewrite(d.mem, lettersFile, func(s string) string { return strings.Replace(s, "0 kw0\n", "0 other\n", 1) })
		},
		extraFile: func(d *diary) {
			base := d.base(2)
			d.stop()
			d.rewrite(d.mem, extraFile, func(s string) string { return s + extraLine(base, []string{"more", "most"}) })
		},
	} {
		d := newDiary(t, faultfs.NewMem())
		d.must(d.start("boot"))
		var many []imap.Flag
		for i := range 27 {
			many = append(many, imap.Flag(fmt.Sprintf("kw%d", i)))
		}
		_, err := d.add(store.Inbox, many, "a\r\n", "b\r\n")
		d.must(err)
		_, err = d.add(store.Inbox, nil, "c\r\n")
		d.must(err)
		d.must(d.box.Look(t.Context()))
		d.rest()
		d.watch()
		edit(d)
		d.stop()
		d.wall.pass(time.Minute)
		again := d.reopen(d.mem, "boot")
		d.check(again, name, false)
		seen := d.moments()
		was, now := seen[len(seen)-1].rows, must(again.now(again.box)).rows
		if was[2] == now[2] || was[3] != now[3] {
			t.Errorf("%s: were %v, are %v", name, was, now)
		}
		again.stop()
	}
}

// A message that no pass sees while a mailbox is opened, because it is renamed all the
// time, is not reported expunged for that.
func TestRenamesWhileOpenedExpungeNothing(t *testing.T) {
	d := newDiary(t, faultfs.NewMem())
	d.must(d.start("boot"))
	_, err := d.add(store.Inbox, []imap.Flag{imap.FlagSeen}, "a\r\n", "b\r\n")
	d.must(err)
	d.must(d.box.Look(t.Context()))
	base := d.base(1)
	d.watch()
	d.stop()
	again := newDiary(t, d.mem)
	again.wall.set(d.wall.now().Add(time.Minute))
	again.lab.now = d.lab.now.Add(time.Minute)
	passes := 0
	again.fs.FailWhere(func(_ int, call string) error {
		name := d.files(d.mem)[base]
		switch {
		case call == "names new/":
			again.outside(d.mem, name, "cur/"+base+":2,S")
			passes++
		case call == "names cur/":
			again.outside(d.mem, name, "new/"+base+":2,S")
		}
		again.wall.pass(time.Second)
		return nil
	})
	d.must(again.start("boot"))
	rows, vanished, _ := again.known()
	if passes < 2 || len(rows) != 2 || len(vanished) > 0 {
		t.Errorf("%d passes; rows %v, vanished %v", passes, rows, vanished)
	}
	again.fs.Reset()
	again.stop()
}
