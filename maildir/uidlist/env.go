package uidlist

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Env is what locks and marks depend on beside the files. The same Env serves all
// mailboxes of a process.
type Env struct {
	Host   string    // kernel host name, as Dovecot writes it into its locks
	PID    int       // of this process
	BootID string    // changes with each boot of the machine; "" when not known
	Booted time.Time // when this machine was started; zero when not known

	Now   func() time.Time
	Alive func(pid int) bool                               // whether a process is there
	Began func(pid int) (t time.Time, ok bool)             // when it was started; false: not known
	Sleep func(ctx context.Context, d time.Duration) error // or until ctx ends
	Rand  io.Reader                                        // for GUIDs

	Timeout time.Duration // how long to wait for a lock; 0 is 122 s, as Dovecot does
}

// System is the Env of this process.
func System() *Env {
	host, _ := os.Hostname()
	e := &Env{
		Host:  host,
		PID:   os.Getpid(),
		Now:   time.Now,
		Alive: alive,
		Began: began,
		Sleep: sleep,
		Rand:  rand.Reader,
	}
	if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		e.BootID = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/stat"); err == nil {
		if _, after, ok := bytes.Cut(b, []byte("\nbtime ")); ok {
			line, _, _ := bytes.Cut(after, []byte("\n"))
			if s, err := strconv.ParseInt(string(line), 10, 64); err == nil {
				e.Booted = time.Unix(s, 0)
			}
		}
	}
	return e
}

// began is Began, where it is there.
func (e *Env) began(pid int) (time.Time, bool) {
	if e.Began == nil {
		return time.Time{}, false
	}
	return e.Began(pid)
}

func alive(pid int) bool {
	// EPERM means that it is there, and another's.
	return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// began reads /proc, where that is this process's own: in a container's pid namespace
// with the machine's /proc a number names another process there.
func began(pid int) (t time.Time, ok bool) {
	const ticks = 100 // a second, whatever the kernel's own: proc_pid_stat(5), USER_HZ
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		return t, false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return t, false
	}
	now := time.Now() // before uptime is read: who waits in between must not seem younger
	// The name, in parentheses, may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const start = 22 - 3 // of what follows the name
	up, err := os.ReadFile("/proc/uptime")
	if err != nil || len(fields) <= start {
		return t, false
	}
	since, err := strconv.ParseFloat(string(fields[start]), 64)
	if err != nil {
		return t, false
	}
	word, _, _ := bytes.Cut(up, []byte(" "))
	uptime, err := strconv.ParseFloat(string(word), 64)
	if err != nil {
		return t, false
	}
	return now.Add(-time.Duration((uptime - since/ticks) * float64(time.Second))), true
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// holder is what a lock of this process says: "PID:HOST".
func (e *Env) holder() string { return strconv.Itoa(e.PID) + ":" + e.Host }

// NewGUID makes the name under which a mailbox is known for ever (MAILBOXID).
func (e *Env) NewGUID() (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(e.Rand, b[:]); err != nil {
		return "", err
	}
	return hex.EncodeToString(b[:]), nil
}
