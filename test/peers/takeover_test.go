package peers

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"roost/test/neighbour"
)

// machine runs the commands of docs/: systemctl starts and ends private instances, and
// roost and doveadm find their configurations by themselves.
type machine struct {
	*house
	t       *testing.T
	bin     string // comes first in PATH
	runs    int
	dovecot *neighbour.Dovecot // nil: stopped
	conf    string             // further lines of dovecot.conf
}

func newMachine(t *testing.T, conf string) *machine {
	m := &machine{house: newHouse(t), t: t, conf: conf}
	if os.Getuid() == 0 {
		m.extra = fmt.Sprintf("user = \"%d\"\ngroup = \"%d\"\n", neighbour.MailUID, neighbour.MailGID)
	}
	m.bin = filepath.Join(m.dir, "bin")
	if err := os.MkdirAll(m.bin, 0o755); err != nil {
		t.Fatal(err)
	}
	m.tool("sudo", `exec "$@"`)
	m.tool("roost", fmt.Sprintf(`exec %s "$@" --config %s/roost/roost.toml`, roostBin, m.dir))
	return m
}

func (m *machine) tool(name, script string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

// startDovecot starts a new instance on the tree, and doveadm is its.
func (m *machine) startDovecot() {
	m.t.Helper()
	m.runs++
	dir := filepath.Join(m.dir, fmt.Sprintf("dovecot%d", m.runs))
	certs := filepath.Join(m.dir, "roost")
	if err := neighbour.Certificate(certs); err != nil {
		m.t.Fatal(err)
	}
	d, err := neighbour.StartDovecot(neighbour.DovecotOptions{
		Dir: dir, Home: m.mail, Location: "maildir:" + m.mail + "/%d/%n/Maildir", Password: password,
		CertFile: filepath.Join(certs, "cert.pem"), KeyFile: filepath.Join(certs, "key.pem"), Extra: m.conf,
	})
	started(m.t, err)
	m.dovecot = d
	doveadm, err := exec.LookPath("doveadm")
	if err != nil {
		m.t.Fatal(err)
	}
	m.tool("doveadm", fmt.Sprintf(`exec %s -c %s/dovecot.conf "$@"`, doveadm, dir))
}

func (m *machine) stopDovecot() {
	m.t.Helper()
	if m.dovecot == nil {
		return
	}
	if err := m.dovecot.Close(); err != nil {
		m.t.Error(err)
	}
	for line := range strings.Lines(m.dovecot.Log()) {
		if strings.Contains(line, "Error:") {
			m.t.Errorf("Dovecot complains: %s", line)
		}
	}
	m.dovecot = nil
}

func (m *machine) stopRoost() {
	m.t.Helper()
	if m.roost != nil {
		if err := m.roost.Close(); err != nil {
			m.t.Error(err)
		}
		m.roost = nil
	}
}

// follow runs the sh block of a page, line by line.
func (m *machine) follow(page string) {
	m.t.Helper()
	found := regexp.MustCompile("(?ms)^```sh\n(.*?)^```").FindStringSubmatch(read(m.t, "../../docs/"+page))
	if found == nil {
		m.t.Fatalf("docs/%s shows no commands", page)
	}
	for line := range strings.Lines(found[1]) {
		line = strings.TrimSpace(line)
		switch line {
		case "sudo systemctl stop roost":
			m.stopRoost()
		case "sudo systemctl start roost":
			m.serve(m.t)
		case "sudo systemctl stop dovecot":
			m.stopDovecot()
		case "sudo systemctl start dovecot":
			m.startDovecot()
		default:
			m.sh(line)
		}
	}
}

// sh runs a command of this machine and gives what it printed.
func (m *machine) sh(line string) string {
	m.t.Helper()
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir = m.dir
	cmd.Env = append(os.Environ(), "PATH="+m.bin+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// atDovecot opens a connection to it.
func (m *machine) atDovecot() *imapclient.Client {
	m.t.Helper()
	c, err := imapclient.DialInsecure(m.dovecot.Addr, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { c.Close() })
	if err := c.Login("ann@example.org", password).Wait(); err != nil {
		m.t.Fatal(err)
	}
	return c
}

// manyKeywords gives INBOX messages with 40 keywords in all, more than a Maildir's file
// names can show, a few of them on each.
func manyKeywords(t *testing.T, c *imapclient.Client) {
	t.Helper()
	for n := range 20 {
		appendMessage(t, c, "INBOX", sample(n), imap.FlagSeen)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	for k := range 40 {
		uids := imap.UIDSetNum(imap.UID(k%20+1), imap.UID(k*7%20+1))
		if err := c.Store(uids, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.Flag(fmt.Sprintf("Topic%d", k))}}, nil).Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What docs/from-dovecot.md says: keywords that only Dovecot's index knows come along.
func TestFromDovecot(t *testing.T) {
	m := newMachine(t, "")
	m.startDovecot()
	c := m.atDovecot()
	manyKeywords(t, c)
	for _, name := range []string{"Projekte", "Projekte/Größe"} {
		if err := c.Create(name, nil).Wait(); err != nil {
			t.Fatal(err)
		}
		if err := c.Subscribe(name).Wait(); err != nil {
			t.Fatal(err)
		}
	}
	appendMessage(t, c, "Projekte/Größe", sample(50), "Work")
	before := look(t, c)
	c.Logout().Wait()
	neighbour.Compat(t, "tree", "Dovecot, more than 26 keywords", version("dovecot-imapd"), "all keywords taken over")

	m.serve(t) // writes roost.toml
	m.stopRoost()
	if out := m.sh("roost import dovecot --dry-run"); !strings.Contains(out, "14 keywords of") || !strings.Contains(out, "to be taken over") {
		t.Errorf("%s", out)
	}
	if _, err := os.Stat(filepath.Join(m.maildir("ann"), "roost-keywords")); err == nil {
		t.Error("--dry-run wrote roost-keywords")
	}
	m.follow("from-dovecot.md")
	compare(t, "from Dovecot", before, look(t, login(t, m.roost.Addr, "ann", nil)))
	m.startDovecot()
	if out := m.sh("roost import dovecot"); !strings.Contains(out, "ann@example.org: nothing to take over") {
		t.Errorf("a second time: %s", out)
	}
	m.stopDovecot()
}

// What docs/back-to-dovecot.md says: nothing is transferred, nothing is lost, and a
// client that kept its state from Roost is told what changes afterwards.
func TestBackToDovecot(t *testing.T) {
	for _, c := range []struct{ name, extra string }{
		{"as it was", ""},
		{"dots and a prefix", "namespace inbox {\n  separator = .\n  prefix = INBOX.\n}\n"},
	} {
		t.Run(c.name, func(t *testing.T) { backToDovecot(t, c.extra) })
	}
}

func backToDovecot(t *testing.T, extra string) {
	m := newMachine(t, extra)
	m.serve(t)
	c := login(t, m.roost.Addr, "ann", nil)
	manyKeywords(t, c)
	for _, name := range []string{"Projekte", "Projekte/Größe"} {
		if err := c.Create(name, nil).Wait(); err != nil {
			t.Fatal(err)
		}
		if err := c.Subscribe(name).Wait(); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 8 {
		appendMessage(t, c, "Projekte/Größe", sample(100+n), imap.FlagFlagged, "$Forwarded")
	}
	if err := c.Store(imap.UIDSetNum(3, 4), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Expunge().Close(); err != nil {
		t.Fatal(err)
	}
	before := look(t, c)

	// Clients with a state of their own.
	syncs := m.clients(c)
	for _, sync := range syncs {
		sync(m.roost.Addr, false)
	}
	var state, told resumed
	m.resume(m.roost.Addr, &state)
	neighbour.Compat(t, "tree", "Dovecot, the way back", version("dovecot-imapd"), "mbsync and offlineimap transfer nothing, imapflow resumes by QRESYNC")

	m.follow("back-to-dovecot.md")
	if extra == "" {
		compare(t, "back to Dovecot", before, look(t, m.atDovecot()))
	}
	inDovecot := m.sh(`doveadm -f tab fetch -u ann@example.org 'uid flags date.received' mailbox-guid "$(doveadm -f tab mailbox status -u ann@example.org guid INBOX | tail -1 | cut -f2)" | sort -n | tail -n +2`)
	lines := strings.Split(strings.TrimSpace(inDovecot), "\n")
	if want := len(before.mailboxes["INBOX"].messages); len(lines) != want {
		t.Errorf("doveadm shows %d messages, want %d:\n%s", len(lines), want, inDovecot)
	}
	for _, line := range lines {
		f := strings.Split(line, "\t")
		var uid imap.UID
		fmt.Sscan(f[0], &uid)
		flags := slices.DeleteFunc(strings.Fields(strings.ToLower(f[1])), func(s string) bool { return s == `\recent` })
		slices.Sort(flags)
		if had := before.mailboxes["INBOX"].messages[uid]; !strings.HasPrefix(had, fmt.Sprint(flags)) {
			t.Errorf("UID %d is %q in Dovecot and was %q", uid, line, had)
		}
	}
	for _, sync := range syncs {
		if extra == "" { // other names are other mailboxes to them
			sync(m.dovecot.TLSAddr, true)
		}
	}
	dc := m.atDovecot()
	if _, err := dc.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if err := dc.Store(imap.UIDSetNum(7), &imap.StoreFlags{Op: imap.StoreFlagsSet, Flags: []imap.Flag{imap.FlagFlagged}}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	m.resume(m.dovecot.TLSAddr, &told, state.UIDValidity, state.ModSeq)
	if !told.QResync || told.UIDValidity != state.UIDValidity {
		t.Errorf("resumed as %+v from %+v", told, state)
	}
	if want := `7 [\Flagged]`; !slices.ContainsFunc(told.Flags, func(f [2]any) bool { return fmt.Sprint(f[0], " ", f[1]) == want }) {
		t.Errorf("the changed flag was not told: %+v", told)
	}
	m.stopDovecot()
}

// resumed is what resume.mjs prints.
type resumed struct {
	Flags       [][2]any `json:"flags"`
	Expunged    []uint32 `json:"expunged"`
	QResync     bool     `json:"qresync"`
	UIDValidity string   `json:"uidValidity"`
	ModSeq      string   `json:"modSeq"`
}

func (m *machine) resume(addr string, into *resumed, state ...string) {
	m.t.Helper()
	node := need(m.t, "node", "nodejs")
	if _, err := os.Stat("node_modules/imapflow"); err != nil {
		m.t.Skip("imapflow is not installed: npm ci in test/peers")
	}
	_, port, _ := net.SplitHostPort(addr)
	out := script(m.t, node, append([]string{"resume.mjs", "127.0.0.1", port, "ann@example.org", password}, state...)...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		m.t.Fatalf("%v: %s", err, out)
	}
}

// clients are mbsync and offlineimap with a tree of their own each: a run against a
// server, which with quiet must transfer nothing.
func (m *machine) clients(*imapclient.Client) []func(addr string, quiet bool) {
	mbsync, offlineimap := need(m.t, "mbsync", "isync"), need(m.t, "offlineimap", "offlineimap3")
	near := m.t.TempDir()
	local := filepath.Join(near, "mail")
	if err := os.MkdirAll(local, 0o700); err != nil {
		m.t.Fatal(err)
	}
	g := m.guest(m.t)
	certs := filepath.Join(m.dir, "roost")
	return []func(string, bool){
		func(addr string, quiet bool) {
			m.t.Helper()
			_, port, _ := net.SplitHostPort(addr)
			rc := filepath.Join(near, "mbsyncrc")
			if err := os.WriteFile(rc, fmt.Appendf(nil, mbsyncrc, port, password, filepath.Join(certs, "cert.pem"), local, local), 0o600); err != nil {
				m.t.Fatal(err)
			}
			for l := range strings.Lines(script(m.t, mbsync, "-c", rc, "-D", "all")) {
				if quiet && transfer.MatchString(l) {
					m.t.Errorf("mbsync: with nothing to do: %q", l)
				}
			}
		},
		func(addr string, quiet bool) {
			m.t.Helper()
			tap, err := neighbour.StartTap(addr, certs)
			if err != nil {
				m.t.Fatal(err)
			}
			defer tap.Close()
			r := &record{Tap: tap, t: m.t}
			rc := g.write(".offlineimaprc", g.settings("offlineimap", r))
			g.run(offlineimap, "-c", rc, "-o", "-u", "basic")
			if quiet {
				r.quiet("offlineimap, after the switch")
			}
		},
	}
}
