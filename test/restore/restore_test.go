// Package restore puts yesterday's tree back, under a server that runs and under one that
// was stopped, and compares by the messages' bytes what UIDs meant before and after.
package restore

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"roost/test/neighbour"
	"roost/test/witness"
)

const (
	user     = "ann@example.org"
	password = "secret"
	patience = 5 * time.Minute // a watchdog, no measure
)

// place is a server and ann's tree.
type place struct {
	*testing.T
	bin, dir, tree, backup string
	roost                  *neighbour.Roost
	ledger                 *witness.Ledger
	number                 int
}

func newPlace(t *testing.T) *place {
	t.Helper()
	dir, remove, err := neighbour.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
	p := &place{T: t, dir: dir, tree: filepath.Join(dir, "mail/ann"), backup: filepath.Join(dir, "backup/ann"), ledger: witness.NewLedger()}
	p.bin, err = neighbour.BuildRoost(dir)
	p.must(err)
	for _, d := range []string{"mail", "backup"} {
		p.must(os.Mkdir(filepath.Join(dir, d), 0o755))
		p.must(neighbour.Own(filepath.Join(dir, d)))
	}
	p.ledger.MayGo = func(string) bool { return true } // a restore takes messages away
	p.start()
	t.Cleanup(func() {
		p.roost.Close()
		if t.Failed() {
			t.Logf("the server's log:\n%s", p.roost.Log())
		}
	})
	return p
}

func (p *place) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func (p *place) start() {
	p.Helper()
	var err error
	p.roost, err = neighbour.StartRoost(neighbour.RoostOptions{Bin: p.bin, Dir: filepath.Join(p.dir, "server"),
		Location: filepath.Join(p.dir, "mail/%n"), Users: map[string]string{user: password}})
	p.must(err)
}

func (p *place) shell(script string) { p.Helper(); p.run("sh", script) }
func (p *place) bash(script string)  { p.Helper(); p.run("bash", script) }

func (p *place) run(shell, script string) {
	p.Helper()
	c := exec.Command(shell, "-euc", script)
	c.Env = append(os.Environ(), "tree="+p.tree, "backup="+p.backup, "copy="+filepath.Dir(p.backup))
	if out, err := c.CombinedOutput(); err != nil {
		p.Fatalf("%s\n%v: %s", script, err, out)
	}
}

func (p *place) session() *witness.Session {
	p.Helper()
	s, err := witness.Dial(p.ledger, "a client", p.roost.PlainAddr, user, password)
	p.must(err)
	p.Cleanup(func() { s.Close() })
	s.Tell = witness.ByBytes
	return s
}

// deliver is what an MTA does.
func (p *place) deliver(box string, count int) {
	p.Helper()
	dir := p.tree
	if box != "INBOX" {
		dir = filepath.Join(p.tree, "."+box)
	}
	for range count {
		p.number++
		name := fmt.Sprintf("1700000000.M%06dP1.mta", p.number)
		text := fmt.Sprintf("Message-ID: <%d@restore>\nSubject: %d\n\nbody %d\n", p.number, p.number, p.number)
		p.must(os.WriteFile(filepath.Join(dir, "tmp", name), []byte(text), 0o600))
		p.must(neighbour.Own(filepath.Join(dir, "tmp", name)))
		p.must(os.Rename(filepath.Join(dir, "tmp", name), filepath.Join(dir, "new", name)))
	}
}

// see has a new client look at a mailbox until it has as many messages as there are.
func (p *place) see(box string, count int) *witness.Session {
	p.Helper()
	var have []int
	for deadline := time.Now().Add(patience); ; {
		s := p.session()
		if err := s.Select(box); err == nil && len(s.Messages()) == count {
			return s
		} else if err == nil && !slices.Contains(have, len(s.Messages())) {
			have = append(have, len(s.Messages()))
		}
		s.Close()
		if time.Now().After(deadline) {
			p.Fatalf("%s has %v messages, want %d", box, have, count)
		}
	}
}

// yesterday makes the backup as old as the name of the test says.
const yesterday = `find "$backup" -exec touch -h -d '1 day ago' {} +`

