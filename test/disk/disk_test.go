// Package disk runs the server on a filesystem of its own that is full, out of inodes
// or read-only, and then is not any more.
package disk

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"roost/test/neighbour"
	"roost/test/witness"
)

// inside marks the process whose mounts are its own.
const inside = "ROOST_TEST_INSIDE"

// noMounts is why nothing can be mounted here.
var noMounts string

// TestMain runs the tests in a process whose mounts nobody else sees, and that end with
// it.
func TestMain(m *testing.M) {
	if os.Getenv(inside) == "" && os.Getuid() == 0 {
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		err := cmd.Run()
		var exit *exec.ExitError
		switch {
		case err == nil:
			os.Exit(0)
		case errors.As(err, &exit):
			os.Exit(exit.ExitCode())
		}
		noMounts = err.Error()
	} else if os.Getuid() != 0 {
		noMounts = "it mounts a small tmpfs"
	} else if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		noMounts = err.Error()
	}
	os.Exit(m.Run())
}

const (
	user     = "ann@example.org"
	password = "secret"
	patience = 5 * time.Minute // a watchdog, no measure
)

// ground is a small filesystem with ann's tree, and a server on it.
type ground struct {
	*testing.T
	dir    string // the filesystem
	tree   string
	roost  *neighbour.Roost
	ledger *witness.Ledger
	start  func()
}

// open mounts a tmpfs with these options and starts the server.
func open(t *testing.T, options string) *ground {
	t.Helper()
	if noMounts != "" {
		t.Skipf("needs root and CAP_SYS_ADMIN: %s", noMounts)
	}
	dir, remove, err := neighbour.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
	bin, err := neighbour.BuildRoost(dir)
	if err != nil {
		t.Fatal(err)
	}
	g := &ground{T: t, dir: filepath.Join(dir, "small"), ledger: witness.NewLedger()}
	g.tree = filepath.Join(g.dir, "ann")
	g.must(os.Mkdir(g.dir, 0o755))
	g.must(unix.Mount("tmpfs", g.dir, "tmpfs", 0, options))
	t.Cleanup(func() { unix.Unmount(g.dir, unix.MNT_DETACH) })
	g.must(neighbour.Own(g.dir))
	g.start = func() {
		g.Helper()
		var err error
		g.roost, err = neighbour.StartRoost(neighbour.RoostOptions{Bin: bin, Dir: filepath.Join(dir, "server"),
			Location: filepath.Join(g.dir, "%n"), Users: map[string]string{user: password}})
		g.must(err)
	}
	g.start()
	t.Cleanup(func() {
		g.roost.Close()
		if t.Failed() {
			t.Logf("the server's log:\n%s", g.roost.Log())
		}
	})
	return g
}

