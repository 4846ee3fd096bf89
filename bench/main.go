// Command bench measures Roost, and beside it the real Dovecot where it is
// installed, on private trees on the same disk, by the same client code, in one
// run; and what the machine itself needs for the same work. Figures of different
// runs are not comparable, for machines are noisy: ratios are.
//
// Both servers keep their usual promise: acknowledged mail is synced. Files stay
// in the page cache.
//
//	go run ./bench              all of it, 100,000 messages, 1,000 sessions
//	go run ./bench -quick       small: that it works
//	go run ./bench -only idle   one of: idle, open, bystander, sessions, resync, compress, notify
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"roost/test/neighbour"
)

// row is one line of the table.
type row struct {
	operation      string
	roost, dovecot string
	limit          string // what the machine itself needs
}

// run is the state of one measurement.
type run struct {
	dir      string
	bin      string
	quick    bool
	messages int
	sessions int
	dovecot  bool
	rows     []row
}

func main() {
	quick := flag.Bool("quick", false, "small sizes: shows that it works, not how fast")
	only := flag.String("only", "", "measure only this: idle, open, bystander, sessions, resync, compress, notify")
	messages := flag.Int("messages", 100_000, "messages of the large mailbox")
	sessions := flag.Int("sessions", 1000, "idle TLS sessions")
	flag.Parse()
	r := &run{quick: *quick, messages: *messages, sessions: *sessions}
	if r.quick {
		r.messages, r.sessions = 2000, 50
	}
	if err := r.all(*only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (r *run) all(only string) error {
	dir, remove, err := neighbour.TempDir()
	if err != nil {
		return err
	}
	defer remove()
	r.dir = dir
	if r.bin, err = neighbour.BuildRoost(filepath.Join(dir, "bin")); err != nil {
		return err
	}
	r.dovecot = true
	d, err := r.startDovecot("probe")
	var missing neighbour.Missing
	switch {
	case errors.As(err, &missing), err != nil && os.Getuid() != 0:
		fmt.Fprintln(os.Stderr, "without Dovecot:", err)
		r.dovecot = false
	case err != nil:
		return err
	default:
		d.Close()
	}
	for _, m := range []struct {
		name string
		do   func() error
	}{{"idle", r.idle}, {"open", r.open}, {"bystander", r.bystander}, {"sessions", r.idleSessions}, {"resync", r.resync}, {"compress", r.compressedSessions}, {"notify", r.notify}} {
		if only != "" && only != m.name {
			continue
		}
		if err := m.do(); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "operation\tRoost\tDovecot\tthe machine")
	for _, row := range r.rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", row.operation, row.roost, row.dovecot, row.limit)
	}
	return w.Flush()
}

// servers are those that are measured.
func (r *run) servers() []string {
	if r.dovecot {
		return []string{"roost", "dovecot"}
	}
	return []string{"roost"}
}

const password = "secret"

// user is whose mail is measured; each server has a tree of its own.
const user = "ann"

func (r *run) maildir(server string) string { return filepath.Join(r.dir, server, user, "Maildir") }

func (r *run) startRoost(extra string) (*neighbour.Roost, error) {
	home := filepath.Join(r.dir, "roost")
	if err := r.prepare("roost"); err != nil {
		return nil, err
	}
	return neighbour.StartRoost(neighbour.RoostOptions{
		Bin: r.bin, Dir: filepath.Join(r.dir, "etc"), Location: home + "/%u/Maildir",
		Users: map[string]string{user: password},
		Extra: "[limits]\nconnections_per_user = 20000\nconnections_per_user_address = 20000\n" + extra,
	})
}

func (r *run) startDovecot(name string) (*neighbour.Dovecot, error) {
	if err := r.prepare("dovecot"); err != nil {
		return nil, err
	}
	etc := filepath.Join(r.dir, "dovecot-"+name)
	if err := os.MkdirAll(etc, 0o755); err != nil {
		return nil, err
	}
	return neighbour.StartDovecot(neighbour.DovecotOptions{
		Extra: "protocol imap {\n  mail_plugins = imap_zlib\n}\n", // of Debian's dovecot-core: COMPRESS
		Dir:   etc, Home: filepath.Join(r.dir, "dovecot"), Password: password,
		CertFile: filepath.Join(r.dir, "etc", "cert.pem"), KeyFile: filepath.Join(r.dir, "etc", "key.pem"),
	})
}

// prepare makes the home of the user at one server, and a certificate for both.
func (r *run) prepare(server string) error {
	if err := neighbour.Certificate(filepath.Join(r.dir, "etc")); err != nil {
		return err
	}
	if _, err := os.Stat(r.maildir(server)); err == nil {
		return nil // giving the tree away again would look like a change of every file
	}
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(r.maildir(server), sub), 0o700); err != nil {
			return err
		}
	}
	return neighbour.Own(filepath.Join(r.dir, server))
}

// fill makes a mailbox of n small messages that no server has seen.
func (r *run) fill(server string, n int) error {
	dir := r.maildir(server)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := r.prepare(server); err != nil {
		return err
	}
	body := []byte("From: Ann <ann@example.org>\nTo: bob@example.org\nSubject: a message of the usual kind\nDate: Tue, 24 Nov 2026 10:00:00 +0000\n\n" + strings.Repeat("line of text\n", 20))
	crlf := len(body) + strings.Count(string(body), "\n")
	for i := range n {
		name := fmt.Sprintf("%d.M%06dP4711.mail.example.org,S=%d,W=%d:2,S", 1700000000+i/10, i%1_000_000, len(body), crlf)
		if err := os.WriteFile(filepath.Join(dir, "cur", name), body, 0o600); err != nil {
			return err
		}
	}
	return neighbour.Own(dir)
}

// spread is the distribution of a measurement.
type spread []time.Duration

func (s spread) at(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func (s spread) String() string {
	return fmt.Sprintf("%s, p99 %s", round(s.at(0.5)), round(s.at(0.99)))
}

// round keeps three digits.
func round(d time.Duration) time.Duration {
	for unit := time.Duration(1); ; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit)
		}
	}
}
