package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"roost/test/neighbour"
)

// notify measures NOTIFY over a thousand folders: until the session watches them all, and
// from the rename into new/ of one of them to its STATUS line over TLS, when its mailbox is
// open and when nobody asked for it yet. The machine's own limit takes turns. Dovecot
// is not asked: what another program delivers to a folder it does not tell.
func (r *run) notify() error {
	folders, each, rounds := 1000, 20, 25
	if r.quick {
		folders, each, rounds = 50, 2, 2
	}
	limit, err := r.rawInotify()
	if err != nil {
		return err
	}
	defer limit.close()
	if err := r.folders(folders, each); err != nil {
		return err
	}
	roost, err := r.startRoost("")
	if err != nil {
		return err
	}
	defer roost.Close()
	c, err := dial(roost.Addr, true)
	if err != nil {
		return err
	}
	defer c.close()
	timed := func(command string) (time.Duration, error) {
		t := time.Now()
		_, err := c.do(command)
		return time.Since(t), err
	}
	const events = "(personal (MessageNew MessageExpunge FlagChange MailboxName))"
	first, err := timed("NOTIFY SET STATUS " + events)
	if err != nil {
		return err
	}
	time.Sleep(settle) // what was written is believed from now on
	counted, err := timed("NOTIFY SET STATUS " + events)
	if err != nil {
		return err
	}
	var plain spread
	for range rounds {
		if _, err := c.do("NOTIFY NONE"); err != nil {
			return err
		}
		d, err := timed("NOTIFY SET " + events)
		if err != nil {
			return err
		}
		plain = append(plain, d)
	}
	hear := func() error {
		for {
			l, err := c.line()
			if err != nil || strings.HasPrefix(l, "* STATUS ") {
				return err
			}
		}
	}
	var raw, open, closed spread
	at := func(i int) *listener {
		return &listener{maildir: r.folder(i), n: i * 1000, hear: hear}
	}
	for i := range rounds {
		if err := limit.deliver(4, &raw); err != nil {
			return fmt.Errorf("raw inotify: %w", err)
		}
		one := at(i * folders / rounds)
		if err := one.deliver(1, &closed); err != nil {
			return err
		}
		if err := one.deliver(3, &open); err != nil {
			return err
		}
	}
	const more = 20
	before, err := settled(roost.PID())
	if err != nil {
		return err
	}
	for range more {
		c, err := dial(roost.Addr, true)
		if err != nil {
			return err
		}
		defer c.close()
		if _, err := c.do("NOTIFY SET " + events); err != nil {
			return err
		}
	}
	after, err := settled(roost.PID())
	if err != nil {
		return err
	}
	n := fmt.Sprintf("%d folders", folders)
	r.rows = append(r.rows,
		row{operation: "NOTIFY SET of " + n + " to OK", roost: plain.String()},
		row{operation: "with STATUS, never counted before", roost: round(first).String()},
		row{operation: "with STATUS, from roost.index", roost: round(counted).String()},
		row{operation: "delivery to STATUS (TLS), mailbox open", roost: open.String(), limit: raw.String() + " (raw inotify and a TLS write)"},
		row{operation: "delivery to STATUS (TLS), mailbox not open", roost: closed.String()},
		row{operation: "memory of one more session that watches them", roost: fmt.Sprintf("%.0f KiB", float64(after-before)/more/1024)})
	return nil
}

func (r *run) folder(i int) string {
	return filepath.Join(r.maildir("roost"), fmt.Sprintf(".f%04d", i))
}

// folders makes some, with messages in each.
func (r *run) folders(n, messages int) error {
	if err := r.prepare("roost"); err != nil {
		return err
	}
	for i := range n {
		for _, sub := range []string{"cur", "new", "tmp"} {
			if err := os.MkdirAll(filepath.Join(r.folder(i), sub), 0o700); err != nil {
				return err
			}
		}
		for m := range messages {
			name := fmt.Sprintf("%d.M%06dP4711.mail.example.org,S=20,W=23:2,S", 1700000000+m, m)
			if err := os.WriteFile(filepath.Join(r.folder(i), "cur", name), []byte("Subject: x\n\nx\n1234\n"), 0o600); err != nil {
				return err
			}
		}
	}
	return neighbour.Own(filepath.Join(r.dir, "roost"))
}
