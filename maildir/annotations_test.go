package maildir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"roost/maildir/fsys/faultfs"
	"roost/store"
)

// annotate sets entries, given in pairs with their values; "-" removes.
func annotate(a store.Account, n store.Name, pairs ...string) error {
	var set []store.Annotation
	for i := 0; i < len(pairs); i += 2 {
		e := store.Annotation{Entry: pairs[i]}
		if pairs[i+1] != "-" {
			e.Value = []byte(pairs[i+1])
		}
		set = append(set, e)
	}
	return a.Annotate(context.Background(), n, set)
}

// annotationsOf prints what is kept.
func annotationsOf(t *testing.T, a store.Account, n store.Name) string {
	t.Helper()
	list, err := a.Annotations(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Entry+"="+string(e.Value))
	}
	return strings.Join(out, " ")
}

// metadataFiles are the files of annotations below a directory that hold a text.
func metadataFiles(t *testing.T, dir, text string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.Contains(d.Name(), "metadata") {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), text) {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestAnnotationsInEachLayout(t *testing.T) {
	eachLayout(t, func(t *testing.T, a *account) {
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		see := func(n store.Name, want string) {
			t.Helper()
			if got := annotationsOf(t, a, n); got != want {
				t.Errorf("%q has %s, want %s", n, got, want)
			}
		}
		dir := filepath.Dir(a.trees[0].root.Mail)
		must(a.Create(t.Context(), "p/q/r", nil))
		for _, n := range []store.Name{"", store.Inbox, "p", "p/q", "p/q/r"} {
			must(annotate(a, n, "/shared/x", "of-"+string(n), "/private/y", "1"))
		}
		for _, n := range []store.Name{"", store.Inbox, "p", "p/q", "p/q/r"} {
			see(n, "/private/y=1 /shared/x=of-"+string(n))
		}

		// A person edits the file where it lies, and every word counts at once.
		must(annotate(a, "p/q", store.SpecialUseEntry, `\Junk`))
		if got := fmt.Sprint(list(t, a, store.ListQuery{Patterns: []string{"p/q"}})); got != `map[p/q:[\HasChildren \Junk]]` {
			t.Error(got)
		}
		paths := metadataFiles(t, dir, "of-p/q\n")
		if len(paths) != 1 {
			t.Fatalf("files %q", paths)
		}
		must(os.WriteFile(paths[0], []byte("roost-metadata 1\n# mine\n"+store.SpecialUseEntry+" \\Sent\n/shared/x   by hand\n"), 0o600))
		see("p/q", store.SpecialUseEntry+`=\Sent /shared/x=by hand`)
		if got := fmt.Sprint(list(t, a, store.ListQuery{Patterns: []string{"p/q"}})); got != `map[p/q:[\HasChildren \Sent]]` {
			t.Error(got)
		}
		must(annotate(a, "p/q", "/shared/x", "again"))
		if b, err := os.ReadFile(paths[0]); err != nil || string(b) != "roost-metadata 1\n# mine\n"+store.SpecialUseEntry+" \\Sent\n/shared/x\tagain\n" {
			t.Errorf("the file is %q, %v", b, err)
		}

		// What is deleted leaves nothing behind; what keeps children may be a level without
		// mail, which has annotations of its own until its children go.
		must(a.Delete(t.Context(), "p"))
		level := a.trees[0].root.Layout == store.LayoutFS
		if level {
			see("p", "")
			must(annotate(a, "p", "/shared/x", "of a level"))
			see("p", "/shared/x=of a level")
			if err := annotate(a, "p", store.SpecialUseEntry, `\Sent`); !errors.Is(err, store.ErrCannot) {
				t.Errorf("special use of a level: %v", err)
			}
		} else if _, err := a.Annotations(t.Context(), "p"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("annotations of what is not there: %v", err)
		}
		must(a.Rename(t.Context(), "p/q", "z"))
		see("z", store.SpecialUseEntry+`=\Sent /shared/x=again`)
		see("z/r", "/private/y=1 /shared/x=of-p/q/r")
		if got := names(list(t, a, store.ListQuery{})); got != "INBOX z z/r" {
			t.Errorf("mailboxes %s", got)
		}
		must(a.Create(t.Context(), "s", nil))
		must(annotate(a, "s", "/shared/x", "s"))
		must(a.Rename(t.Context(), "s", "p"))
		see("p", "/shared/x=s")
		for _, n := range []store.Name{"p", "z/r", "z"} {
			must(a.Delete(t.Context(), n))
			must(a.Create(t.Context(), n, nil))
			see(n, "")
			must(a.Delete(t.Context(), n))
		}
		if paths := metadataFiles(t, dir, ""); len(paths) != 2 { // of INBOX and the account
			t.Errorf("files that are left: %q", paths)
		}
	})
}

// A file that cannot be read costs its mailbox the annotations, and nothing else; it stays.
func TestDamagedAnnotationsStayAsTheyAre(t *testing.T) {
	var log logLines
	s, err := New(Options{Host: "test.example", Poll: true, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	mail := filepath.Join(t.TempDir(), "Maildir")
	a, err := s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: mail, Create: true}}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Create(t.Context(), "Work", nil); err != nil {
		t.Fatal(err)
	}
	const damaged = "roost-metadata 1\n/private/specialuse \\Sent\n/private/comment 50% of it\n"
	path := filepath.Join(mail, ".Work", metadataFile)
	if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err = a.Annotations(t.Context(), "Work")
		var x *store.Explained
		if !errors.Is(err, store.ErrDamaged) || !errors.As(err, &x) || !strings.Contains(x.Text, "line 3") || strings.Contains(x.Text, mail) {
			t.Errorf("read: %v", err)
		}
		if err := annotate(a, "Work", "/private/comment", "x"); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("set: %v", err)
		}
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != damaged {
		t.Errorf("the file is %q, %v", b, err)
	}
	if n := strings.Count(log.String(), "event=metadata_damaged"); n != 1 || !strings.Contains(log.String(), path+": line 3: ") {
		t.Errorf("log of %d lines:\n%s", n, log.String())
	}
	if got := fmt.Sprint(list(t, a, store.ListQuery{})); got != `map[INBOX:[\HasNoChildren] Work:[\HasNoChildren \Sent]]` {
		t.Error(got)
	}
	if _, err := a.Status(t.Context(), "Work", true); err != nil {
		t.Error(err)
	}
	if err := annotate(a, store.Inbox, "/private/comment", "x"); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), "metadata.lock") }) {
		t.Errorf("left in the mailbox: %v, %v", entries, err)
	}
	// INBOX's own is in the way of nothing either.
	if err := os.WriteFile(filepath.Join(mail, metadataFile), []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Rename(t.Context(), store.Inbox, "Old"); err != nil {
		t.Error(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := annotate(a, "Work", "/private/comment", "mended"); err != nil || annotationsOf(t, a, "Work") != "/private/comment=mended" {
		t.Errorf("after it was removed: %v", err)
	}
	for _, strange := range []func() error{
		func() error { return os.Mkdir(path, 0o700) },
		func() error { return os.Symlink("/etc/passwd", path) },
		func() error { return os.WriteFile(path, make([]byte, metadataLimit+1), 0o600) },
	} {
		os.Remove(path)
		if err := strange(); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Annotations(t.Context(), "Work"); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("read: %v", err)
		}
		if err := annotate(a, "Work", "/private/comment", "x"); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("set: %v", err)
		}
	}
}