func (g *ground) must(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

func (g *ground) session(who string) *witness.Session {
	g.Helper()
	s, err := witness.Dial(g.ledger, who, g.roost.PlainAddr, user, password)
	g.must(err)
	g.Cleanup(func() { s.Close() })
	s.Tell = witness.ByBytes
	return s
}

// box is the directory of a mailbox.
func (g *ground) box(name string) string { return filepath.Join(g.tree, "."+name) }

func text(n int) string {
	return fmt.Sprintf("From: a@example.org\r\nSubject: message %d\r\nMessage-ID: <%d@disk>\r\n\r\nneedle %d\r\n", n, n, n)
}

// deliver is what an MTA does.
func (g *ground) deliver(dir string, n int) {
	g.Helper()
	if _, err := os.Stat(dir); err != nil {
		for _, sub := range []string{"", "cur", "new", "tmp"} {
			g.must(os.Mkdir(filepath.Join(dir, sub), 0o700))
		}
		g.must(neighbour.Own(dir))
	}
	name := fmt.Sprintf("1700000000.M%dP1.mta", n)
	g.must(os.WriteFile(filepath.Join(dir, "tmp", name), []byte(text(n)), 0o600))
	g.must(neighbour.Own(filepath.Join(dir, "tmp", name)))
	g.must(os.Rename(filepath.Join(dir, "tmp", name), filepath.Join(dir, "new", name)))
}

// fill takes all that is left of something, and gives it back.
func (g *ground) fillBytes() (free func()) {
	g.Helper()
	name := filepath.Join(g.dir, "ballast")
	f, err := os.Create(name)
	g.must(err)
	for size := 1 << 16; size > 0; {
		if _, err = f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		g.Fatal(err)
	}
	g.must(f.Close())
	return func() { g.must(os.Remove(name)) }
}

func (g *ground) fillInodes() (free func()) {
	g.Helper()
	dir := filepath.Join(g.dir, "ballast")
	g.must(os.Mkdir(dir, 0o700))
	var err error
	for i := 0; err == nil; i++ {
		var f *os.File
		if f, err = os.Create(filepath.Join(dir, fmt.Sprint(i))); err == nil {
			f.Close()
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		g.Fatal(err)
	}
	return func() { g.must(os.RemoveAll(dir)) }
}

// readOnly remounts it for reading. The kernel does that only while nothing is open for
// writing, so the server is away meanwhile; it is there when the way back is taken.
func (g *ground) readOnly() (free func()) {
	g.Helper()
	g.must(g.roost.Close())
	g.must(unix.Mount("", g.dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	g.start()
	return func() { g.must(unix.Mount("", g.dir, "", unix.MS_REMOUNT, "")) }
}

// refusal is a NO that says why in a code that clients understand.
var refusal = regexp.MustCompile(`NO \[(OVERQUOTA|LIMIT|NOPERM|READ-ONLY|UNAVAILABLE|CANNOT|INUSE)\] \S`)

// maybe is a command that may be refused, but then says why.
func (g *ground) maybe(what string, err error) (done bool) {
	g.Helper()
	switch {
	case err == nil:
		return true
	case !errors.Is(err, witness.ErrRefused):
		g.Errorf("%s: %v", what, err)
	case !refusal.MatchString(err.Error()):
		g.Errorf("%s was refused without a reason: %v", what, err)
	}
	return false
}

// reads does with a mailbox all that only reads.
func (g *ground) reads(s *witness.Session, box string, least int) {
	g.Helper()
	for _, c := range []string{`LIST "" *`, fmt.Sprintf("STATUS %q (MESSAGES UNSEEN UIDNEXT UIDVALIDITY)", box)} {
		if err := s.Do(c); err != nil {
			g.Errorf("%v", err)
		}
	}
	if err := s.Select(box); err != nil {
		g.Errorf("%v", err)
		return
	}
	for _, c := range []string{"NOOP", "FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[])", "SEARCH TEXT needle", "UID SEARCH UNSEEN"} {
		if len(s.Messages()) == 0 && strings.HasPrefix(c, "FETCH") {
			continue
		}
		if err := s.Do(c); err != nil {
			g.Errorf("%v", err)
		}
		if c == "SEARCH TEXT needle" {
			if found := len(strings.Fields(strings.Join(s.Lines, " "))) - 2; found < least {
				g.Errorf("%s: SEARCH found %d messages of %d", box, found, least)
			}
		}
	}
	if n := len(s.Messages()); n < least {
		g.Errorf("%s shows %d messages of %d", box, n, least)
	}
}

// all gives the messages of a mailbox by UID, as soon as there are as many as wanted.
func (g *ground) all(s *witness.Session, box string, want int) map[uint32]string {
	g.Helper()
	for deadline := time.Now().Add(patience); ; {
		if err := s.Select(box); err != nil {
			g.Fatal(err)
		}
		out := map[uint32]string{}
		for uid := range s.Messages() {
			out[uid] = g.ledger.Name(s.Key(uid))
		}
		if len(out) == want {
			return out
		}
		if time.Now().After(deadline) {
			g.Errorf("%s has %d messages, want %d", box, len(out), want)
			return out
		}
	}
}

// A disk without room, without inodes, or mounted read-only: mail is read, a mailbox
// opened for the first time too; what cannot be written is refused for a reason; nothing
// is lost; and when the cause is gone all goes on without a restart.
func TestNothingCanBeWritten(t *testing.T) {
	for _, c := range []struct {
		name    string
		options string
		fill    func(*ground) (free func())
	}{
		{"no byte left", "size=2m", (*ground).fillBytes},
		{"no inode left", "size=8m,nr_inodes=400", (*ground).fillInodes},
		{"read-only", "size=8m", (*ground).readOnly},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := open(t, c.options)
			old := g.session("who was there before")
			for _, box := range []string{"Known", "Target"} {
				g.must(old.Do("CREATE " + box))
			}
			messages := map[string]int{}
			for n := range 5 {
				g.deliver(g.tree, n)
				g.deliver(g.box("Known"), 10+n)
				g.deliver(g.box("Never"), 20+n)
			}
			messages["INBOX"], messages["Known"], messages["Never"] = 5, 5, 5
			g.all(old, "Known", 5)
			before := g.all(old, "INBOX", 5)
			validity := old.Validity()
			// Delivered into a mailbox that the server knows and nobody has open; and into
			// the one that is open, at the last moment.
			g.deliver(g.box("Known"), 15)
			g.deliver(g.tree, 5)
			free := c.fill(g)
			if c.name == "read-only" {
				old = g.session("who comes back first")
				g.must(old.Select("INBOX"))
			}

			s := g.session("who comes now")
			for _, box := range []string{"INBOX", "Known", "Never", "Target"} {
				g.reads(s, box, messages[box])
			}
			g.reads(old, "INBOX", messages["INBOX"])
			for round := range 3 {
				if err := old.Poll(); err != nil {
					t.Fatal(err)
				}
				if g.maybe("APPEND", s.Append("INBOX", `\Seen Key`, text(100+round)+strings.Repeat("x", 8192))) {
					t.Error("APPEND of two pages found room")
				}
				for _, box := range []string{"INBOX", "Known", "Never"} {
					if err := s.Select(box); err != nil {
						t.Error(err)
						continue
					}
					g.maybe("STORE", s.Do(`STORE 1 +FLAGS (\Flagged)`))
					g.maybe("STORE of a keyword", s.Do(fmt.Sprintf(`STORE 1 +FLAGS (New%d)`, round)))
					g.maybe("COPY", s.Do("COPY 1 Target"))
				}
				g.maybe("CREATE", s.Do(fmt.Sprintf("CREATE Made%d", round)))
				g.maybe("SUBSCRIBE", s.Do(fmt.Sprintf("SUBSCRIBE Sub%d", round)))
			}
			if err := s.Select("INBOX"); err != nil {
				t.Fatal(err)
			}
			for uid, text := range before {
				if got := g.ledger.Name(s.Key(uid)); got != text || s.Validity() != validity {
					t.Errorf("UID %d was %q and is %q", uid, text, got)
				}
			}

			free()
			g.ledger.Forget("Never") // it could not keep its UIDs, and so no UIDVALIDITY
			// Nothing is restarted.
			if err := s.Append("INBOX", "", text(50)); err != nil {
				t.Errorf("with room again: %v", err)
			}
			if s.Bye != "" && c.name == "read-only" {
				// The mailbox that could not be written is opened anew, and those who have
				// it open are sent away.
				s = g.session("who comes again")
			}
			after := g.all(s, "INBOX", 7)
			for uid, text := range before {
				if after[uid] != text || s.Validity() != validity {
					t.Errorf("UID %d was %q and is %q", uid, text, after[uid])
				}
			}
			g.all(s, "Known", 6)
			g.all(s, "Never", 5)
			g.ledger.Doom("the test", s.Key(3))
			for _, c := range []string{"CREATE Late", "SUBSCRIBE Late", `STORE 1 +FLAGS (Later)`, "COPY 1:2 Late", "MOVE 3 Late"} {
				if err := s.Do(c); err != nil {
					t.Errorf("with room again: %v", err)
				}
			}
			want := texts(g.all(s, "Never", 4))
			g.all(s, "Late", 3)
			// And the same after a restart.
			g.must(g.roost.Close())
			g.start()
			s = g.session("who comes after the restart")
			if got := texts(g.all(s, "Never", 4)); !slices.Equal(got, want) {
				t.Errorf("after a restart: %q, not %q", got, want)
			}
			g.all(s, "Late", 3)
			for uid, text := range g.all(s, "INBOX", 7) {
				if after[uid] != text {
					t.Errorf("after a restart UID %d is %q, not %q", uid, text, after[uid])
				}
			}
			for _, f := range g.ledger.Faults() {
				t.Error(f)
			}
		})
	}
}

func texts(m map[uint32]string) (out []string) {
	for _, t := range m {
		out = append(out, t)
	}
	slices.Sort(out)
	return out
}
