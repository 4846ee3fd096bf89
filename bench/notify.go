package main

import (
	"bytes"
	"fmt"
	"time"
)

// notifying: NOTIFY (RFC 5465) over many folders: until the session watches them all, and
// from the rename into new/ of one of them to its STATUS line, when its mailbox is open and
// when nobody asked for it yet. Dovecot is not asked: what another program delivers to a
// folder it does not tell.
func notifying(z sizes) []operation {
	n := z.folders
	const events = "(personal (MessageNew MessageExpunge FlagChange MailboxName))"
	heard := func(st *stand, user string, c *client) *idler {
		return &idler{maildir: st.maildir(user), hear: func() error {
			for {
				l, err := c.readLine()
				if err != nil || bytes.HasPrefix(l, []byte("* STATUS ")) {
					return err
				}
			}
		}}
	}
	return []operation{
		{
			name: "notify/set", about: fmt.Sprintf("NOTIFY SET STATUS of %d folders that nobody opened", n), alone: true, rounds: 2,
			against: "readdir of all", limit: readFolders(n),
			begin: unopened(n, func(st *stand, rec *record, c *client) error {
				if err := rec.timed(func() error { _, err := c.do("NOTIFY SET STATUS " + events); return err }); err != nil {
					return err
				}
				if err := sleep(st.ctx, st.settle()); err != nil { // what was written is believed from now on
					return err
				}
				for _, again := range []struct{ label, about, command string }{
					{"counted", "NOTIFY SET STATUS again, from roost.index", "NOTIFY SET STATUS " + events},
					{"plain", "NOTIFY SET again, without STATUS", "NOTIFY SET " + events},
				} {
					if _, err := c.do("NOTIFY NONE"); err != nil {
						return err
					}
					t := time.Now()
					if _, err := c.do("%s", again.command); err != nil {
						return err
					}
					rec.row(again.label, again.about, seconds, time.Since(t).Seconds())
				}
				return nil
			}),
		},
		{
			name: "notify/delivery", about: fmt.Sprintf("delivery to STATUS under NOTIFY, one of %d folders, open", n), alone: true, finer: 4,
			against: "raw inotify and a TLS write",
			begin: func(st *stand) (step, error) {
				user, err := st.folders(n)
				if err != nil {
					return nil, err
				}
				c, err := st.dial(user)
				if err != nil {
					return nil, err
				}
				if _, err := c.do("NOTIFY SET " + events); err != nil {
					return nil, err
				}
				i := 0
				return func(rec *record) error {
					one := heard(st, user, c)
					one.maildir, one.n = st.folder(user, i*7%n), 1000*i
					i++
					closed := newRecord("")
					if err := one.hears(closed); err != nil {
						return err
					}
					rec.row("closed", "the same where the mailbox was not open", seconds, closed.values[""][0])
					for range max(1, z.each/10) {
						if err := one.hears(rec); err != nil {
							return err
						}
					}
					return nil
				}, nil
			},
			limit: func(st *stand) (step, error) {
				l, err := st.rawInotify()
				return func(rec *record) error {
					for range max(1, z.each/10) {
						if err := l.hears(rec); err != nil {
							return err
						}
					}
					return nil
				}, err
			},
		},
		{
			name: "notify/memory", about: fmt.Sprintf("memory of one more session that watches %d folders", n), alone: true, unit: bytesOf, rounds: 1,
			begin: func(st *stand) (step, error) {
				user, err := st.folders(n)
				if err != nil {
					return nil, err
				}
				watch := func(times int) error {
					for range times {
						c, err := st.dial(user)
						if err != nil {
							return err
						}
						if _, err := c.do("NOTIFY SET " + events); err != nil {
							return err
						}
					}
					return nil
				}
				const more = 20
				return func(rec *record) error {
					if err := st.srv.restart(); err != nil {
						return err
					}
					if err := watch(1); err != nil {
						return err
					}
					before, err := st.memory()
					if err != nil {
						return err
					}
					if err := watch(more); err != nil {
						return err
					}
					after, err := st.memory()
					rec.add(float64(after-before) / more)
					return err
				}, nil
			},
		},
	}
}
