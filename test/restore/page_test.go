package restore

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"roost/test/witness"
)

// steps are the blocks of docs/restore.md, by the heading above each.
func steps(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("../../docs/restore.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, m := range regexp.MustCompile("(?ms)^## ([^\n]*)\n(.*?)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(b), -1) {
		out[m[1]] = m[3]
	}
	return out
}

// follow does what the page says.
func (p *place) follow(step string) {
	p.Helper()
	if step == "" {
		p.Fatal("the page has no such step")
	}
	step = strings.NewReplacer("/var/vmail/example.org/ann/Maildir", p.tree, "/backup/example.org/ann/Maildir", p.backup).Replace(step)
	first, rest, _ := strings.Cut(step, "\n") // the names
	run := func(script string) { p.bash("sudo() { \"$@\"; }\n" + first + "\n" + script) }
	for rest != "" {
		before, after, stops := strings.Cut(rest, "sudo systemctl stop roost\n")
		if !stops {
			break
		}
		run(before)
		p.must(p.roost.Close())
		before, after, starts := strings.Cut(after, "sudo systemctl start roost\n")
		if !starts {
			p.Fatal("the page stops the server and does not start it")
		}
		run(before)
		p.start()
		rest = after
	}
	run(rest)
}

// What docs/restore.md says, done as it says it.
func TestRestorePage(t *testing.T) {
	page := steps(t)
	if len(page) != 3 {
		t.Fatalf("the page has steps for %d things", len(page))
	}
	begin := func(t *testing.T) (*place, *witness.Session) {
		p := newPlace(t)
		s := p.session()
		p.must(s.Do("CREATE Projects"))
		p.must(s.Do("SUBSCRIBE Projects"))
		for _, box := range []string{"INBOX", "Projects"} {
			p.deliver(box, 8)
			s = p.see(box, 8)
			p.must(s.Do(`STORE 2 +FLAGS (\Flagged Work)`))
		}
		p.must(s.Append("INBOX", "", "Subject: Contract\r\nMessage-ID: <contract@restore>\r\n\r\nsigned\r\n"))
		p.see("INBOX", 9)
		p.shell(`cp -a "$tree" "$backup"; ` + yesterday)
		for _, box := range []string{"INBOX", "Projects"} {
			p.deliver(box, 4)
		}
		s = p.see("INBOX", 13)
		p.must(s.Do(`UID STORE 9 +FLAGS (\Deleted)`))
		p.must(s.Do("EXPUNGE"))
		p.see("Projects", 12)
		return p, s
	}
	done := func(p *place) {
		p.Helper()
		for _, f := range p.ledger.Faults() {
			p.Error(f)
		}
	}
	flagged := func(p *place, s *witness.Session) {
		p.Helper()
		if got := fmt.Sprint(s.Messages()[2]); got != `[Work \Flagged]` && got != `[\Flagged Work]` {
			p.Errorf("UID 2 of %s has %s", s.Mailbox, got)
		}
	}
	t.Run("A whole account", func(t *testing.T) {
		p, _ := begin(t)
		p.follow(page["A whole account"])
		flagged(p, p.see("INBOX", 9))
		flagged(p, p.see("Projects", 8))
		p.deliver("INBOX", 2)
		s := p.see("INBOX", 11)
		if err := s.Do(`LSUB "" Projects`); err != nil || len(s.Lines) != 1 {
			t.Errorf("%v: subscribed is %q", err, s.Lines)
		}
		done(p)
	})
	t.Run("One folder", func(t *testing.T) {
		p, s := begin(t)
		p.follow(page["One folder"])
		flagged(p, p.see("Projects", 8))
		p.deliver("Projects", 2)
		p.see("Projects", 10)
		p.see("INBOX", 12)
		if err := s.Do(`LIST "" *`); err != nil || strings.Contains(strings.Join(s.Lines, " "), "old") || strings.Contains(strings.Join(s.Lines, " "), "restored") {
			t.Errorf("%v: %q", err, s.Lines)
		}
		done(p)
		// One that was deleted.
		p.must(s.Do("DELETE Projects"))
		step := strings.Split(page["One folder"], "\n")
		p.follow(strings.Join([]string{step[0], step[1], step[3], ""}, "\n"))
		flagged(p, p.see("Projects", 8))
		done(p)
	})
	t.Run("Single messages", func(t *testing.T) {
		p, _ := begin(t)
		p.follow(page["Single messages"])
		s := p.see("INBOX", 13)
		found := 0
		for uid := range s.Messages() {
			if strings.Contains(p.ledger.Name(s.Key(uid)), "Subject: Contract") {
				found++
				if uid <= 13 {
					t.Errorf("the message came back as UID %d", uid)
				}
			}
		}
		if found != 1 {
			t.Errorf("the message is there %d times", found)
		}
		p.follow(page["Single messages"]) // again: it is there
		p.see("INBOX", 13)
		if left, _ := filepath.Glob(filepath.Join(p.tree, "tmp/*")); len(left) > 1 {
			t.Errorf("left in tmp: %v", left)
		}
		done(p)
	})
}
