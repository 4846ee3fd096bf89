package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// settle is how long a server lives before it is stopped. What was written within two
// seconds of a snapshot is not believed, for a second change could hide in the same tick
// of the clock; servers live longer than that.
const settle = 2500 * time.Millisecond

// open measures SELECT of a large mailbox by a server that was just started: with
// nothing but the mail, then with what the server kept, then while it is open.
func (r *run) open() error {
	times := map[string][3]time.Duration{}
	var perMessage int
	servers := r.servers()
	for _, server := range servers {
		if err := r.fill(server, r.messages); err != nil {
			return err
		}
		var t [3]time.Duration
		for i := range 2 { // a start each: cold, then from what was kept
			addr, pid, stop, err := r.start(server)
			if err != nil {
				return err
			}
			before, err := settled(pid)
			if err != nil {
				return err
			}
			if t[i], err = selectOnce(addr); err != nil {
				return fmt.Errorf("%s: %w", server, err)
			}
			if i == 1 {
				if t[2], err = selectOnce(addr); err != nil {
					return err
				}
				if server == "roost" {
					after, err := settled(pid)
					if err != nil {
						return err
					}
					perMessage = int(after-before) / r.messages
				}
			}
			time.Sleep(settle)
			stop()
		}
		times[server] = t
		if err := r.checkKept(server); err != nil {
			return err
		}
	}
	for i, what := range []string{"without any index", "after a restart", "while it is open"} {
		out := row{operation: fmt.Sprintf("SELECT of %d messages, %s", r.messages, what), roost: round(times["roost"][i]).String()}
		if r.dovecot {
			out.dovecot = round(times["dovecot"][i]).String()
		}
		if i == 0 {
			scan, err := r.rawScan()
			if err != nil {
				return err
			}
			out.limit = round(scan).String() + " (readdir)"
		}
		r.rows = append(r.rows, out)
	}
	r.rows = append(r.rows, row{operation: "memory of the open mailbox (RSS grown), a message", roost: fmt.Sprintf("%d bytes", perMessage)})
	return nil
}

// start runs one of the servers and says where it listens.
func (r *run) start(server string) (addr string, pid int, stop func() error, err error) {
	if server == "roost" {
		s, err := r.startRoost("")
		if err != nil {
			return "", 0, nil, err
		}
		return s.PlainAddr, s.PID(), s.Close, nil
	}
	s, err := r.startDovecot("open")
	if err != nil {
		return "", 0, nil, err
	}
	return s.Addr, s.PID(), s.Close, nil
}

func selectOnce(addr string) (time.Duration, error) {
	c, err := dial(addr, false)
	if err != nil {
		return 0, err
	}
	defer c.close()
	t := time.Now()
	if _, err := c.do("SELECT INBOX"); err != nil {
		return 0, err
	}
	d := time.Since(t)
	_, err = c.do("LOGOUT")
	return d, err
}

// checkKept makes sure that no message was lost on the way.
func (r *run) checkKept(server string) error {
	entries, err := os.ReadDir(filepath.Join(r.maildir(server), "cur"))
	if err != nil {
		return err
	}
	if len(entries) != r.messages {
		return fmt.Errorf("%s: %d files, %d expected", server, len(entries), r.messages)
	}
	return nil
}

// rawScan reads the names of the mailbox.
func (r *run) rawScan() (time.Duration, error) {
	t := time.Now()
	d, err := os.Open(filepath.Join(r.maildir("roost"), "cur"))
	if err != nil {
		return 0, err
	}
	defer d.Close()
	if _, err := d.Readdirnames(-1); err != nil {
		return 0, err
	}
	return time.Since(t), nil
}