// In a tree that stands behind a prefix others may read: nothing private is kept there.
func TestAnnotationsOfASecondRoot(t *testing.T) {
	dir := t.TempDir()
	roots := []store.Root{{Mail: filepath.Join(dir, "own"), Create: true}, {Mail: filepath.Join(dir, "team"), Create: true, Prefix: "Team/"}}
	s, err := New(Options{Host: "test.example", Poll: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	open := func(user string) store.Account {
		mine := slices.Clone(roots)
		mine[0].Mail += user
		a, err := s.Account(t.Context(), store.Identity{User: user, Roots: mine})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { a.Close() })
		return a
	}
	ann, bob := open("ann"), open("bob")
	heard := bob.WatchAnnotations(func() {})
	defer heard.Close()
	if err := ann.Create(t.Context(), "Team/Plans", nil); err != nil {
		t.Fatal(err)
	}
	if err := annotate(ann, "Team/Plans", "/shared/comment", "x", "/private/comment", "y"); !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("private: %v", err)
	}
	for _, n := range []store.Name{"", store.Inbox, "Team/Plans"} {
		if err := annotate(ann, n, "/shared/comment", "x"); err != nil {
			t.Error(err)
		}
	}
	if got := annotationsOf(t, bob, "Team/Plans"); got != "/shared/comment=x" {
		t.Error(got)
	}
	if got := fmt.Sprint(heard.Pull()); got != "[{Team/Plans [/shared/comment]}]" {
		t.Errorf("bob was told %s", got)
	}
}

