package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// idleSessions measures what an idle TLS session costs: logged in, INBOX selected,
// in IDLE.
func (r *run) idleSessions() error {
	return r.sessionsOf("memory of an idle TLS session (of %d)", false)
}

// compressedSessions measures the same behind COMPRESS.
func (r *run) compressedSessions() error {
	return r.sessionsOf("the same with COMPRESS=DEFLATE (of %d)", true)
}

func (r *run) sessionsOf(what string, compressed bool) error {
	if err := r.fill("roost", 100); err != nil {
		return err
	}
	s, err := r.startRoost("")
	if err != nil {
		return err
	}
	defer s.Close()
	// One session first, so that what is loaded once is not counted a thousand times.
	warm, err := idling(s.Addr, compressed)
	if err != nil {
		return err
	}
	defer warm.close()
	before, err := settled(s.PID())
	if err != nil {
		return err
	}
	for range r.sessions {
		c, err := idling(s.Addr, compressed)
		if err != nil {
			return err
		}
		defer c.close()
	}
	after, err := settled(s.PID())
	if err != nil {
		return err
	}
	out := row{operation: fmt.Sprintf(what, r.sessions), roost: fmt.Sprintf("%.1f KiB", float64(after-before)/1024/float64(r.sessions))}
	if r.dovecot {
		if out.dovecot, err = r.dovecotSessions(min(r.sessions, 50), compressed); err != nil {
			return err
		}
	}
	r.rows = append(r.rows, out)
	return nil
}

// idling is a client that does.
func idling(addr string, compressed bool) (*client, error) {
	c, err := dial(addr, true)
	if err != nil {
		return nil, err
	}
	if compressed {
		if err := c.compress(); err != nil {
			return nil, err
		}
	}
	if _, err := c.do("SELECT INBOX"); err != nil {
		return nil, err
	}
	return c, c.idle()
}

// dovecotSessions measures the same: each session is a process there, of which
// only its private memory is counted.
func (r *run) dovecotSessions(n int, compressed bool) (string, error) {
	if err := r.fill("dovecot", 100); err != nil {
		return "", err
	}
	d, err := r.startDovecot("sessions")
	if err != nil {
		return "", err
	}
	defer d.Close()
	for range n {
		c, err := idling(d.TLSAddr, compressed)
		if err != nil {
			return "", err
		}
		defer c.close()
	}
	time.Sleep(time.Second)
	total, count := int64(0), 0
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil && strings.TrimSpace(string(comm)) == "imap" {
			total += private(pid)
			count++
		}
	}
	if count == 0 {
		return "", nil
	}
	return fmt.Sprintf("%.1f KiB private", float64(total)/1024/float64(count)), nil
}

// settled waits until the garbage of the work before is gone: memory that was
// freed goes back to the system with some delay.
func settled(pid int) (int64, error) {
	last := int64(0)
	for range 40 {
		time.Sleep(500 * time.Millisecond)
		now, err := rss(pid)
		if err != nil {
			return 0, err
		}
		if last-now < 64<<10 && now-last < 64<<10 {
			return now, nil
		}
		last = now
	}
	return last, nil
}

// rss is the resident memory of a process in bytes.
func rss(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
			kib, err := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("process %d shows no VmRSS", pid)
}

// private is the memory that only this process holds, in bytes.
func private(pid int) (sum int64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		if bytes.HasPrefix(line, []byte("Private_")) {
			if f := bytes.Fields(line); len(f) > 1 {
				kib, _ := strconv.ParseInt(string(f[1]), 10, 64)
				sum += kib << 10
			}
		}
	}
	return sum
}
