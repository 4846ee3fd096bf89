package main

import (
	"fmt"
	"strings"
	"time"
)

// opening: SELECT of a mailbox that was never opened, that was before a restart, that is.
func opening(z sizes) (list []operation) {
	for _, n := range z.cold {
		rounds := 0
		if n > 100_000 {
			rounds = 2
		} else if n > 10_000 {
			rounds = 3
		}
		list = append(list, operation{
			name: fmt.Sprintf("open/cold@%d", n), about: fmt.Sprintf("SELECT of %d messages without any index", n),
			against: "readdir", rounds: rounds,
			begin: func(st *stand) (step, error) {
				return func(rec *record) error {
					user, err := st.mailbox(n)
					if err != nil {
						return err
					}
					return st.open(rec, user, n)
				}, nil
			},
			limit: readdir(n),
		})
	}
	for _, n := range z.cold {
		list = append(list, operation{
			name: fmt.Sprintf("open/restart@%d", n), about: fmt.Sprintf("SELECT of %d messages as the first thing after a restart", n),
			rounds: 3,
			begin: func(st *stand) (step, error) {
				user, err := st.mailbox(n)
				if err != nil {
					return nil, err
				}
				if err := st.open(newRecord(""), user, n); err != nil {
					return nil, err
				}
				return func(rec *record) error {
					if err := st.srv.rest(st.ctx); err != nil {
						return err
					}
					if err := sleep(st.ctx, st.settle()); err != nil {
						return err
					}
					if err := st.srv.restart(); err != nil {
						return err
					}
					return st.open(rec, user, n)
				}, nil
			},
		})
	}
	n := z.messages
	return append(list, operation{
		name: "open/again", about: fmt.Sprintf("SELECT of %d messages again, while the mailbox is open", n),
		against: "TLS echo",
		begin: func(st *stand) (step, error) {
			c, err := st.opened(n)
			return func(rec *record) error {
				for range z.each {
					t := time.Now()
					a, err := c.do("SELECT INBOX")
					rec.took(time.Since(t))
					if err != nil {
						return err
					}
					st.with.bytes = a.bytes
				}
				return nil
			}, err
		},
		limit: repeated(z.each, echo(true)),
	})
}

// repeated does a step several times a round.
func repeated(n int, begin func(st *stand) (step, error)) func(st *stand) (step, error) {
	return func(st *stand) (step, error) {
		do, err := begin(st)
		return func(rec *record) error {
			for range n {
				if err := do(rec); err != nil {
					return err
				}
			}
			return nil
		}, err
	}
}

// open times SELECT of a user's INBOX in a new session, which then leaves.
func (st *stand) open(rec *record, user string, n int) error {
	c, err := st.dial(user)
	if err != nil {
		return err
	}
	t := time.Now()
	a, err := c.do("SELECT INBOX")
	rec.took(time.Since(t))
	if err != nil {
		return err
	}
	exists := a.count("EXISTS")
	if exists != n {
		return fmt.Errorf("%d messages exist, %d expected", exists, n)
	}
	next, _, _ := strings.Cut(a.find("* OK [UIDNEXT "), "]")
	rec.answer("%d exist, UIDNEXT %s", exists, next)
	_, err = c.do("LOGOUT")
	return err
}

// count reads the number of "* 12 EXISTS".
func (a *answer) count(what string) int {
	n := -1
	for _, l := range a.lines {
		if rest, ok := strings.CutSuffix(l, " "+what); ok {
			fmt.Sscanf(rest, "* %d", &n)
		}
	}
	return n
}
