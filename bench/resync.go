package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A phone is away while others set flags, expunge messages and append some.
const (
	awayFlags    = 5
	awayExpunges = 3
	awayAppends  = 2
	awayChanges  = awayFlags + awayExpunges + awayAppends
)

// phone is a client that keeps a copy of INBOX by QRESYNC (RFC 7162).
type phone struct {
	validity string
	modSeq   string
	next     int // UID: what is below was changed in earlier rounds
	took     spread
	bytes    []int // of what the server said to each SELECT
}

// resync measures the SELECT of a client that comes back after ten changes: while
// the mailbox is open at the server, in turns, and as the first thing after a restart.
func (r *run) resync() error {
	rounds, restarts := 25, 5
	if r.quick {
		rounds, restarts = 3, 1
	}
	servers := r.servers()
	open, restarted := map[string]*phone{}, map[string]*phone{}
	err := func() error {
		addrs := map[string]string{}
		for _, server := range servers {
			if err := r.fill(server, r.messages); err != nil {
				return err
			}
			addr, _, stop, err := r.start(server)
			if err != nil {
				return err
			}
			defer stop()
			addrs[server], open[server] = addr, &phone{}
			// Somebody else looks on, so the mailbox stays open.
			other, err := dial(addr, false)
			if err != nil {
				return err
			}
			defer other.close()
			if _, err := other.do("SELECT INBOX"); err != nil {
				return err
			}
		}
		for range rounds {
			for _, server := range servers {
				if err := open[server].round(addrs[server], nil); err != nil {
					return fmt.Errorf("%s: %w", server, err)
				}
			}
		}
		return nil
	}()
	if err != nil {
		return err
	}
	for _, server := range servers {
		p := &phone{next: open[server].next}
		restarted[server] = p
		for range restarts {
			addr, _, stop, err := r.start(server)
			if err != nil {
				return err
			}
			again := func() (string, error) {
				time.Sleep(settle)
				stop()
				addr, _, stop, err = r.start(server)
				return addr, err
			}
			err = p.round(addr, again)
			stop()
			if err != nil {
				return fmt.Errorf("%s: %w", server, err)
			}
		}
	}
	for _, m := range []struct {
		when   string
		phones map[string]*phone
	}{{"while it is open", open}, {"after a restart", restarted}} {
		out := row{operation: fmt.Sprintf("SELECT (QRESYNC) of %d messages after %d changes, %s", r.messages, awayChanges, m.when)}
		out.roost = m.phones["roost"].String()
		if r.dovecot {
			out.dovecot = m.phones["dovecot"].String()
		}
		r.rows = append(r.rows, out)
	}
	return nil
}

func (p *phone) String() string {
	return fmt.Sprintf("%s, %d bytes", round(p.took.at(0.5)), slices.Sorted(slices.Values(p.bytes))[len(p.bytes)/2])
}

// round learns the state, goes away, lets others make their changes, and comes back.
// restart, where given, runs the server anew meanwhile.
func (p *phone) round(addr string, restart func() (string, error)) error {
	c, err := dialEnabled(addr)
	if err != nil {
		return err
	}
	defer c.close()
	lines, err := c.do("SELECT INBOX")
	if err != nil {
		return err
	}
	for _, l := range lines {
		if s, ok := strings.CutPrefix(l, "* OK [UIDVALIDITY "); ok {
			p.validity, _, _ = strings.Cut(s, "]")
		}
		if s, ok := strings.CutPrefix(l, "* OK [HIGHESTMODSEQ "); ok {
			p.modSeq, _, _ = strings.Cut(s, "]")
		}
	}
	if p.validity == "" || p.modSeq == "" {
		return fmt.Errorf("SELECT said: %q", lines)
	}
	p.next += 2 * awayChanges
	gone := fmt.Sprintf("%d:%d", p.next, p.next+awayExpunges-1)
	flagged := fmt.Sprintf("%d:%d", p.next+awayExpunges, p.next+awayExpunges+awayFlags-1)
	if err := change(addr, gone, flagged); err != nil {
		return err
	}
	if restart != nil {
		if addr, err = restart(); err != nil {
			return err
		}
	}
	back, err := dialEnabled(addr)
	if err != nil {
		return err
	}
	defer back.close()
	before, t := back.read, time.Now()
	lines, err = back.do("SELECT INBOX (QRESYNC (" + p.validity + " " + p.modSeq + "))")
	if err != nil {
		return err
	}
	p.took = append(p.took, time.Since(t))
	p.bytes = append(p.bytes, back.read-before)
	fetched, vanished := 0, ""
	for _, l := range lines {
		if strings.Contains(l, " FETCH (") {
			fetched++
		}
		if s, ok := strings.CutPrefix(l, "* VANISHED (EARLIER) "); ok {
			vanished = s
		}
	}
	if fetched != awayFlags+awayAppends || vanished != gone {
		return fmt.Errorf("%d rows, vanished %q: not what was changed; it said\n%s", fetched, vanished, strings.Join(lines, "\n"))
	}
	return nil
}

// change is what others do meanwhile.
func change(addr, gone, flagged string) error {
	c, err := dial(addr, false)
	if err != nil {
		return err
	}
	defer c.close()
	commands := []string{
		"SELECT INBOX",
		`UID STORE ` + gone + ` +FLAGS.SILENT (\Deleted)`,
		"UID EXPUNGE " + gone,
		`UID STORE ` + flagged + ` +FLAGS.SILENT (\Answered)`,
	}
	for _, command := range commands {
		if _, err := c.do(command); err != nil {
			return err
		}
	}
	for range awayAppends {
		const text = "Subject: appended\r\n\r\nx\r\n"
		if err := c.append("INBOX", text); err != nil {
			return err
		}
	}
	_, err = c.do("LOGOUT")
	return err
}

// dialEnabled logs in and enables QRESYNC.
func dialEnabled(addr string) (*client, error) {
	c, err := dial(addr, false)
	if err != nil {
		return nil, err
	}
	if _, err := c.do("ENABLE QRESYNC"); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}
