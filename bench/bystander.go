package main

import (
	"fmt"
	"strings"
	"time"
)

// standingBy: what NOOP takes in a session while another one does something heavy in the
// same mailbox.
func standingBy(z sizes) (list []operation) {
	n := z.messages
	for _, heavy := range []struct {
		name, about string
		prepare     []string
		command     string
	}{
		{"open", "SELECT, first", nil, "SELECT INBOX"},
		{"envelope", "FETCH 1:* of ENVELOPE and BODYSTRUCTURE, first", []string{"SELECT INBOX"}, "FETCH 1:* (ENVELOPE BODYSTRUCTURE)"},
		{"bodies", "FETCH 1:* of BODY[]", []string{"SELECT INBOX"}, "FETCH 1:* (BODY.PEEK[])"},
		{"search", "SEARCH BODY", []string{"SELECT INBOX"}, "SEARCH BODY xyzzyxyzzy"},
		{"sort", "SORT, first", []string{"SELECT INBOX"}, "SORT (SUBJECT) UTF-8 ALL"},
		{"thread", "THREAD, first", []string{"SELECT INBOX"}, "THREAD REFERENCES UTF-8 ALL"},
		{"store", "STORE 1:*", []string{"SELECT INBOX"}, `STORE 1:* +FLAGS.SILENT (\Draft)`},
		{"copy", "COPY 1:*", []string{"SELECT INBOX", "CREATE Other"}, "COPY 1:* Other"},
		{"move", "MOVE 1:*", []string{"SELECT INBOX", "CREATE Other"}, "MOVE 1:* Other"},
		{"expunge", "EXPUNGE of all", []string{"SELECT INBOX", `STORE 1:* +FLAGS.SILENT (\Deleted)`}, "EXPUNGE"},
		{"attack-texts", "SEARCH of 200 long TEXT keys", []string{"SELECT INBOX"}, "SEARCH" + strings.Repeat(` NOT TEXT "the quick brown fox jumps over the lazy cat"`, 200)},
		{"attack-keys", "SEARCH of 3,000 keys of the header", []string{"SELECT INBOX"}, "SEARCH" + strings.Repeat(" NOT SUBJECT xyzzy", 3_000)},
		{"attack-depth", "SEARCH of 15,000 nested NOT", []string{"SELECT INBOX"}, "SEARCH " + strings.Repeat("NOT ", 15_000) + "ALL"},
		{"append", "MULTIAPPEND of a hundred", nil, ""},
		{"deliveries", fmt.Sprintf("nothing, and %d messages are delivered", z.burst), nil, ""},
	} {
		list = append(list, operation{
			name: "bystander/" + heavy.name, about: fmt.Sprintf("NOOP of one session while another does %s, of %d", heavy.about, n), rounds: 3,
			bars: []bar{{max9: mostOf(heavy.name), why: "whatever one other session does"}},
			begin: func(st *stand) (step, error) {
				return func(rec *record) error {
					user, err := st.mailbox(n)
					if err != nil {
						return err
					}
					busy, err := st.dial(user)
					if err != nil {
						return err
					}
					defer busy.close()
					for _, command := range heavy.prepare {
						if _, err := busy.do("%s", command); err != nil {
							return err
						}
					}
					other, err := st.dial(user)
					if err != nil {
						return err
					}
					defer other.close()
					if heavy.name != "open" { // the mailbox is to be unknown then
						if _, err := other.do("SELECT INBOX"); err != nil {
							return err
						}
					}
					work := func() error {
						_, err := busy.do("%s", heavy.command)
						return err
					}
					switch heavy.name {
					case "append":
						texts, err := st.texts(100)
						if err != nil {
							return err
						}
						work = func() error { return busy.append("INBOX", texts...) }
					case "deliveries":
						files, err := spooled(z.burst, func(int) string { return st.maildir(user) })
						if err != nil {
							return err
						}
						work = func() error { return renameAll(files) }
					}
					return noops(rec, other, work)
				}, nil
			},
		})
	}
	return list
}

// mostOf is the bar, in seconds: an attack may be felt, but no more than that.
func mostOf(heavy string) float64 {
	if strings.HasPrefix(heavy, "attack-") {
		return 0.050
	}
	return 0.020
}

// noops times NOOPs, a millisecond apart, until the other work ends.
func noops(rec *record, c *client, work func() error) error {
	done := make(chan error, 1)
	go func() { done <- work() }() // ends with the command
	for {
		if err := rec.timed(func() error { _, err := c.do("NOOP"); return err }); err != nil {
			return err
		}
		select {
		case err := <-done:
			return err
		case <-time.After(time.Millisecond):
		}
	}
}
