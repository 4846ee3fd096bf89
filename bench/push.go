package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// dovecotSessions is how many idle sessions Dovecot is given at most: each is a process
// with an inotify instance of its own, of which a user often has 128.
const dovecotSessions = 100

// pushing: from the rename into new/ to the EXISTS line at clients that idle over TLS.
func pushing(z sizes) (list []operation) {
	few := max(1, z.each/2) // deliveries in a turn
	for _, k := range z.pushed {
		list = append(list, operation{
			name: fmt.Sprintf("push/latency@%d", k), about: fmt.Sprintf("delivery to EXISTS, %d idle sessions with a mailbox each", k),
			against: "raw inotify and a TLS write", alone: k > dovecotSessions, finer: 4,
			bars: []bar{{limit: 1.5, limit9: 3, why: "raw inotify and a TLS write"}},
			begin: func(st *stand) (step, error) {
				all, err := st.idlers(k)
				each, next := few, 0
				if st.side == sideDovecot {
					each = max(1, each/12) // it takes half a second
				}
				return func(rec *record) error {
					for range each {
						next++
						if err := all[next*37%len(all)].hears(rec); err != nil {
							return err
						}
					}
					return nil
				}, err
			},
			limit: func(st *stand) (step, error) {
				l, err := st.rawInotify()
				return func(rec *record) error {
					for range few {
						if err := l.hears(rec); err != nil {
							return err
						}
					}
					return nil
				}, err
			},
		})
	}
	for _, k := range z.pushed {
		list = append(list, operation{
			name: fmt.Sprintf("push/burst@%d", k), about: fmt.Sprintf("a burst of %d deliveries to %d idle sessions, until all are told", z.burst, k),
			against: "the renames, inotify drained", alone: k > dovecotSessions, rounds: 3,
			begin: func(st *stand) (step, error) {
				all, err := st.idlers(k)
				return func(rec *record) error { return burst(rec, all, z.burst) }, err
			},
			limit: func(st *stand) (step, error) { return st.rawBurst(k, z.burst) },
		})
	}
	const together = 50
	return append(list, operation{
		name: fmt.Sprintf("push/shared@%d", together), about: fmt.Sprintf("delivery until the last of %d idle sessions on one mailbox is told", together),
		bars: []bar{{max: 0.005, why: "the last told within 5 ms"}, {row: "cpu", max: 0.0025, why: "2.5 ms of CPU in all"}},
		begin: func(st *stand) (step, error) {
			user, err := st.mailbox(1)
			if err != nil {
				return nil, err
			}
			var all []*idler
			for range together {
				i, err := st.idle(user)
				if err != nil {
					return nil, err
				}
				all = append(all, i)
			}
			each := z.each
			if st.side == sideDovecot {
				each = max(1, each/12)
			}
			return func(rec *record) error {
				before, err := st.srv.cpu()
				if err != nil {
					return err
				}
				for range each {
					time.Sleep(pause)
					all[0].n++
					t, err := deliver(all[0].maildir, all[0].n)
					if err != nil {
						return err
					}
					for _, i := range all {
						if err := i.hear(); err != nil {
							return err
						}
					}
					rec.took(time.Since(t))
				}
				return st.used(rec, before, each, "CPU of the server for it")
			}, nil
		},
	})
}

// pause lies between two deliveries, so that each is alone.
const pause = 4 * time.Millisecond

// deliver puts a message into new/ as an MTA does and says when the rename began.
func deliver(maildir string, i int) (time.Time, error) {
	tmp, name, err := spool(maildir, i)
	if err != nil {
		return time.Time{}, err
	}
	t := time.Now()
	return t, os.Rename(tmp, filepath.Join(maildir, "new", name))
}

// spool writes a message to tmp/.
func spool(maildir string, i int) (tmp, name string, err error) {
	now := time.Now()
	name = fmt.Sprintf("%d.V1I%xM%06d.mail.example.org", now.Unix(), i, now.Nanosecond()/1000)
	tmp = filepath.Join(maildir, "tmp", name)
	return tmp, name, os.WriteFile(tmp, []byte("From: eve@example.net\nTo: ann@example.org\nSubject: delivery\nDate: Fri, 27 Nov 2026 10:00:00 +0000\nMessage-ID: <"+name+">\n\nhello\n"), 0o644)
}

// delivery is a message in tmp/ and where it goes.
type delivery struct{ tmp, to string }

// spooled writes n messages; maildir says where the i-th goes.
func spooled(n int, maildir func(i int) string) ([]delivery, error) {
	files := make([]delivery, n)
	for i := range files {
		dir := maildir(i)
		tmp, name, err := spool(dir, i)
		if err != nil {
			return nil, err
		}
		files[i] = delivery{tmp, filepath.Join(dir, "new", name)}
	}
	return files, nil
}

// renameAll delivers them.
func renameAll(files []delivery) error {
	for _, f := range files {
		if err := os.Rename(f.tmp, f.to); err != nil {
			return err
		}
	}
	return nil
}

// idler is a client that hears of deliveries to one Maildir.
type idler struct {
	maildir string
	n       int // deliveries so far
	exists  int // messages it was told of
	c       *client
	hear    func() error // waits for the next one
}

// hears times one delivery.
func (i *idler) hears(rec *record) error {
	time.Sleep(pause)
	i.n++
	t, err := deliver(i.maildir, i.n)
	if err != nil {
		return err
	}
	if err := i.hear(); err != nil {
		return err
	}
	rec.took(time.Since(t))
	return nil
}

// idle is a client that idles in the user's INBOX.
func (st *stand) idle(user string) (*idler, error) {
	c, err := st.selected(user)
	if err != nil {
		return nil, err
	}
	if err := c.idle(); err != nil {
		return nil, err
	}
	i := &idler{maildir: st.maildir(user), exists: 1, c: c}
	i.hear = func() (err error) {
		i.exists, err = c.exists()
		return err
	}
	return i, c.small()
}

// idlers are k of them, each with a mailbox of its own.
func (st *stand) idlers(k int) (all []*idler, err error) {
	for range k {
		user, err := st.mailbox(1)
		if err != nil {
			return nil, err
		}
		i, err := st.idle(user)
		if err != nil {
			return nil, err
		}
		all = append(all, i)
	}
	return all, nil
}

// burst delivers n messages to the clients in turns, as fast as renames go, and waits until
// each client was told of all of its own.
func burst(rec *record, all []*idler, n int) error {
	want := make([]int, len(all))
	for k, i := range all {
		want[k] = i.exists
	}
	files, err := spooled(n, func(f int) string {
		want[f%len(all)]++
		return all[f%len(all)].maildir
	})
	if err != nil {
		return err
	}
	lines := make([]int, len(all))
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for k, i := range all {
		wg.Go(func() {
			for i.exists < want[k] && errs[k] == nil {
				errs[k] = i.hear()
				lines[k]++
			}
		})
	}
	began := time.Now()
	if err := renameAll(files); err != nil {
		return err
	}
	last := time.Now()
	wg.Wait()
	total := 0
	for k := range all {
		if errs[k] != nil {
			return errs[k]
		}
		if all[k].exists != want[k] {
			return fmt.Errorf("%d messages were announced, %d are there", all[k].exists, want[k])
		}
		total += lines[k]
	}
	rec.took(time.Since(began))
	rec.row("lag", "from its last rename", seconds, time.Since(last).Seconds())
	rec.row("lines", "EXISTS lines for it", count, float64(total))
	return nil
}
