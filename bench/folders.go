package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"roost/test/neighbour"
)

// perFolder is how many messages are in each.
const perFolder = 20

// unopened begins what is done in a session of its own each round, for a user of n folders that
// nobody opened.
func unopened(n int, do func(st *stand, rec *record, c *client) error) func(st *stand) (step, error) {
	return func(st *stand) (step, error) {
		return func(rec *record) error {
			user, err := st.folders(n)
			if err != nil {
				return err
			}
			c, err := st.dial(user)
			if err != nil {
				return err
			}
			defer c.close()
			return do(st, rec, c)
		}, nil
	}
}

// listing: LIST and STATUS over many folders that nobody opened, and again.
func listing(z sizes) []operation {
	n := z.folders
	again := func(do func(st *stand, rec *record, c *client) error) func(st *stand) (step, error) {
		return func(st *stand) (step, error) {
			user, err := st.manyFolders(n)
			if err != nil {
				return nil, err
			}
			c, err := st.dial(user)
			if err != nil {
				return nil, err
			}
			return func(rec *record) error { return do(st, rec, c) }, do(st, newRecord(""), c)
		}
	}
	list := func(st *stand, rec *record, c *client) error {
		t := time.Now()
		a, err := c.do(`LIST "" "*"`)
		rec.took(time.Since(t))
		if err != nil {
			return err
		}
		return foldersIn(rec, a, "* LIST ", n)
	}
	status := func(st *stand, rec *record, c *client) error {
		all := &answer{}
		t := time.Now()
		for i := range n {
			a, err := c.do("STATUS f%04d (MESSAGES UNSEEN UIDNEXT)", i)
			if err != nil {
				return err
			}
			all.lines = append(all.lines, a.lines...)
		}
		rec.took(time.Since(t))
		return foldersIn(rec, all, "* STATUS ", n)
	}
	listStatus := func(st *stand, rec *record, c *client) error {
		t := time.Now()
		a, err := c.do(`LIST "" "*" RETURN (STATUS (MESSAGES UNSEEN UIDNEXT))`)
		rec.took(time.Since(t))
		if err != nil {
			return err
		}
		return foldersIn(rec, a, "* STATUS ", n)
	}
	scanned := []bar{{limit: 3, why: "first time at most 3 times reading the directories"}}
	of := fmt.Sprintf(" of %d folders", n)
	const dirs = "readdir of all"
	return []operation{
		{name: "folders/list-first", about: "LIST" + of + ", first", against: dirs, rounds: 3, bars: scanned, begin: unopened(n, list), limit: readFolders(n)},
		{name: "folders/status-first", about: "STATUS" + of + ", one after the other, first", against: dirs, rounds: 3, bars: scanned, begin: unopened(n, status), limit: readFolders(n)},
		{name: "folders/list-status-first", about: "LIST RETURN (STATUS)" + of + ", first", against: dirs, rounds: 3, bars: scanned, begin: unopened(n, listStatus), limit: readFolders(n)},
		{name: "folders/list", about: "LIST" + of + ", again", begin: again(list)},
		{name: "folders/status", about: "STATUS" + of + ", again", begin: again(status)},
		{name: "folders/list-status", about: "LIST RETURN (STATUS)" + of + ", again", begin: again(listStatus)},
	}
}

// foldersIn makes sure that all folders were told of.
func foldersIn(rec *record, a *answer, prefix string, n int) error {
	var told []string
	for _, l := range a.lines {
		rest, ok := strings.CutPrefix(l, prefix)
		if !ok {
			continue
		}
		s := readStatus(rest)
		if prefix == "* LIST " {
			s = status{name: strings.Trim(rest[strings.LastIndexByte(rest, ' ')+1:], `"`)}
		}
		if strings.HasPrefix(s.name, "f") {
			told = append(told, fmt.Sprintf("%v", s))
		}
	}
	slices.Sort(told)
	if len(told) != n {
		return fmt.Errorf("%d folders were told of, %d are there", len(told), n)
	}
	rec.answer("%08x", sumOf(strings.Join(told, "\n")))
	return nil
}

// folders gives a user with n of them.
func (st *stand) folders(n int) (string, error) {
	user, err := st.newUser()
	if err != nil {
		return "", err
	}
	for i := range n {
		dir := st.folder(user, i)
		for _, sub := range []string{"cur", "new", "tmp"} {
			if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
				return "", err
			}
		}
		if err := st.fill(dir, perFolder); err != nil {
			return "", err
		}
	}
	return user, neighbour.Own(st.maildir(user))
}

// manyFolders gives such a user that operations share.
func (st *stand) manyFolders(n int) (string, error) {
	return st.common("folders", func() (string, error) { return st.folders(n) })
}

// folder i of a user: the directory.
func (st *stand) folder(user string, i int) string {
	return filepath.Join(st.maildir(user), fmt.Sprintf(".f%04d", i))
}

// readFolders reads all of their directories.
func readFolders(n int) func(st *stand) (step, error) {
	return func(st *stand) (step, error) {
		user, err := st.manyFolders(n)
		if err != nil {
			return nil, err
		}
		return func(rec *record) error {
			return rec.timed(func() error {
				if _, err := names(st.maildir(user)); err != nil {
					return err
				}
				for i := range n {
					for _, sub := range []string{"cur", "new"} {
						if _, err := names(filepath.Join(st.folder(user, i), sub)); err != nil {
							return err
						}
					}
				}
				return nil
			})
		}, nil
	}
}
