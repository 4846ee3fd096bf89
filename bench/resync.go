package main

import (
	"fmt"
	"strings"
	"time"
)

// resyncing: SELECT with QRESYNC (RFC 7162) by a client that comes back after some changes,
// while the mailbox is open at the server, and as the first thing after a restart.
func resyncing(z sizes) (list []operation) {
	n := z.messages
	for _, k := range []int{10, n / 10} {
		name := "10"
		if len(list) > 0 {
			name = "many"
		}
		list = append(list, operation{
			name: "resync/open-" + name, about: fmt.Sprintf("SELECT (QRESYNC) of %d messages after %d changes, while it is open", n, k),
			begin: func(st *stand) (step, error) {
				user, err := st.mailbox(n)
				if err != nil {
					return nil, err
				}
				p := &phone{st: st, user: user, next: 1}
				_, err = st.selected(user) // somebody else looks on, so the mailbox stays open
				return func(rec *record) error { return p.round(rec, k, nil) }, err
			},
		})
	}
	return append(list, operation{
		name: "resync/restart-10", about: fmt.Sprintf("SELECT (QRESYNC) of %d messages after 10 changes, first after a restart", n), rounds: 3,
		begin: func(st *stand) (step, error) {
			user, err := st.mailbox(n)
			p := &phone{st: st, user: user, next: 1}
			return func(rec *record) error {
				return p.round(rec, 10, func() error {
					if err := sleep(st.ctx, st.settle()); err != nil {
						return err
					}
					return st.srv.restart()
				})
			}, err
		},
	})
}

// phone is a client that keeps a copy of INBOX.
type phone struct {
	st   *stand
	user string
	next int // UID: what is below was changed in earlier rounds
}

// dial logs in and enables QRESYNC.
func (p *phone) dial() (*client, error) {
	c, err := p.st.dial(p.user)
	if err == nil {
		_, err = c.do("ENABLE QRESYNC")
	}
	return c, err
}

// round learns the state, goes away, lets others make k changes, and comes back. restart,
// where given, runs the server anew meanwhile.
func (p *phone) round(rec *record, k int, restart func() error) error {
	c, err := p.dial()
	if err != nil {
		return err
	}
	a, err := c.do("SELECT INBOX")
	if err != nil {
		return err
	}
	validity, _, _ := strings.Cut(a.find("* OK [UIDVALIDITY "), "]")
	modSeq, _, _ := strings.Cut(a.find("* OK [HIGHESTMODSEQ "), "]")
	if validity == "" || modSeq == "" {
		return fmt.Errorf("SELECT said: %q", a.lines)
	}
	c.close()
	ch, err := p.change(k)
	if err != nil {
		return err
	}
	if restart != nil {
		if err := restart(); err != nil {
			return err
		}
	}
	back, err := p.dial()
	if err != nil {
		return err
	}
	defer back.close()
	t := time.Now()
	a, err = back.do("SELECT INBOX (QRESYNC (%s %s))", validity, modSeq)
	if err != nil {
		return err
	}
	rec.took(time.Since(t))
	rec.row("bytes", "what the server says to it", bytesOf, float64(a.bytes))
	vanished := a.find("* VANISHED (EARLIER) ")
	if a.rows != ch.flags+ch.appends || vanished != ch.gone {
		return fmt.Errorf("%d rows, vanished %q: not what was changed, %+v; it said\n%s", a.rows, vanished, ch, strings.Join(a.lines, "\n"))
	}
	rec.answer("%d rows, vanished %s", a.rows, vanished)
	return nil
}

// changes are what others did: expunges (the set gone), flags, and messages that came.
type changes struct {
	gone                     string
	expunges, flags, appends int
}

// change makes k of them.
func (p *phone) change(k int) (changes, error) {
	ch := changes{expunges: k * 3 / 10, appends: k * 2 / 10}
	ch.flags = k - ch.expunges - ch.appends
	ch.gone = fmt.Sprintf("%d:%d", p.next, p.next+ch.expunges-1)
	flagged := fmt.Sprintf("%d:%d", p.next+ch.expunges, p.next+ch.expunges+ch.flags-1)
	p.next += ch.expunges + ch.flags
	c, err := p.st.dial(p.user)
	if err != nil {
		return ch, err
	}
	defer c.close()
	for _, command := range []string{
		"SELECT INBOX",
		`UID STORE ` + ch.gone + ` +FLAGS.SILENT (\Deleted)`,
		"UID EXPUNGE " + ch.gone,
		`UID STORE ` + flagged + ` +FLAGS.SILENT (\Draft)`,
	} {
		if _, err := c.do("%s", command); err != nil {
			return ch, err
		}
	}
	texts := make([][]byte, ch.appends)
	for i := range texts {
		texts[i] = []byte("Subject: appended\r\n\r\nx\r\n")
	}
	if err := c.append("INBOX", texts...); err != nil {
		return ch, err
	}
	_, err = c.do("LOGOUT")
	return ch, err
}
