package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// moving: COPY, MOVE and EXPUNGE of all messages.
func moving(z sizes) []operation {
	n := z.messages
	// there makes sure that a mailbox has so many messages.
	there := func(rec *record, c *client, mailbox string, want int) error {
		a, err := c.do("STATUS %s (MESSAGES UIDNEXT)", mailbox)
		if err != nil {
			return err
		}
		s := statusOf(a)
		if s.messages != want {
			return fmt.Errorf("%s has %d messages, %d expected", mailbox, s.messages, want)
		}
		rec.answer("%s: %d messages, UIDNEXT %d", mailbox, s.messages, s.next)
		return nil
	}
	// fresh gives a session in a mailbox of its own each round.
	fresh := func(do func(rec *record, c *client) error) func(st *stand) (step, error) {
		return anew(n, func(_ *stand, rec *record, c *client) error {
			if _, err := c.do("CREATE Other"); err != nil {
				return err
			}
			return do(rec, c)
		})
	}
	// files does something with each file of a new mailbox.
	files := func(do func(old, new string) error) func(st *stand) (step, error) {
		return func(st *stand) (step, error) {
			return func(rec *record) error {
				user, err := st.mailbox(n)
				if err != nil {
					return err
				}
				other, err := st.newUser()
				if err != nil {
					return err
				}
				from, to := filepath.Join(st.maildir(user), "cur"), filepath.Join(st.maildir(other), "cur")
				list, err := names(from)
				if err != nil {
					return err
				}
				return rec.timed(func() error {
					for _, name := range list {
						if err := do(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
							return err
						}
					}
					return nil
				})
			}, nil
		}
	}
	return []operation{
		{
			name: "move/copy", about: fmt.Sprintf("COPY of %d messages", n), against: "link each", rounds: 3, limit: files(os.Link),
			begin: fresh(func(rec *record, c *client) error {
				if err := rec.timed(func() error { _, err := c.do("COPY 1:* Other"); return err }); err != nil {
					return err
				}
				return there(rec, c, "Other", n)
			}),
		},
		{
			name: "move/move", about: fmt.Sprintf("MOVE of %d messages", n), against: "rename each", rounds: 3, limit: files(unix.Rename),
			begin: fresh(func(rec *record, c *client) error {
				if err := rec.timed(func() error { _, err := c.do("MOVE 1:* Other"); return err }); err != nil {
					return err
				}
				return there(rec, c, "Other", n)
			}),
		},
		{
			name: "move/expunge", about: fmt.Sprintf("EXPUNGE of %d messages", n), against: "remove each", rounds: 3,
			limit: files(func(old, _ string) error { return os.Remove(old) }),
			begin: fresh(func(rec *record, c *client) error {
				if _, err := c.do(`STORE 1:* +FLAGS.SILENT (\Deleted)`); err != nil {
					return err
				}
				if err := rec.timed(func() error { _, err := c.do("EXPUNGE"); return err }); err != nil {
					return err
				}
				a, err := c.do("SEARCH ALL")
				if err != nil {
					return err
				}
				rec.answer("%s", numbers(a))
				return nil
			}),
		},
	}
}