// Two programs change different entries at once: none is lost.
func TestAnnotationsOfTwoProcesses(t *testing.T) {
	root := store.Root{Mail: filepath.Join(t.TempDir(), "Maildir"), Create: true}
	var wg sync.WaitGroup
	const each = 40
	for p := range 2 {
		s, err := New(Options{Host: "test.example", Poll: true, PID: os.Getpid() + p})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close(context.Background())
		a, err := s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{root}})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		wg.Go(func() {
			for i := range each {
				if err := annotate(a, store.Inbox, fmt.Sprintf("/private/p%d/%d", p, i), "x"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b, err := os.ReadFile(filepath.Join(root.Mail, metadataFile))
	if n := strings.Count(string(b), "\n"); err != nil || n != 2*each+1 {
		t.Errorf("%d lines, %v", n, err)
	}
}

// A client that does not listen costs a bounded memory, and hears that there was more.
func TestAnnotationsNobodyListensTo(t *testing.T) {
	a := openAccount(t, '/', store.Root{Mail: filepath.Join(t.TempDir(), "Maildir"), Create: true})
	w := a.WatchAnnotations(func() {}).(*annotationWatch)
	defer w.Close()
	x := annotated{tree: a.trees[0], spot: spot{name: store.Inbox}}
	for i := range maxPendingEntries + 10 {
		a.s.tellAnnotated(nil, x, []string{fmt.Sprint("/private/", i)})
	}
	if len(w.pending) != 1 || w.entries != 0 || w.pending[0].entries != nil {
		t.Errorf("%d mailboxes, %d entries pending", len(w.pending), w.entries)
	}
	if got := w.Pull(); len(got) != 1 || got[0].Name != store.Inbox || got[0].Entries != nil {
		t.Errorf("told %v", got)
	}
	a.s.tellAnnotated(nil, x, []string{"/private/x"})
	if got := fmt.Sprint(w.Pull()); got != "[{INBOX [/private/x]}]" {
		t.Errorf("told %s", got)
	}
}

// Wherever a process is killed or the power fails, a mailbox has the annotations that were
// acknowledged or those of the command under way, whole; and its MODSEQ does not go back.
func TestAnnotateStoppedAnywhere(t *testing.T) {
	old, now := "/private/a=old /private/b=old", "/private/a=new /private/b=new"
	for n := 1; ; n++ {
		mem := faultfs.NewMem()
		mem.Now = func() time.Time { return time.Unix(1795500000, 0).Add(-time.Hour) } // a lock that stays is old
		l := newLab(t, mem)
		l.must(l.open("boot 1"))
		for _, box := range []store.Name{"", store.Inbox, "Archive"} {
			l.must(annotate(l.a, box, "/private/a", "old", "/private/b", "old"))
		}
		st, err := l.a.Status(t.Context(), "Archive", false)
		l.must(err)
		l.fs.Reset()
		l.fs.Stop(n)
		done := map[store.Name]bool{}
		for _, box := range []store.Name{"Archive", store.Inbox, ""} {
			if err = annotate(l.a, box, "/private/a", "new", "/private/b", "new"); err != nil {
				break
			}
			done[box] = true
			if now, err := l.a.Status(t.Context(), "Archive", false); err == nil {
				st = now
			}
		}
		l.stopped(n, 2, func(what string, again *lab) {
			if later, err := again.a.Status(t.Context(), "Archive", false); err != nil || later.HighestModSeq < st.HighestModSeq {
				t.Errorf("%s: MODSEQ was %d, is %d, %v", what, st.HighestModSeq, later.HighestModSeq, err)
			}
			for _, box := range []store.Name{"", store.Inbox, "Archive"} {
				if got := annotationsOf(t, again.a, box); got != now && (done[box] || got != old) {
					t.Errorf("%s: %q has %s, acknowledged: %v", what, box, got, done[box])
				}
				again.must(annotate(again.a, box, "/private/a", "last"))
			}
		})
		if err == nil || t.Failed() {
			break
		}
	}
}

// A call that fails, whichever it is, leaves the old or the new, and the next command works.
func TestAnnotateFailureAnywhere(t *testing.T) {
	for _, errno := range []error{syscall.ENOSPC, syscall.EIO, syscall.EMFILE, syscall.EROFS, syscall.EACCES} {
		for n := 1; ; n++ {
			mem := faultfs.NewMem()
			mem.Now = func() time.Time { return time.Unix(1795500000, 0).Add(-time.Hour) } // a lock that stays is old
			l := newLab(t, mem)
			l.must(l.open("boot"))
			l.must(annotate(l.a, "Archive", "/private/a", "old"))
			l.fs.Reset()
			l.fs.Fail(n, errno)
			err := annotate(l.a, "Archive", "/private/a", "new")
			calls := l.fs.Calls()
			l.fs.Reset()
			if got := annotationsOf(t, l.a, "Archive"); got != "/private/a=new" && (err == nil || got != "/private/a=old") {
				t.Errorf("%v at call %d: %s after %v", errno, n, got, err)
			}
			if err := annotate(l.a, "Archive", "/private/a", "last"); err != nil {
				t.Errorf("%v at call %d, then again: %v", errno, n, err)
			}
			l.close()
			if n > calls || t.Failed() {
				break
			}
		}
	}
}

// What another process or a person changes raises the MODSEQ too, once.
func TestAnnotationsOfAnotherProcessRaiseTheModSeq(t *testing.T) {
	for name, opt := range map[string]Options{"polled": {Poll: true}, "events": {}} {
		t.Run(name, func(t *testing.T) {
			o := openOutside(t, 1, opt)
			modSeq := func() store.ModSeq {
				st, err := o.a.Status(t.Context(), store.Inbox, false)
				o.must(err)
				return st.HighestModSeq
			}
			o.must(annotate(o.a, store.Inbox, "/private/a", "1"))
			raised := func(what string, change func()) {
				t.Helper()
				before := modSeq()
				change()
				if name == "events" { // one comes without being asked for
					for o.box.View().ModSeq == before {
						<-o.bell
					}
					return
				}
				after := modSeq()
				if after <= before {
					t.Errorf("%s: MODSEQ was %d, is %d", what, before, after)
				}
				if again := modSeq(); again != after {
					t.Errorf("%s: MODSEQ is %d, then %d", what, after, again)
				}
			}
			p := o.another(opt)
			raised("another process", func() { o.must(annotate(p.a, store.Inbox, "/private/b", "2")) })
			raised("a person", func() {
				o.must(os.WriteFile(o.path(metadataFile), []byte("roost-metadata 1\n/private/a by hand\n"), 0o600))
			})
			raised("one who removes it", func() { o.must(os.Remove(o.path(metadataFile))) })
		})
	}
}
