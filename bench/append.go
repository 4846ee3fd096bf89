package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// clientsAtOnce is how many append to one mailbox together.
const clientsAtOnce = 8

// appending: messages of a few KB, one command after the other, many in one, without
// waiting, and by many clients.
func appending(z sizes) []operation {
	// appends times what do does with n messages, a message.
	appends := func(name, about, against string, limit func(st *stand) (step, error), bars []bar, do func(rec *record, conns []*client, texts [][]byte) error) operation {
		return operation{
			name: "append/" + name, about: about, against: against, limit: limit, bars: bars,
			begin: func(st *stand) (step, error) {
				user, err := st.newUser()
				if err != nil {
					return nil, err
				}
				texts, err := st.texts(z.each)
				if err != nil {
					return nil, err
				}
				var conns []*client
				for range clientsAtOnce {
					c, err := st.dial(user)
					if err != nil {
						return nil, err
					}
					conns = append(conns, c)
				}
				if _, err := conns[0].do("SELECT INBOX"); err != nil {
					return nil, err
				}
				have := 0
				return func(rec *record) error {
					if err := do(rec, conns, texts); err != nil {
						return err
					}
					have += len(texts)
					a, err := conns[1].do("STATUS INBOX (MESSAGES UIDNEXT)")
					if err != nil {
						return err
					}
					s := statusOf(a)
					if s.messages != have {
						return fmt.Errorf("%d messages are there, %d were acknowledged", s.messages, have)
					}
					rec.answer("%d messages, UIDNEXT %d", s.messages, s.next)
					return nil
				}, err
			},
		}
	}
	promised := []bar{{limit: 1.5, why: "within 1.5 of the fsyncs that the promise needs"}}
	return []operation{
		appends("one", "APPEND, one after the other, a message", "write and sync, link, sync list and directory", z.durable(1), promised,
			func(rec *record, conns []*client, texts [][]byte) error {
				for _, text := range texts {
					if err := rec.timed(func() error { return conns[0].append("INBOX", text) }); err != nil {
						return err
					}
				}
				return nil
			}),
		appends("multi", fmt.Sprintf("MULTIAPPEND of %d, a message", z.each), "the same, list and directory once", z.durable(z.each), promised,
			shared(func(conns []*client, texts [][]byte) error { return conns[0].append("INBOX", texts...) })),
		appends("pipelined", fmt.Sprintf("APPEND of %d without waiting, a message", z.each), "the same, list and directory once", z.durable(z.each), nil,
			shared(func(conns []*client, texts [][]byte) error {
				failed := make(chan error, 1)
				sent := make(chan string, len(texts))
				go func() { // ends when all is sent; joined by failed
					defer close(sent)
					for _, text := range texts {
						tag, err := conns[0].sendAppend("INBOX", text)
						if err != nil {
							failed <- err
							return
						}
						sent <- tag
					}
					failed <- nil
				}()
				for tag := range sent {
					if _, err := conns[0].await(tag, nil); err != nil {
						return err
					}
				}
				return <-failed
			})),
		appends("eight", fmt.Sprintf("APPEND by %d clients at once, a message", clientsAtOnce), "write, fsync, rename by eight at once", z.renamedAtOnce, nil,
			shared(func(conns []*client, texts [][]byte) error {
				return atOnce(func(i int) error {
					for k := i; k < len(texts); k += clientsAtOnce {
						if err := conns[i].append("INBOX", texts[k]); err != nil {
							return err
						}
					}
					return nil
				})
			})),
	}
}

// shared times do as a whole, a message.
func shared(do func(conns []*client, texts [][]byte) error) func(rec *record, conns []*client, texts [][]byte) error {
	return func(rec *record, conns []*client, texts [][]byte) error {
		t := time.Now()
		err := do(conns, texts)
		rec.took(time.Since(t) / time.Duration(len(texts)))
		return err
	}
}

