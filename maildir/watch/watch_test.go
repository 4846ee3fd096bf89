package watch

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"roost/maildir/fsys"
)

func open(t *testing.T, path string) fsys.Dir {
	t.Helper()
	d, err := fsys.OS.Root(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// listener gathers what one Sub tells until a condition holds.
type listener struct {
	t    *testing.T
	sub  *Sub
	bell chan struct{}
	all  Report
}

func listen(t *testing.T, w Watcher, d fsys.Dir) *listener {
	t.Helper()
	l := &listener{t: t, bell: make(chan struct{}, 1)}
	var err error
	l.sub, err = w.Add(d, "ann", func() {
		select {
		case l.bell <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.sub.Close)
	return l
}

func (l *listener) until(what string, ok func(Report) bool) {
	l.t.Helper()
	for !ok(l.all) {
		select {
		case <-l.bell:
		case <-time.After(5 * time.Minute):
			l.t.Fatalf("no event: %s; so far %+v", what, l.all)
		}
		r := l.sub.Pull()
		l.all.Names = append(l.all.Names, r.Names...)
		l.all.Look = l.all.Look || r.Look
		l.all.Lost = l.all.Lost || r.Lost
	}
}

func has(names ...string) func(Report) bool {
	return func(r Report) bool {
		for _, n := range names {
			if !slices.Contains(r.Names, n) {
				return false
			}
		}
		return true
	}
}

func system(t *testing.T, opt Options) *System {
	s := NewSystem(opt)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestDeliveriesAreToldByName(t *testing.T) {
	box := t.TempDir()
	for _, n := range []string{"new", "cur", "tmp"} {
		os.Mkdir(filepath.Join(box, n), 0o700)
	}
	s := system(t, Options{})
	inNew := listen(t, s, open(t, filepath.Join(box, "new")))
	inCur := listen(t, s, open(t, filepath.Join(box, "cur")))
	second := listen(t, s, open(t, filepath.Join(box, "cur")))

	write := func(name string) {
		if err := os.WriteFile(filepath.Join(box, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("tmp/a")
	os.Link(filepath.Join(box, "tmp/a"), filepath.Join(box, "new/a"))
	os.Remove(filepath.Join(box, "tmp/a"))
	write("tmp/b")
	os.Rename(filepath.Join(box, "tmp/b"), filepath.Join(box, "new/b"))
	inNew.until("link and rename into new", has("a", "b"))
	if inNew.all.Look {
		t.Error("a look was asked for though nothing was missed")
	}
	os.Rename(filepath.Join(box, "new/a"), filepath.Join(box, "cur/a:2,S"))
	os.Remove(filepath.Join(box, "new/b"))
	inCur.until("rename into cur", has("a:2,S"))
	second.until("the second subscriber of one directory", has("a:2,S"))
	second.sub.Close()
	os.Remove(filepath.Join(box, "cur/a:2,S"))
	os.Rename(filepath.Join(box, "cur/a:2,S"), filepath.Join(box, "cur/z"))
	inCur.until("removal, after another closed", func(r Report) bool { return len(r.Names) >= 2 })
}

func TestMovedAndRemovedDirectoriesAreLost(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(path string) error
	}{
		{"moved", func(p string) error { return os.Rename(p, p+"2") }},
		{"removed", os.Remove},
	} {
		for _, parentToo := range []bool{false, true} {
			if c.name == "removed" && !parentToo {
				continue // the kernel is silent while a descriptor holds the directory
			}
			t.Run(fmt.Sprintf("%s/parent %v", c.name, parentToo), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "cur")
				os.Mkdir(path, 0o700)
				s := system(t, Options{})
				if parentToo {
					listen(t, s, open(t, filepath.Dir(path)))
				}
				l := listen(t, s, open(t, path))
				if err := c.do(path); err != nil {
					t.Fatal(err)
				}
				l.until(c.name, func(r Report) bool { return r.Lost && r.Look })
				if r := l.sub.Pull(); !r.Lost || !r.Look {
					t.Error("lost was told once and forgotten")
				}

				// Another directory in its place is watched anew. The parent told of the move; the
				// directory's own word of it may be on its way, and is taken for one of the new
				// directory then: that is Lost too, once.
				os.Mkdir(path, 0o700)
				again := listen(t, s, open(t, path))
				l.sub.Close()
				os.WriteFile(filepath.Join(path, "x"), nil, 0o600)
				again.until("an event in the new directory", func(r Report) bool { return r.Lost || has("x")(r) })
				if again.all.Lost {
					again.sub.Close()
					again = listen(t, s, open(t, path))
					os.WriteFile(filepath.Join(path, "y"), nil, 0o600)
					again.until("an event in the new directory", has("y"))
				}
			})
		}
	}
}

func TestAddOfWhatIsElsewhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cur")
	os.Mkdir(path, 0o700)
	d := open(t, path)
	os.Rename(path, path+"2")
	s := system(t, Options{})
	if _, err := s.Add(d, "ann", func() {}); !errors.Is(err, ErrMoved) {
		t.Errorf("path is gone: %v", err)
	}
	os.Mkdir(path, 0o700)
	if _, err := s.Add(d, "ann", func() {}); !errors.Is(err, ErrMoved) {
		t.Errorf("path is another directory: %v", err)
	}
}

func TestOverflowTellsAll(t *testing.T) {
	s := system(t, Options{Shards: 1})
	path := t.TempDir()
	l := listen(t, s, open(t, path))
	s.shards[0].overflow(fsnotify.ErrEventOverflow)
	l.until("overflow", func(r Report) bool { return r.Look && r.Lost })
	l.sub.Close()
	l = listen(t, s, open(t, path))
	os.WriteFile(filepath.Join(path, "x"), nil, 0o600)
	l.until("an event after the watch was set anew", has("x"))
}

func TestListIsBounded(t *testing.T) {
	woken := 0
	s := NewSub(func() { woken++ }, nil, false, func(*Sub) {})
	for i := range 3 * maxNames {
		s.Note(Report{Names: []string{fmt.Sprint(i)}})
	}
	r := s.Pull()
	if !r.Look || r.Lost || len(r.Names) != 0 {
		t.Errorf("%d names, look %v", len(r.Names), r.Look)
	}
	if woken != 1 {
		t.Errorf("woken %d times, want once", woken)
	}
	s.Note(Report{Names: []string{"a"}})
	s.Note(Report{Names: []string{"a"}})
	s.Note(Report{Names: []string{"b"}})
	if r := s.Pull(); !slices.Equal(r.Names, []string{"a", "b"}) || r.Look || woken != 2 {
		t.Errorf("%+v, woken %d times", r, woken)
	}
	if r := s.Pull(); len(r.Names) != 0 || r.Look {
		t.Errorf("told twice: %+v", r)
	}
	s.Close()
	s.Note(Report{Look: true})
	if woken != 2 {
		t.Error("woken after Close")
	}
}

func TestNamesOfNoInterestWakeNobody(t *testing.T) {
	var woken int
	s := NewSub(func() { woken++ }, []string{"dovecot-uidlist"}, false, func(*Sub) {})
	s.Note(Report{Names: []string{"dovecot-uidlist.lock"}})
	if r := s.Pull(); woken != 0 || len(r.Names) != 0 {
		t.Errorf("woken %d times with %q", woken, r.Names)
	}
	s.Note(Report{Names: []string{"dovecot-uidlist.lock", "dovecot-uidlist"}})
	if r := s.Pull(); woken != 1 || !slices.Equal(r.Names, []string{"dovecot-uidlist"}) {
		t.Errorf("woken %d times with %q", woken, r.Names)
	}
	s.Note(Report{Look: true})
	s.Note(Report{Lost: true})
	if r := s.Pull(); woken != 3 || !r.Look || !r.Lost {
		t.Errorf("woken %d times with %+v", woken, r)
	}
}

func TestPollingSeesChangesWithinOneTick(t *testing.T) {
	path := t.TempDir()
	old := time.Now().Add(-time.Hour)
	os.Chtimes(path, old, old)
	now := time.Now()
	p := newPoller(Options{Interval: time.Hour, Now: func() time.Time { return now }})
	defer p.stop()
	var woken atomic.Int32
	sub, err := p.add(open(t, path), func() { woken.Add(1) }, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.look()
	if r := sub.Pull(); r.Look || woken.Load() != 0 {
		t.Fatal("a look without a change")
	}
	os.WriteFile(filepath.Join(path, "x"), nil, 0o600)
	p.look()
	if r := sub.Pull(); !r.Look || r.Lost {
		t.Fatal("a change was missed")
	}
	now = now.Add(time.Hour)
	p.look() // a second change may hide behind the same mtime
	if r := sub.Pull(); !r.Look {
		t.Fatal("a young mtime was trusted")
	}
	p.look()
	if r := sub.Pull(); r.Look {
		t.Fatal("an old mtime was not trusted")
	}
	os.RemoveAll(path)
	p.look()
	if r := sub.Pull(); !r.Lost {
		t.Fatal("a removed directory was not told")
	}
	sub.Close()
	if len(p.subs) != 0 {
		t.Error("still polled after Close")
	}
}

func TestPolledBySystem(t *testing.T) {
	path := t.TempDir()
	s := system(t, Options{Poll: true, Interval: time.Millisecond})
	l := listen(t, s, open(t, path))
	if !l.sub.Polled() {
		t.Error("not told that it is polled")
	}
	os.WriteFile(filepath.Join(path, "x"), nil, 0o600)
	l.until("a poll", func(r Report) bool { return r.Look })
}

// No instance can be had: the process has no descriptor left for one.
func TestLimitFallsBackToPollingAndIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	s := system(t, Options{Interval: time.Hour, Shards: 2, Log: slog.New(slog.NewTextHandler(&log, nil))})
	dirs := []fsys.Dir{open(t, t.TempDir()), open(t, t.TempDir()), open(t, t.TempDir())}
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	low := lim
	low.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	var subs []*Sub
	for i, d := range dirs {
		sub, err := s.Add(d, fmt.Sprint(i), func() {})
		if err != nil {
			t.Error(err)
			continue
		}
		subs = append(subs, sub)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	for _, sub := range subs {
		if !sub.Polled() {
			t.Error("not polled")
		}
		sub.Close()
	}
	if n := strings.Count(log.String(), "fs.inotify.max_user_instances"); n != 1 {
		t.Errorf("logged %d times, want once:\n%s", n, log.String())
	}
}

func TestCloseBesideEvents(t *testing.T) {
	path := t.TempDir()
	s := system(t, Options{})
	d := open(t, path)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 2000 {
			n := filepath.Join(path, fmt.Sprint(i%7))
			os.WriteFile(n, nil, 0o600)
			os.Remove(n)
		}
	}()
	for range 200 {
		sub, err := s.Add(d, "ann", func() {})
		if err != nil {
			t.Fatal(err)
		}
		sub.Close()
	}
	<-done
	l := listen(t, s, d)
	os.WriteFile(filepath.Join(path, "last"), nil, 0o600)
	l.until("the last event", has("last"))
}

// Directories that changed places while nobody was told are watched each where it is now,
// and the end of their watches harms nothing: fsnotify, which would still know them by
// their old paths, panicked.
func TestDirectoriesThatChangePlaces(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name, "cur") }
	s := system(t, Options{Shards: 1})
	var old []*listener
	for _, name := range []string{"a", "b"} {
		if err := os.MkdirAll(at(name), 0o700); err != nil {
			t.Fatal(err)
		}
		old = append(old, listen(t, s, open(t, at(name))))
	}
	for range 3 {
		s.shards[0].overflow(fsnotify.ErrEventOverflow)
		for _, move := range [][2]string{{"a", "t"}, {"b", "a"}, {"t", "b"}} {
			if err := os.Rename(filepath.Join(dir, move[0]), filepath.Join(dir, move[1])); err != nil {
				t.Fatal(err)
			}
		}
		var now []*listener
		for _, name := range []string{"b", "a"} {
			now = append(now, listen(t, s, open(t, at(name))))
		}
		for i, name := range []string{"b", "a"} {
			file := filepath.Join(at(name), "in-"+name)
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			now[i].until("what is made in "+name, has("in-"+name))
			os.Remove(file)
		}
		for _, l := range old {
			l.sub.Close()
		}
		old = now
	}
}
