package main

import (
	"fmt"
	"strings"
	"time"
)

// growing: what a change costs in mailboxes of several sizes. It should cost the same.
func growing(z sizes) (list []operation) {
	few := max(2, z.each/5)
	for _, n := range z.growth {
		add := func(name, about string, begin func(st *stand, user string) (step, error)) {
			list = append(list, operation{
				name: fmt.Sprintf("growth/%s@%d", name, n), about: fmt.Sprintf("%s, of %d messages", about, n),
				begin: func(st *stand) (step, error) {
					// Everything here changes the same mailbox, in the same order at each server.
					user, err := st.common(fmt.Sprintf("grows %d", n), func() (string, error) { return st.mailbox(n) })
					if err != nil {
						return nil, err
					}
					return begin(st, user)
				},
			})
		}
		add("flag", "UID STORE of one flag", func(st *stand, user string) (step, error) {
			c, err := st.selected(user)
			return func(rec *record) error {
				for i := range few {
					t := time.Now()
					_, err := c.do(`UID STORE %d %cFLAGS.SILENT (\Flagged)`, n/2, "+-"[i%2])
					rec.took(time.Since(t))
					if err != nil {
						return err
					}
				}
				return nil
			}, err
		})
		add("told", "NOOP that tells of another session's flag", func(st *stand, user string) (step, error) {
			c, err := st.selected(user)
			if err != nil {
				return nil, err
			}
			other, err := st.selected(user)
			return func(rec *record) error {
				for i := range few {
					if _, err := other.do(`UID STORE %d %cFLAGS.SILENT (\Flagged)`, n/2+1, "+-"[i%2]); err != nil {
						return err
					}
					err := rec.timed(func() error {
						return until(func() (bool, error) {
							a, err := c.do("NOOP")
							return a.rows == 1, err
						})
					})
					if err != nil {
						return err
					}
				}
				return nil
			}, err
		})
		// arriving delivers messages until ask counts each; open is what counts those before.
		arriving := func(open, ask string, count func(a *answer) int) func(st *stand, user string) (step, error) {
			return func(st *stand, user string) (step, error) {
				c, err := st.dial(user)
				if err != nil {
					return nil, err
				}
				a, err := c.do("%s", open)
				if err != nil {
					return nil, err
				}
				to, have := st.maildir(user), count(a)
				return func(rec *record) error {
					for range few {
						have++
						t, err := deliver(to, have)
						if err != nil {
							return err
						}
						err = until(func() (bool, error) {
							a, err := c.do("%s", ask)
							return count(a) == have, err
						})
						rec.took(time.Since(t))
						if err != nil {
							return err
						}
					}
					rec.answer("%d exist", have)
					return nil
				}, nil
			}
		}
		exist := func(a *answer) int { return a.count("EXISTS") }
		add("delivery", "from a delivery to the NOOP that tells it", arriving("SELECT INBOX", "NOOP", exist))
		const status = "STATUS INBOX (MESSAGES UNSEEN UIDNEXT)"
		add("status", "from a delivery to the STATUS that counts it", arriving(status, status, func(a *answer) int { return statusOf(a).messages }))
		add("resync", "SELECT (QRESYNC) after 10 changes", func(st *stand, user string) (step, error) {
			c, err := st.selected(user) // looks on
			if err != nil {
				return nil, err
			}
			a, err := c.do("UID SEARCH 1")
			first := 0
			fmt.Sscan(strings.TrimSpace(a.find("* SEARCH")), &first)
			p := &phone{st: st, user: user, next: first}
			return func(rec *record) error { return p.round(rec, 10, nil) }, err
		})
	}
	return list
}

// until asks again until it is so.
func until(ask func() (bool, error)) error {
	for began := time.Now(); time.Since(began) < time.Minute; {
		if ok, err := ask(); ok || err != nil {
			return err
		}
	}
	return fmt.Errorf("it was not told within a minute")
}
