package maildir

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"golang.org/x/sys/unix"

	"roost/store"
)

const strangeText = "Subject: x\n\nx\n"

// long is a name of n bytes that sorts behind prefix.
func long(prefix string, n int) string { return prefix + strings.Repeat("x", n-len(prefix)) }

// served are entries of cur/ or new/ that are messages, whatever they are called.
var served = []string{
	"cur/1700000001.first.h:2,",
	"cur/1700000002.sizes.h,S=1,W=2:2,S",
	"cur/1700000003.sizes.h,S=14,W=99999999999999999999:2,",
	"cur/1700000004.sizes.h,S=14,W=15:2,",
	"cur/1700000005.\xff\xfe latin1 \xe9.h:2,",
	"cur/1700000006.tab\tescape\x1b[31m bell\a del\x7f.h:2,",
	"cur/1700000007.two.h:2,S:2,F",
	"cur/1700000008.semicolon.h;2,S",
	"cur/1700000009.bang.h!2,S",
	"cur/1700000010.other.h:1,S",
	"cur/1700000011.none.h:",
	"cur/1700000012.unknown.h:2,SXQ",
	"cur/1700000013 with space :2,",
	"cur/1700000014.quote\"'`$(x)\\.h:2,",
	"cur/" + long("1700000015.", 250) + ":2,",
	"cur/" + long("1700000016.", 255),
	"new/" + long("1700000017.", 255),
	"new/" + long("1700000018.", 253),
	"new/1700000019.info.h:2,F",
	"new/1700000020.last.h",
	"cur/-rf",
	"cur/~",
	"cur/0",
}

// makeDevices makes a character and a block device; nil where a test does not know how.
var makeDevices func(char, block string) error

// strange makes what is no message in cur/ and new/ of a mailbox, and gives the names.
func strange(t *testing.T, root string) (names []string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	outside := filepath.Join(t.TempDir(), "outside")
	must(os.WriteFile(outside, []byte("Subject: secret\n\n"), 0o600))
	must(os.WriteFile(filepath.Join(root, "inside"), []byte(strangeText), 0o600))
	for _, sub := range []string{"cur", "new"} {
		name := func(s string) string {
			names = append(names, s)
			return filepath.Join(root, sub, s)
		}
		must(unix.Mkfifo(name("1700000030.fifo.h:2,"), 0o600))
		must(os.Mkdir(name("1700000031.dir.h:2,"), 0o700))
		must(os.Mkdir(name("dir"), 0o700))
		must(os.WriteFile(filepath.Join(root, sub, "dir", "inside"), []byte(strangeText), 0o600))
		must(os.Symlink(outside, name("1700000032.out.h:2,")))
		must(os.Symlink("../inside", name("1700000033.in.h:2,")))
		must(os.Symlink("1700000034.self.h:2,", name("1700000034.self.h:2,")))
		must(os.Symlink("nowhere", name("1700000035.dangling.h:2,")))
		must(os.Symlink(".", name("1700000036.dot.h:2,")))
		must(os.WriteFile(name("1700000037.line\nend.h:2,"), []byte(strangeText), 0o600))
		must(os.WriteFile(name("1700000038.return\r.h:2,"), []byte(strangeText), 0o600))
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: shortLink(t, filepath.Join(root, sub)) + "/s", Net: "unix"})
		must(err)
		l.SetUnlinkOnClose(false)
		must(l.Close())
		names = append(names, "s")
		if makeDevices != nil && os.Getuid() == 0 {
			must(makeDevices(name("1700000039.null.h:2,"), name("1700000040.disk.h:2,")))
		}
		must(os.WriteFile(filepath.Join(root, sub, ".hidden"), []byte(strangeText), 0o600)) // not even told of
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// shortLink is a path that fits the address of a socket.
func shortLink(t *testing.T, dir string) string {
	t.Helper()
	tmp, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	link := filepath.Join(tmp, "d")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	return link
}

