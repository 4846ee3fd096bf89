package uidlist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roost/maildir/fsys"
)

// desk is a control directory and a clock that stands still unless somebody sleeps.
type desk struct {
	t    *testing.T
	dir  fsys.Dir
	path string
	env  *Env
	now  time.Time
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, path: t.TempDir(), now: time.Now()}
	var err error
	if d.dir, err = fsys.OS.Root(d.path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.dir.Close() })
	d.env = &Env{
		Host:  "mail.example.org",
		PID:   4242,
		Now:   func() time.Time { return d.now },
		Alive: func(pid int) bool { return pid == 4242 || pid == 7 || pid == 8 },
		// Process 8 began long after all locks were made: another had its number.
		Began: func(pid int) (time.Time, bool) { return time.Now().Add(24 * time.Hour), pid == 8 },
		Sleep: func(ctx context.Context, wait time.Duration) error { d.now = d.now.Add(wait); return ctx.Err() },
		Rand:  strings.NewReader(strings.Repeat("guid of sixteen.", 10)),
	}
	return d
}

func (d *desk) put(name, text string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.path, name), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// more adds to the uidlist as another program does.
func (d *desk) more(text string) {
	d.t.Helper()
	f, err := os.OpenFile(filepath.Join(d.path, Name), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) has(want string) {
	d.t.Helper()
	b, err := os.ReadFile(filepath.Join(d.path, Name))
	if err != nil {
		d.t.Fatal(err)
	}
	if string(b) != want {
		d.t.Errorf("uidlist is\n%swant\n%s", b, want)
	}
}

// refresh tells what a Refresh found in one line.
func (d *desk) refresh(f *File) string {
	d.t.Helper()
	c, err := f.Refresh()
	if err != nil {
		d.t.Fatal(err)
	}
	var b strings.Builder
	switch {
	case c.Missing:
		b.WriteString("missing")
	case c.Whole:
		b.WriteString("whole")
	default:
		b.WriteString("tail")
	}
	for _, r := range c.Records {
		fmt.Fprintf(&b, " %d=%s", r.UID, r.Base)
	}
	if c.Damage != nil {
		fmt.Fprintf(&b, " %v", c.Damage)
	}
	return b.String()
}

func (d *desk) expect(f *File, want string) {
	d.t.Helper()
	if got := d.refresh(f); got != want {
		d.t.Errorf("refresh: %s, want %s", got, want)
	}
}

const guid = "0123456789abcdef0123456789abcdef"

func TestRefreshReadsWhatIsNew(t *testing.T) {
	d := newDesk(t)
	f := New(d.dir, DefaultLimits, d.env)
	d.expect(f, "missing")
	d.put(Name, "")
	d.expect(f, "missing")
	d.put(Name, "3 V9 N1 G"+guid+"\n1 :a\n2 :b\n")
	d.expect(f, "whole 1=a 2=b")
	d.expect(f, "tail")
	d.more("3 :c\n4 W7 :d\n")
	d.expect(f, "tail 3=c 4=d")
	if f.Next() != 5 || f.Lines() != 4 || f.Header().GUID != guid {
		t.Errorf("next %d, %d lines, GUID %s", f.Next(), f.Lines(), f.Header().GUID)
	}
	d.more("5 :e\n6 ") // another writes just now
	d.expect(f, "whole 1=a 2=b 3=c 4=d 5=e")
	d.more(":f\n")
	d.expect(f, "whole 1=a 2=b 3=c 4=d 5=e 6=f")
	d.more("6 :g\n") // contradicts what was known
	d.expect(f, "whole 1=a 2=b 3=c 4=d 5=e")
	d.put(Name+".new", "3 V9 N7 G"+guid+"\n2 :b\n")
	os.Rename(filepath.Join(d.path, Name+".new"), filepath.Join(d.path, Name))
	d.expect(f, "whole 2=b")
	d.put(Name, "9 nonsense\n")
	d.expect(f, "whole unsupported version \"9\"")
	os.Remove(filepath.Join(d.path, Name))
	d.expect(f, "missing")
}

func TestAppend(t *testing.T) {
	d := newDesk(t)
	d.put(Name, "3 V9 N1 G"+guid+" Xkept\n1 :a\n")
	f := New(d.dir, DefaultLimits, d.env)
	if err := f.Append([]Record{{UID: 2, Base: "b"}}); !errors.Is(err, ErrChanged) {
		t.Errorf("append before it was read: %v", err)
	}
	d.expect(f, "whole 1=a")
	if err := f.Append([]Record{{UID: 2, Base: "b"}, {UID: 5, Keys: "W12", Base: "c d"}}); err != nil {
		t.Fatal(err)
	}
	d.has("3 V9 N1 G" + guid + " Xkept\n1 :a\n2 :b\n5 W12 :c d\n")
	d.expect(f, "tail") // our own lines are no news
	if f.Next() != 6 || f.Lines() != 3 {
		t.Errorf("next %d, %d lines", f.Next(), f.Lines())
	}
	if err := f.Sync(); err != nil {
		t.Error(err)
	}
	d.more("6 :z\n")
	if err := f.Append([]Record{{UID: 6, Base: "x"}}); !errors.Is(err, ErrChanged) {
		t.Errorf("append though another did: %v", err)
	}
	d.expect(f, "tail 6=z")
	for name, r := range map[string]Record{
		"UID below next": {UID: 6, Base: "x"},
		"slash":          {UID: 7, Base: "a/b"},
		"colon":          {UID: 7, Base: "a:2,S"},
		"line end":       {UID: 7, Base: "a\n8 :b"},
		"no name":        {UID: 7},
	} {
		if err := f.Append([]Record{r}); err == nil {
			t.Errorf("%s: appended", name)
		}
	}
	if err := f.Append([]Record{{UID: MaxUID + 1, Base: "x"}}); !errors.Is(err, ErrUsedUp) {
		t.Errorf("UID above all: %v", err)
	}
	d.has("3 V9 N1 G" + guid + " Xkept\n1 :a\n2 :b\n5 W12 :c d\n6 :z\n")
}

func TestTornTailAndOldVersionAreRewritten(t *testing.T) {
	for name, c := range map[string]struct{ before, after string }{
		"torn name": {"3 V9 N4 G" + guid + "\n1 :a\n2 :b", "3 V9 N9 G" + guid + "\n1 :a\n2 :b\n8 :new\n"},
		"torn UID":  {"3 V9 N4 G" + guid + "\n1 :a\n7", "3 V9 N9 G" + guid + "\n1 :a\n8 :new\n"},
		"version 1": {"1 9 4\n1 a\n", "3 V9 N9 G" + "67756964206f66207369787465656e2e" + "\n1 :a\n8 :new\n"},
	} {
		d := newDesk(t)
		d.put(Name, c.before)
		f := New(d.dir, DefaultLimits, d.env)
		d.refresh(f)
		if err := f.Append([]Record{{UID: 8, Base: "new"}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		d.has(c.after)
	}
}

func TestRewrite(t *testing.T) {
	d := newDesk(t)
	d.put(Name, "3 V9 N50 G"+guid+" Q7\n1 :a\n2 B9 :b\nrubbish\n")
	before, _ := d.dir.Stat(Name)
	f := New(d.dir, DefaultLimits, d.env)
	d.refresh(f)
	err := f.Rewrite(func(h *Header) { h.ModSeq, h.Next = 77, 3 }, func(r Record) bool { return r.Base != "a" }, []Record{{UID: 60, Base: "n"}})
	if err != nil {
		t.Fatal(err)
	}
	d.has("3 V9 N61 G" + guid + " R77 Q7\n2 B9 :b\n60 :n\n")
	after, _ := d.dir.Stat(Name)
	if after.Mtime/1e9 <= before.Mtime/1e9 {
		t.Error("mtime did not grow: Dovecot takes it for the old file")
	}
	d.expect(f, "tail")
	if err := f.Append([]Record{{UID: 61, Base: "o"}}); err != nil {
		t.Error(err)
	}
	if _, err := d.dir.Stat(tmpName); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary file stays: %v", err)
	}

	// N is never lowered below what was there, a live Dovecot would renumber all.
	for _, n := range []uint32{1, 70, 1} {
		if err := f.Rewrite(func(h *Header) { h.Next = n }, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	d.has("3 V9 N70 G" + guid + " R77 Q7\n2 B9 :b\n60 :n\n61 :o\n")

	if err := f.Rewrite(func(h *Header) { h.Validity, h.Next = 10, 1 }, nil, []Record{{UID: 1, Base: "b"}}); err != nil {
		t.Fatal(err)
	}
	d.has("3 V10 N2 G" + guid + " R77 Q7\n1 :b\n")

	os.Remove(filepath.Join(d.path, Name))
	if err := f.Rewrite(nil, nil, nil); !errors.Is(err, ErrHeader) {
		t.Errorf("a file without UIDVALIDITY: %v", err)
	}
	if err := f.Rewrite(func(h *Header) { h.Validity = 11 }, nil, nil); err != nil {
		t.Fatal(err)
	}
	d.has("3 V11 N1 G67756964206f66207369787465656e2e\n")
}

func TestResumeBelievesTheSameFileOnly(t *testing.T) {
	d := newDesk(t)
	d.put(Name, "3 V9 N1 G"+guid+" R5\n1 :a\n2 :b\n")
	f := New(d.dir, DefaultLimits, d.env)
	d.refresh(f)
	st, ok := f.Stat()
	if !ok {
		t.Fatal("no state")
	}
	g := New(d.dir, DefaultLimits, d.env)
	if ok, err := g.Resume(st, 2, 2); !ok || err != nil {
		t.Fatalf("%v, %v", ok, err)
	}
	if g.Next() != 3 || g.Header().ModSeq != 5 || g.Header().Validity != 9 {
		t.Errorf("next %d, header %+v", g.Next(), g.Header())
	}
	d.more("3 :c\n")
	d.expect(g, "tail 3=c")
	if ok, err := New(d.dir, DefaultLimits, d.env).Resume(st, 2, 2); ok || err != nil {
		t.Errorf("a file that grew: %v, %v", ok, err)
	}
}

func TestWasteful(t *testing.T) {
	for _, c := range []struct {
		lines, live int
		want        bool
	}{{0, 0, false}, {4, 4, false}, {4, 3, true}, {100, 76, false}, {100, 75, true}} {
		if got := (&File{lines: c.lines}).Wasteful(c.live); got != c.want {
			t.Errorf("%d lines, %d live: %v", c.lines, c.live, got)
		}
	}
}

func TestReserve(t *testing.T) {
	d := newDesk(t)
	if _, ok, err := ReadReserve(d.dir); ok || err != nil {
		t.Errorf("none: %v, %v", ok, err)
	}
	want := Reserve{"5f0c7a0e", 9, 1004}
	if err := WriteReserve(d.dir, want); err != nil {
		t.Fatal(err)
	}
	if got, ok, err := ReadReserve(d.dir); got != want || !ok || err != nil {
		t.Errorf("%+v, %v, %v", got, ok, err)
	}
	text, _ := os.ReadFile(filepath.Join(d.path, ReserveName))
	for n := range len(text) {
		d.put(ReserveName, string(text[:n]))
		if r, _, err := ReadReserve(d.dir); !errors.Is(err, ErrReserve) {
			t.Errorf("first %d bytes: %+v, %v", n, r, err)
		}
	}
	if err := errors.Join(RemoveReserve(d.dir), RemoveReserve(d.dir)); err != nil {
		t.Error(err)
	}
}

func TestGUIDsAreRandom(t *testing.T) {
	a, err := System().NewGUID()
	b, _ := System().NewGUID()
	if err != nil || a == b || !isGUID(a) {
		t.Errorf("%q, %q, %v", a, b, err)
	}
	if _, err := (&Env{Rand: bytes.NewReader(nil)}).NewGUID(); err == nil {
		t.Error("a GUID out of nothing")
	}
}
