package uidlist

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"roost/maildir/fsys"
	"roost/maildir/fsys/faultfs"
)

// shelf is a uidlist in a tree that crashes.
type shelf struct {
	mem *faultfs.Mem
	fs  *faultfs.FS
	env *Env
}

func newShelf(t *testing.T, text string) *shelf {
	t.Helper()
	s := &shelf{mem: faultfs.NewMem(), env: newDesk(t).env}
	s.env.Rand = zeros{}
	d, err := s.mem.Make("/box", 0o700)
	if err != nil {
		t.Fatal(err)
	}
	if err := fsys.Replace(d, Name, tmpName, []byte(text), 0o600, true); err != nil {
		t.Fatal(err)
	}
	s.fs = faultfs.New(s.mem)
	return s
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// work appends three times, each synced, and rewrites in between; told is what was
// acknowledged as durable.
func (s *shelf) work(t *testing.T, told map[uint32]string) error {
	d, err := s.fs.Root("/box")
	if err != nil {
		return err
	}
	f := New(d, DefaultLimits, s.env)
	l, err := f.Lock(t.Context())
	if err != nil {
		return err
	}
	defer l.Unlock() // after a stop it stays, as a killed process leaves it
	if _, err := f.Refresh(); err != nil {
		return err
	}
	for round := range 3 {
		var recs []Record
		for range 2 {
			uid := f.Next() + uint32(len(recs))
			recs = append(recs, Record{UID: uid, Base: fmt.Sprint("m", uid)})
		}
		if err := f.Append(recs); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		for _, r := range recs {
			told[r.UID] = r.Base
		}
		if round == 1 {
			if err := f.Rewrite(func(h *Header) { h.ModSeq = 5 }, func(r Record) bool { return r.UID != 1 }, nil); err != nil {
				return err
			}
			delete(told, 1)
		}
	}
	return nil
}

// check opens what is left: all that was told is there, and no UID of it is given
// again.
func (s *shelf) check(t *testing.T, fs fsys.FS, told map[uint32]string, what string) {
	t.Helper()
	d, err := fs.Root("/box")
	if err != nil {
		t.Fatal(err)
	}
	f := New(d, DefaultLimits, s.env)
	c, err := f.Refresh()
	if err != nil || c.Missing || c.Damage != nil {
		t.Fatalf("%s: %+v, %v", what, c, err)
	}
	if h := f.Header(); h.Validity != 9 || h.GUID != guid {
		t.Fatalf("%s: header %+v", what, h)
	}
	have := map[uint32]string{}
	for _, r := range c.Records {
		have[r.UID] = r.Base
	}
	for uid, base := range told {
		if have[uid] != base {
			t.Fatalf("%s: UID %d is %q, was told as %q", what, uid, have[uid], base)
		}
		if f.Next() <= uid {
			t.Fatalf("%s: UIDNEXT %d, UID %d was told", what, f.Next(), uid)
		}
	}
	// And the file is of use: our own dead lock, a torn end.
	l, err := f.Lock(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer l.Unlock()
	next := f.Next()
	if err := f.Append([]Record{{UID: next, Base: "later"}}); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if c, err = New(d, DefaultLimits, s.env).Refresh(); err != nil || c.Bad > 0 {
		t.Fatalf("%s: after the next append %+v, %v", what, c, err)
	}
	if last := c.Records[len(c.Records)-1]; last.UID != next || last.Base != "later" {
		t.Fatalf("%s: last record %+v, want UID %d", what, last, next)
	}
}

const before = "3 V9 N1 G" + guid + "\n1 :a\n2 :b\n"

func TestCrashKeepsWhatWasTold(t *testing.T) {
	for n := 1; ; n++ {
		s := newShelf(t, before)
		s.fs.Stop(n)
		told := map[uint32]string{1: "a", 2: "b"}
		err := s.work(t, told)
		delete(told, 1) // its line may be dropped
		s.check(t, s.mem.Clone(), told, fmt.Sprintf("killed at call %d", n))
		s.check(t, s.mem.Crash(nil), told, fmt.Sprintf("power cut at call %d, only what was synced", n))
		for seed := range uint64(10) {
			s.check(t, s.mem.Crash(rand.New(rand.NewPCG(seed, uint64(n)))), told, fmt.Sprintf("power cut at call %d, seed %d", n, seed))
		}
		if err == nil {
			if n < 20 {
				t.Errorf("only %d calls", n)
			}
			return
		}
	}
}

// A list that is written from memory has its UIDNEXT in the same step as its records:
// else a crash between them would let a UID that was shown be given again.
func TestCrashInRestoreGivesNoUIDAgain(t *testing.T) {
	const damaged = "3 V0 N1 Xkept\n1 :a\n"
	const whole = "3 V9 N60 G" + guid + " Xkept\n1 :a\n7 :g\n"
	for n := 1; ; n++ {
		s := newShelf(t, damaged)
		s.fs.Stop(n)
		err := func() error {
			d, err := s.fs.Root("/box")
			if err != nil {
				return err
			}
			f := New(d, DefaultLimits, s.env)
			l, err := f.Lock(t.Context())
			if err != nil {
				return err
			}
			defer l.Unlock()
			return f.Restore(Header{Validity: 9, Next: 60, GUID: guid}, []Record{{UID: 1, Base: "a"}, {UID: 7, Base: "g"}})
		}()
		after := []*faultfs.Mem{s.mem.Clone(), s.mem.Crash(nil)}
		for seed := range uint64(10) {
			after = append(after, s.mem.Crash(rand.New(rand.NewPCG(seed, uint64(n)))))
		}
		for i, mem := range after {
			if got := mem.Tree()["/box/"+Name]; got != whole && (got != damaged || err == nil) {
				t.Fatalf("call %d, state %d (%v): %q", n, i, err, got)
			}
		}
		if err == nil {
			return
		}
	}
}

// A disk that is full or failing for one call: an error, and nothing lost; the same
// File goes on when the cause is gone.
func TestFaultsLoseNothing(t *testing.T) {
	for _, errno := range []error{syscall.ENOSPC, syscall.EIO, syscall.EMFILE} {
		for n := 1; ; n++ {
			s := newShelf(t, before)
			s.fs.Fail(n, errno)
			told := map[uint32]string{1: "a", 2: "b"}
			err := s.work(t, told)
			if err == nil && s.fs.Calls() < n {
				break
			}
			if err != nil && !errors.Is(err, errno) {
				t.Fatalf("call %d: %v", n, err)
			}
			delete(told, 1)
			s.fs.Reset()
			s.check(t, s.fs, maps.Clone(told), fmt.Sprintf("%v at call %d", errno, n))
		}
	}
}

// A write that ends in the middle of a line: the half line is taken back.
func TestHalfWrittenLineIsTakenBack(t *testing.T) {
	s := newShelf(t, before)
	d, _ := shortWrites{s.mem}.Root("/box")
	f := New(d, DefaultLimits, s.env)
	f.Refresh()
	if err := f.Append([]Record{{UID: 3, Base: "c"}}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if got := s.mem.Tree()["/box/"+Name]; got != before {
		t.Errorf("left behind: %q", got)
	}
}

// shortWrites is a disk that takes three bytes more.
type shortWrites struct{ fsys.FS }

func (s shortWrites) Root(p string) (fsys.Dir, error) {
	d, err := s.FS.Root(p)
	return shortDir{d}, err
}

type shortDir struct{ fsys.Dir }

func (d shortDir) Append(name string) (fsys.File, error) {
	f, err := d.Dir.Append(name)
	return shortFile{f}, err
}

type shortFile struct{ fsys.File }

func (f shortFile) Write(b []byte) (int, error) {
	n, _ := f.File.Write(b[:3])
	return n, &errWrite{syscall.ENOSPC}
}

type errWrite struct{ error }

func (e *errWrite) Unwrap() error { return e.error }

// The order of calls is a promise: a lost sync is seen here as a difference.
func TestTranscriptOfAppendAndRewrite(t *testing.T) {
	s := newShelf(t, before)
	d, err := s.fs.Root("/box")
	if err != nil {
		t.Fatal(err)
	}
	f := New(d, DefaultLimits, s.env)
	s.fs.Reset()
	l, err := f.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	steps := []func() error{
		func() error { _, err := f.Refresh(); return err },
		func() error { return f.Append([]Record{{UID: 3, Base: "c"}, {UID: 4, Base: "d"}}) },
		f.Sync,
		func() error { return f.Rewrite(nil, nil, nil) },
		l.Unlock,
		func() error { return WriteReserve(d, Reserve{"boot", 9, 1004}) },
	}
	for _, step := range steps {
		if err := step(); err != nil && err != io.EOF {
			t.Fatal(err)
		}
	}
	want := strings.Join([]string{
		"create dovecot-uidlist.lock.4242.mail.example.org",
		"write dovecot-uidlist.lock.4242.mail.example.org 21",
		"move dovecot-uidlist.lock.4242.mail.example.org dovecot-uidlist.lock",
		"write dovecot-uidlist 10",
		"sync dovecot-uidlist",
		"create dovecot-uidlist.tmp",
		"write dovecot-uidlist.tmp 62",
		"sync dovecot-uidlist.tmp",
		"rename dovecot-uidlist.tmp dovecot-uidlist",
		"sync",
		"settime dovecot-uidlist",
		"remove dovecot-uidlist.lock",
		"create roost-state.tmp",
		"write roost-state.tmp 51",
		"sync roost-state.tmp",
		"rename roost-state.tmp roost-state",
		"sync",
		"",
	}, "\n")
	if got := s.fs.Transcript(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