func makeServed(t *testing.T, root string) {
	t.Helper()
	for _, name := range served {
		if err := os.WriteFile(filepath.Join(root, name), []byte(strangeText), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// What lies among the messages and is none is told of once, and all messages are
// served, read, flagged and expunged as if it were not there; whether it was there
// first or came later.
func TestStrangeEntriesHarmNoNeighbour(t *testing.T) {
	for _, later := range []bool{false, true} {
		for _, poll := range []bool{false, true} {
			t.Run(fmt.Sprintf("later=%v poll=%v", later, poll), func(t *testing.T) {
				var log logLines
				o := openOutside(t, 0, Options{Poll: poll, Log: slog.New(slog.NewTextHandler(&log, nil))})
				if !later {
					o.close()
				}
				names := strange(t, o.root)
				makeServed(t, o.root)
				if later && !poll {
					o.until("all messages", func() bool { return o.v.UIDs.Len() == len(served) })
				} else if !later {
					o.open(Options{Poll: poll, Log: slog.New(slog.NewTextHandler(&log, nil))})
				}
				m := o.box.(*hold).m
				for range 3 {
					o.must(o.box.Look(t.Context()))
					m.files.Lock()
					err := m.lookAll()
					m.files.Unlock()
					o.must(err)
				}
				checkServed(t, o)
				for _, name := range names {
					quoted := fmt.Sprintf("name=%q", name)
					lines := append(log.with("event=strange_file "), log.with("name="+name+"\n")...)
					n := 0
					for _, l := range lines {
						if strings.Contains(l, quoted) || strings.HasSuffix(l, "name="+name+"\n") {
							n++
						}
					}
					if n == 0 {
						t.Errorf("nothing is told of %q", name)
					}
					if _, err := os.Lstat(o.path("cur/" + name)); err != nil {
						t.Errorf("%q was there: %v", name, err)
					}
				}
				if n := len(log.with("event=strange_file ")); n > 2*len(names) {
					t.Errorf("%d lines on %d names:\n%s", n, len(names), strings.Join(log.with("event=strange_file"), ""))
				}
			})
		}
	}
}

// checkServed reads, flags and expunges all messages.
func checkServed(t *testing.T, o *outside) {
	t.Helper()
	v := o.box.View()
	all := v.UIDs.Slice(0, v.UIDs.Len())
	if len(all) != len(served) {
		t.Fatalf("%d messages, want %d", len(all), len(served))
	}
	for _, uid := range all {
		if got, err := readAll(t, o.box, uid); err != nil || got != "Subject: x\r\n\r\nx\r\n" {
			t.Errorf("UID %d: %q: %v", uid, got, err)
		}
	}
	rows, _, err := o.box.SetFlags(t.Context(), all, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted, imap.FlagSeen, "$Label"}})
	if err != nil {
		t.Errorf("flags: %v", err)
	}
	for _, r := range rows {
		if r.Flags&(store.FlagDeleted|store.FlagSeen) != store.FlagDeleted|store.FlagSeen || !r.Keywords.Has("$Label") {
			t.Errorf("UID %d has %v %v", r.UID, r.Flags.Names(), r.Keywords.Names())
		}
	}
	gone, _, err := o.box.Expunge(t.Context(), nil)
	if err != nil || len(gone) != len(all) {
		t.Errorf("%d of %d were expunged: %v", len(gone), len(all), err)
	}
}

// A message that was listed under a name without room for flags keeps its UID. Its
// neighbours get theirs, it says why it does not, and a MOVE gives it a name that can.
func TestNameWithoutRoomForFlags(t *testing.T) {
	o := openOutside(t, 3, Options{Poll: true})
	o.close()
	full := long("1700000000.M9P1.", 255)
	o.must(os.WriteFile(o.path("cur/"+full), []byte(strangeText), 0o600))
	f, err := os.OpenFile(o.path("dovecot-uidlist"), os.O_APPEND|os.O_WRONLY, 0)
	o.must(err)
	_, err = fmt.Fprintf(f, "4 :%s\n5 :1700000000.M10P1.host\n", full)
	o.must(err)
	o.must(f.Close())
	o.must(os.WriteFile(o.path("cur/1700000000.M10P1.host:2,"), []byte(strangeText), 0o600))
	o.open(Options{Poll: true})
	all := []imap.UID{1, 2, 3, 4, 5}
	rows, _, err := o.box.SetFlags(t.Context(), all, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagSeen}})
	var x *store.Explained
	if !errors.Is(err, store.ErrLimit) || !errors.As(err, &x) {
		t.Errorf("flags: %v", err)
	}
	if len(rows) != 5 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, r := range rows {
		if seen := r.Flags&store.FlagSeen != 0; seen != (r.UID != 4) {
			t.Errorf("UID %d has %v", r.UID, r.Flags.Names())
		}
	}
	o.must(o.a.Create(t.Context(), "Other", nil))
	if _, err := o.box.Move(t.Context(), []imap.UID{4}, "Other"); err != nil {
		t.Fatal(err)
	}
	other, err := o.a.Hold(t.Context(), "Other", true, func() {})
	o.must(err)
	defer other.Close()
	if _, _, err := other.SetFlags(t.Context(), []imap.UID{1}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagSeen}}); err != nil {
		t.Errorf("after MOVE: %v", err)
	}
}

// A program that links a message and has not yet unlinked its old name makes two names
// of one file: one message, and both names stay until it had time to go on. Two files
// of one base are two messages.
func TestTwoNamesOfOneBase(t *testing.T) {
	o := openOutside(t, 0, Options{Poll: true})
	o.close()
	o.must(os.WriteFile(o.path("cur/1700000001.a.h:2,"), []byte(strangeText), 0o600))
	o.must(os.Link(o.path("cur/1700000001.a.h:2,"), o.path("cur/1700000001.a.h:2,S")))
	o.must(os.Link(o.path("cur/1700000001.a.h:2,"), o.path("new/1700000001.a.h")))
	o.must(os.WriteFile(o.path("cur/1700000002.b.h:2,F"), []byte(strangeText), 0o600))
	o.must(os.WriteFile(o.path("cur/1700000002.b.h:2,SR"), []byte("Subject: other\n\n"), 0o600))
	o.must(os.WriteFile(o.path("new/1700000002.b.h"), []byte("Subject: third\n\n"), 0o600))
	var first []imap.UID
	for range 3 {
		o.open(Options{Poll: true})
		v := o.box.View()
		uids := v.UIDs.Slice(0, v.UIDs.Len())
		if first == nil {
			first = uids
		}
		if len(uids) != 4 || !slices.Equal(uids, first) {
			t.Fatalf("UIDs %v, at first %v", uids, first)
		}
		var texts []string
		for _, uid := range uids {
			text, err := readAll(t, o.box, uid)
			o.must(err)
			texts = append(texts, text)
		}
		slices.Sort(texts)
		if !slices.Equal(texts, []string{"Subject: other\r\n\r\n", "Subject: third\r\n\r\n", "Subject: x\r\n\r\nx\r\n", "Subject: x\r\n\r\nx\r\n"}) {
			t.Errorf("%q", texts)
		}
		o.close()
	}
	names, err := filepath.Glob(o.path("[cn][ue][rw]/1700000001.a.h*"))
	o.must(err)
	if len(names) < 2 { // new/ is gone through first, and its message went to cur/ perhaps
		t.Errorf("the links are %q", names)
	}
}
