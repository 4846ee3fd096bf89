package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// storing: flags of one message and of all, COPY, MOVE and EXPUNGE of all.
func storing(z sizes) []operation {
	n := z.messages
	return []operation{
		{
			name: "store/one", about: fmt.Sprintf("UID STORE +FLAGS of one of %d messages", n), against: "rename",
			begin: func(st *stand) (step, error) {
				user, err := st.mailbox(n)
				if err != nil {
					return nil, err
				}
				c, err := st.selected(user)
				r := rand.New(rand.NewPCG(5, 6))
				return func(rec *record) error {
					for i := range 4 * z.each {
						sign := "+-"[i%2 : i%2+1]
						t := time.Now()
						_, err := c.do(`STORE %d %sFLAGS.SILENT (\Draft)`, r.IntN(n)+1, sign)
						rec.took(time.Since(t))
						if err != nil {
							return err
						}
					}
					a, err := c.do("SEARCH DRAFT")
					if err == nil {
						rec.answer("drafts: %s", numbers(a))
					}
					return err
				}, err
			},
			limit: func(st *stand) (step, error) {
				user, err := st.mailbox(n)
				if err != nil {
					return nil, err
				}
				cur := filepath.Join(st.maildir(user), "cur")
				list, err := names(cur)
				return func(rec *record) error {
					for i := range 4 * z.each {
						name := &list[i%len(list)]
						to, ok := strings.CutSuffix(*name, "T")
						if !ok {
							to = *name + "T"
						}
						t := time.Now()
						if err := unix.Rename(filepath.Join(cur, *name), filepath.Join(cur, to)); err != nil {
							return err
						}
						rec.took(time.Since(t))
						*name = to
					}
					return nil
				}, err
			},
		},
		{
			name: "store/all", about: `STORE 1:* +FLAGS.SILENT, then -FLAGS.SILENT`, against: "rename each",
			begin: func(st *stand) (step, error) {
				user, err := st.mailbox(n)
				if err != nil {
					return nil, err
				}
				c, err := st.selected(user)
				on := false
				return func(rec *record) error {
					on = !on
					sign, drafts := "-", 0
					if on {
						sign, drafts = "+", n
					}
					err := rec.timed(func() error {
						_, err := c.do(`STORE 1:* %sFLAGS.SILENT (\Draft)`, sign)
						return err
					})
					if err != nil {
						return err
					}
					a, err := c.do("SEARCH DRAFT")
					if err != nil {
						return err
					}
					if got := len(strings.Fields(a.find("* SEARCH"))); got != drafts {
						return fmt.Errorf("%d drafts after %sFLAGS, %d expected", got, sign, drafts)
					}
					return nil
				}, err
			},
			limit: renaming(n),
		},
	}
}
