package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// remembering: what sessions that idle and an open mailbox hold. Of Roost it is the memory
// of the one process (RSS), grown; of Dovecot, where a session is a process, what only
// those processes hold, and of it at most dovecotSessions are asked for.
func remembering(z sizes) (list []operation) {
	for _, k := range z.sessions {
		var bars []bar
		if k >= 1000 { // of fewer, what the server itself leaves lying about is too large a part
			bars = []bar{
				{max: 25 << 10, why: "an idle TLS session, fresh"},
				{row: "used", max: 40 << 10, why: "after it has appended and fetched a megabyte"},
			}
		}
		list = append(list, operation{
			name: fmt.Sprintf("memory/idle@%d", k), about: fmt.Sprintf("memory of an idle TLS session, of %d", k), unit: bytesOf, rounds: 1,
			bars: bars,
			begin: func(st *stand) (step, error) {
				return func(rec *record) error {
					all, before, err := st.crowd(k, false)
					if err != nil {
						return err
					}
					after, err := st.memory()
					if err != nil {
						return err
					}
					rec.add(float64(after-before) / float64(len(all)))
					rec.row("all", "all memory of the server, a session", bytesOf, float64(after)/float64(len(all)))
					began, t, wait := time.Duration(0), time.Now(), 5*time.Second
					if z.quick {
						wait = 0
					}
					if began, err = st.srv.cpu(); err != nil {
						return err
					}
					if err := sleep(st.ctx, wait); err != nil {
						return err
					}
					ended, err := st.srv.cpu()
					if err != nil {
						return err
					}
					rec.row("cpu", "CPU of an idle session, a second", cpuTime, (ended-began).Seconds()/time.Since(t).Seconds()/float64(len(all)))
					if k > 1000 { // of a megabyte each
						return nil
					}
					for _, c := range all {
						if err := use(c); err != nil {
							return err
						}
					}
					if after, err = st.memory(); err != nil {
						return err
					}
					rec.row("used", "after each has appended and fetched a megabyte", bytesOf, float64(after-before)/float64(len(all)))
					return nil
				}, nil
			},
		})
	}
	few := z.sessions[0]
	n := z.big
	return append(list, operation{
		name: "memory/compressed", about: fmt.Sprintf("memory of an idle TLS session with COMPRESS=DEFLATE, of %d", few), unit: bytesOf, rounds: 1,
		begin: func(st *stand) (step, error) {
			return func(rec *record) error {
				all, before, err := st.crowd(few, true)
				if err != nil {
					return err
				}
				after, err := st.memory()
				rec.add(float64(after-before) / float64(len(all)))
				return err
			}, nil
		},
	}, operation{
		name: "memory/mailbox", about: fmt.Sprintf("memory of an open mailbox of %d, a message", n), unit: bytesOf, rounds: 1,
		bars: []bar{{max: 120, why: "names of 60 bytes included"}},
		begin: func(st *stand) (step, error) {
			user, err := st.mailbox(n)
			if err != nil {
				return nil, err
			}
			return func(rec *record) error {
				// Opened once before: what the first scan throws away is not held.
				if err := st.open(newRecord(""), user, n); err != nil {
					return err
				}
				if err := sleep(st.ctx, st.settle()); err != nil {
					return err
				}
				if err := st.srv.restart(); err != nil {
					return err
				}
				c, err := st.dial(user)
				if err != nil {
					return err
				}
				before, err := st.memory()
				if err != nil {
					return err
				}
				if _, err := c.do("SELECT INBOX"); err != nil {
					return err
				}
				after, err := st.memory()
				rec.add(float64(after-before) / float64(n))
				return err
			}, nil
		},
	})
}

// crowd is k sessions that idle in one mailbox of a server that was just started, and what
// the server held before them. One session was there first, so that what is loaded once is
// not counted with each.
func (st *stand) crowd(k int, compressed bool) (all []*client, before int64, err error) {
	if st.side == sideDovecot {
		k = min(k, dovecotSessions)
	}
	user, err := st.mailbox(100)
	if err != nil {
		return nil, 0, err
	}
	if err := st.srv.restart(); err != nil {
		return nil, 0, err
	}
	for i := range k + 1 {
		c, err := st.dial(user)
		if err != nil {
			return nil, 0, err
		}
		if i == 0 {
			if _, err := c.do("CREATE Sink"); err != nil {
				return nil, 0, err
			}
		}
		if compressed {
			if err := c.compress(); err != nil {
				return nil, 0, err
			}
		}
		if _, err := c.do("SELECT INBOX"); err != nil {
			return nil, 0, err
		}
		if err := c.idle(); err != nil {
			return nil, 0, err
		}
		if !compressed {
			if err := c.small(); err != nil {
				return nil, 0, err
			}
		}
		if i > 0 {
			all = append(all, c)
			continue
		}
		if before, err = st.memory(); err != nil {
			return nil, 0, err
		}
	}
	return all, before, nil
}

// use leaves IDLE, appends and fetches a megabyte, and idles again.
func use(c *client) error {
	if err := c.leaveIdle(); err != nil {
		return err
	}
	text := append([]byte("Subject: a megabyte\r\n\r\n"), bytes.Repeat([]byte("line after line of it, seventy bytes long, as mail has it; and so on\r\n"), 15_000)...)
	if err := c.append("Sink", text); err != nil {
		return err
	}
	a, err := c.fetch("1:60", "BODY.PEEK[]")
	if err != nil {
		return err
	}
	if a.rows != 60 {
		return fmt.Errorf("%d messages came, 60 were asked for", a.rows)
	}
	return c.idle()
}

// memory waits until the garbage of the work before is gone, for freed memory goes back to
// the system with some delay, and gives what the server holds.
func (st *stand) memory() (int64, error) {
	last := int64(0)
	for range 60 {
		now, err := st.held()
		if err != nil {
			return 0, err
		}
		if d := now - last; -64<<10 < d && d < 64<<10 || st.quick {
			return now, nil
		}
		last = now
		if err := sleep(st.ctx, 500*time.Millisecond); err != nil {
			return 0, err
		}
	}
	return last, nil
}

// held is the memory of the server, in bytes.
func (st *stand) held() (sum int64, err error) {
	if st.side == sideRoost {
		return field(fmt.Sprintf("/proc/%d/status", st.srv.pid()), "VmRSS:")
	}
	list, err := st.srv.processes()
	for _, p := range list {
		if p.name == "imap" {
			n, err := field(fmt.Sprintf("/proc/%d/smaps_rollup", p.pid), "Private_Clean:", "Private_Dirty:")
			if err == nil { // it may have ended
				sum += n
			}
		}
	}
	return sum, err
}

// field sums values in KiB of a file of proc(5), in bytes.
func field(file string, names ...string) (sum int64, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	found := 0
	for line := range bytes.Lines(b) {
		for _, name := range names {
			if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
				kib, err := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
				if err != nil {
					return 0, err
				}
				sum += kib << 10
				found++
			}
		}
	}
	if found != len(names) {
		return 0, errors.New(file + " does not tell")
	}
	return sum, nil
}
