package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// searching: SEARCH, SORT and THREAD, in a mailbox that was opened and nothing more, and
// again.
func searching(z sizes) []operation {
	n := z.messages
	// pair is a command first and again.
	pair := func(name, about, command, against string, limit func(st *stand) (step, error), digest func(*answer) string) []operation {
		ask := func(st *stand, rec *record, c *client) error {
			t := time.Now()
			a, err := c.do("%s", command)
			rec.took(time.Since(t))
			if err != nil {
				return err
			}
			rec.answer("%s", digest(a))
			return nil
		}
		return []operation{
			{
				name: "search/" + name + "-first", about: about + ", first", against: against, limit: limit,
				begin: anew(n, ask),
			},
			{
				name: "search/" + name, about: about + ", again",
				begin: func(st *stand) (step, error) {
					c, err := st.opened(n)
					if err == nil {
						err = ask(st, newRecord(""), c)
					}
					return func(rec *record) error {
						for range 3 {
							if err := ask(st, rec, c); err != nil {
								return err
							}
						}
						return nil
					}, err
				},
			},
		}
	}
	of := fmt.Sprintf(" of %d", n)
	read := "read the files, look for the word"
	return slices.Concat(
		pair("flag", "SEARCH FLAGGED"+of, "SEARCH FLAGGED", "", nil, numbers),
		pair("date", "SEARCH SINCE", "SEARCH SINCE "+began.Add(time.Duration(n/2)*time.Hour).Format("2-Jan-2006"), "readdir, stat", statAll(n), numbers),
		pair("header", "SEARCH SUBJECT", "SEARCH SUBJECT sta", read, readAll(n, looking("sta")), numbers),
		pair("from", "SEARCH FROM", "SEARCH FROM eve", read, readAll(n, looking("Eve")), numbers),
		pair("body", "SEARCH BODY of a rare word", "SEARCH BODY "+rareWord, read, readAll(n, looking(rareWord)), numbers),
		pair("body-part", "SEARCH BODY inside of words", "SEARCH BODY "+rareWord[2:7], read, readAll(n, looking(rareWord[2:7])), numbers),
		pair("text-none", "SEARCH TEXT of what is nowhere", "SEARCH TEXT xyzzyxyzzy", read, readAll(n, looking("xyzzyxyzzy")), numbers),
		pair("sort", "SORT by date of the header", "SORT (DATE) UTF-8 ALL", "read and scan the files", readAll(n, lines), sequence),
		pair("sort-subject", "SORT by subject", "SORT (SUBJECT) UTF-8 ALL", "read and scan the files", readAll(n, lines), sequence),
		pair("thread", "THREAD=REFERENCES", "THREAD REFERENCES UTF-8 ALL", "read and scan the files", readAll(n, lines), members),
	)
}

// numbers of a SEARCH, in their order.
func numbers(a *answer) string {
	words := strings.Fields(a.find("* SEARCH"))
	slices.SortFunc(words, func(a, b string) int {
		x, _ := strconv.Atoi(a)
		y, _ := strconv.Atoi(b)
		return x - y
	})
	return fmt.Sprintf("%d found, sum %08x", len(words), sumOf(strings.Join(words, " ")))
}

// sequence of a SORT.
func sequence(a *answer) string {
	s := strings.TrimSpace(a.find("* SORT"))
	return fmt.Sprintf("%d sorted, sum %08x", len(strings.Fields(s)), sumOf(s))
}

var number = regexp.MustCompile(`\d+`)

// members of all threads.
func members(a *answer) string {
	s := a.find("* THREAD ")
	return fmt.Sprintf("%d in threads", len(number.FindAllString(s, -1)))
}