// atOnce runs do for each client and waits; it gives the first error.
func atOnce(do func(i int) error) error {
	errs := make([]error, clientsAtOnce)
	var wg sync.WaitGroup
	for i := range clientsAtOnce {
		wg.Go(func() { errs[i] = do(i) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// texts gives n messages of less than 10 KB, with CRLF.
func (st *stand) texts(n int) (list [][]byte, err error) {
	for i := 0; len(list) < n; i++ {
		if st.corpus.message(i).size > 10_000 {
			continue
		}
		b, err := os.ReadFile(st.corpus.path(i))
		if err != nil {
			return nil, err
		}
		list = append(list, bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")))
	}
	return list, nil
}

// durable does with the files what the promise of APPEND needs at least: the message is
// synced, then linked, its line is appended to a list; list and directory are synced once
// for so many.
func (z sizes) durable(group int) func(st *stand) (step, error) {
	return func(st *stand) (step, error) {
		texts, err := st.texts(z.each)
		if err != nil {
			return nil, err
		}
		user, err := st.newUser()
		if err != nil {
			return nil, err
		}
		dir := st.maildir(user)
		list, err := os.Create(filepath.Join(dir, "list"))
		if err != nil {
			return nil, err
		}
		st.cleanup(func() { list.Close() })
		cur, err := os.Open(filepath.Join(dir, "cur"))
		if err != nil {
			return nil, err
		}
		st.cleanup(func() { cur.Close() })
		n := 0
		return func(rec *record) error {
			for i := 0; i < len(texts); i += group {
				t := time.Now()
				some := texts[i:min(i+group, len(texts))]
				for _, text := range some {
					n++
					name := fmt.Sprintf("%d.M%d.mail", n, n)
					tmp := filepath.Join(dir, "tmp", name)
					if err := writeSynced(tmp, text); err != nil {
						return err
					}
					if err := unix.Rename(tmp, filepath.Join(dir, "cur", name)); err != nil {
						return err
					}
					if _, err := fmt.Fprintf(list, "%d :%s\n", n, name); err != nil {
						return err
					}
				}
				if err := list.Sync(); err != nil {
					return err
				}
				if err := cur.Sync(); err != nil {
					return err
				}
				rec.took(time.Since(t) / time.Duration(len(some)))
			}
			return nil
		}, nil
	}
}

// renamedAtOnce is write, fsync and rename by as many at once as there are clients.
func (z sizes) renamedAtOnce(st *stand) (step, error) {
	texts, err := st.texts(z.each)
	if err != nil {
		return nil, err
	}
	user, err := st.newUser()
	if err != nil {
		return nil, err
	}
	dir, round := st.maildir(user), 0
	return func(rec *record) error {
		round++
		t := time.Now()
		err := atOnce(func(i int) error {
			for k := i; k < len(texts); k += clientsAtOnce {
				if err := writeRenamed(dir, fmt.Sprintf("%d.M%d.mail", round, k), texts[k]); err != nil {
					return err
				}
			}
			return nil
		})
		rec.took(time.Since(t) / time.Duration(len(texts)))
		return err
	}, nil
}

func writeRenamed(dir, name string, text []byte) error {
	tmp := filepath.Join(dir, "tmp", name)
	if err := writeSynced(tmp, text); err != nil {
		return err
	}
	return unix.Rename(tmp, filepath.Join(dir, "cur", name))
}

func writeSynced(file string, text []byte) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Sync()
}

// status is what STATUS says of one mailbox.
type status struct {
	name                   string
	messages, unseen, next int
}

// statusOf reads the last STATUS line.
func statusOf(a *answer) (s status) {
	for _, l := range a.lines {
		if rest, ok := strings.CutPrefix(l, "* STATUS "); ok {
			s = readStatus(rest)
		}
	}
	return s
}

// readStatus reads "name (MESSAGES 1 ...)".
func readStatus(l string) (s status) {
	name, items, _ := strings.Cut(l, " (")
	s.name = strings.Trim(name, `"`)
	f := strings.Fields(strings.TrimSuffix(items, ")"))
	for i := 0; i+1 < len(f); i += 2 {
		n := 0
		fmt.Sscan(f[i+1], &n)
		switch f[i] {
		case "MESSAGES":
			s.messages = n
		case "UNSEEN":
			s.unseen = n
		case "UIDNEXT":
			s.next = n
		}
	}
	return s
}