// Whatever way the tree of yesterday comes back: UIDs that were given since then are not
// given again, and those that are shown name what they named.
func TestRestoredTreeGivesNoUIDAgain(t *testing.T) {
	for _, c := range []struct {
		name    string
		stopped bool
		restore string
	}{
		{"cp, stopped", true, `rm -rf "$tree"; cp -a "$backup" "$tree"`},
		{"cp, running", false, `rm -rf "$tree"; cp -a "$backup" "$tree"`},
		{"cp over what is there, stopped", true, `cp -a "$backup/." "$tree/"`},
		{"moved into place, running", false, `cp -a "$backup" "$tree.new"; mv "$tree" "$tree.old"; mv "$tree.new" "$tree"`},
		{"rsync, stopped", true, `rsync -a --delete "$backup/" "$tree/"`},
		{"rsync, running", false, `rsync -a --delete "$backup/" "$tree/"`},
		{"tar, stopped", true, `tar -C "$copy" -cpf "$copy/tar" ann; rm -rf "$tree"; tar -C "${tree%/*}" -xpf "$copy/tar"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if strings.HasPrefix(c.name, "rsync") {
				if _, err := neighbour.Find("rsync", "rsync"); err != nil {
					t.Skip(err)
				}
			}
			p := newPlace(t)
			s := p.session()
			p.must(s.Do("CREATE Box"))
			for _, box := range []string{"INBOX", "Box"} {
				p.deliver(box, 10)
				p.see(box, 10)
			}
			if c.stopped { // and a backup that was made in peace
				p.must(p.roost.Close())
			}
			p.shell(`cp -a "$tree" "$backup"; ` + yesterday)
			if c.stopped {
				p.start()
			}

			for _, box := range []string{"INBOX", "Box"} {
				p.deliver(box, 10)
				s := p.see(box, 20)
				for _, command := range []string{"UID STORE 3,12 +FLAGS (\\Deleted)", "UID EXPUNGE 3,12", "UID STORE 5,15 +FLAGS (\\Seen Key)"} {
					p.must(s.Do(command))
				}
			}
			idler := p.session()
			p.must(idler.Select("INBOX"))

			if c.stopped {
				p.must(p.roost.Close())
			}
			p.shell(c.restore)
			if c.stopped {
				p.start()
			}
			for _, box := range []string{"INBOX", "Box"} {
				count := 10
				if strings.HasPrefix(c.name, "cp over") {
					count = 19 // what came since stays; of UID 5 there are two files now
				}
				if count == 10 {
					p.see(box, count)
				}
				p.deliver(box, 5)
				if count == 10 {
					s = p.see(box, count+5)
				} else {
					s = p.session()
					p.must(s.Select(box))
				}
				for uid := range s.Messages() {
					if name := p.ledger.Name(s.Key(uid)); uid > 10 && uid <= 20 && count == 10 {
						t.Errorf("%s: UID %d is given again, to %q", box, uid, name)
					}
				}
			}
			for _, f := range p.ledger.Faults() {
				t.Error(f)
			}
		})
	}
}

// A client that returns with the MODSEQ of a moment which the backup does not know is told
// all: what is gone, what is back, and the flags as they were.
func TestRestoredTreeIsToldByModSeq(t *testing.T) {
	p := newPlace(t)
	s := p.session()
	p.must(s.Do("CREATE Box"))
	p.deliver("INBOX", 10)
	s = p.see("INBOX", 10)
	p.must(s.Do(`UID STORE 7 +FLAGS (\Flagged)`))
	p.must(p.roost.Close())
	p.shell(`cp -a "$tree" "$backup"; ` + yesterday)
	p.start()
	p.deliver("INBOX", 5)
	s = p.see("INBOX", 15)
	for _, command := range []string{`UID STORE 3 +FLAGS (\Deleted)`, "UID EXPUNGE 3", `UID STORE 5 +FLAGS (\Seen)`} {
		p.must(s.Do(command))
	}
	s = p.session()
	p.must(s.Do("SELECT INBOX (CONDSTORE)"))
	_, known, ok := strings.Cut(strings.Join(s.Lines, " "), "[HIGHESTMODSEQ ")
	if !ok {
		t.Fatalf("no HIGHESTMODSEQ in %q", s.Lines)
	}
	known, _, _ = strings.Cut(known, "]")
	p.must(p.roost.Close())
	p.shell(`rm -rf "$tree"; cp -a "$backup" "$tree"`)
	p.start()
	s = p.session()
	p.must(s.Do("ENABLE QRESYNC"))
	p.must(s.Do(fmt.Sprintf("SELECT INBOX (QRESYNC (%d %s 1:15))", p.validity("INBOX"), known)))
	told := strings.Join(s.Lines, "\n")
	if !strings.Contains(told, "* VANISHED (EARLIER) 11:15") {
		t.Errorf("UIDs 11 to 15 are gone, and the client is told\n%s", told)
	}
	got := s.Messages()
	if flags, ok := got[3]; !ok {
		t.Error("UID 3 is back, and the client is not told")
	} else if len(flags) > 0 {
		t.Errorf("UID 3 has %v", flags)
	}
	if flags, ok := got[5]; !ok || len(flags) > 0 {
		t.Errorf("UID 5 is no longer \\Seen, and the client is told %v (%t)", flags, ok)
	}
	if flags := got[7]; !slices.Equal(flags, []string{`\Flagged`}) {
		t.Errorf("UID 7 has %v", flags)
	}
}

func (p *place) validity(box string) uint32 {
	p.Helper()
	s := p.session()
	p.must(s.Examine(box))
	return s.Validity()
}
