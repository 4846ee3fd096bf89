package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"roost/test/neighbour"
)

// profile is what the Roost server does during one operation. The program is built with
// the tag "profile", which the product never has: then it listens to two signals
// (cmd/roost/profile.go).
type profile struct {
	kind string // cpu, mem or trace
	out  string // absolute
	raw  string // where the server may write
}

func newProfile(kind, out string, ops []operation) (*profile, error) {
	if !slices.Contains([]string{"cpu", "mem", "trace"}, kind) {
		return nil, fmt.Errorf("-profile %s: it is cpu, mem or trace", kind)
	}
	if len(ops) != 1 {
		return nil, errors.New("a profile is of one operation: -only NAME; -list names them")
	}
	if out == "" {
		out = "roost." + kind + "." + strings.ReplaceAll(ops[0].name, "/", "-")
	}
	out, err := filepath.Abs(out)
	return &profile{kind: kind, out: out}, err
}

// prepare makes a directory for the server to write to, and gives what tells it.
func (p *profile) prepare(dir string) (env []string, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	p.raw = filepath.Join(dir, p.kind)
	return []string{"ROOST_PROFILE=" + p.kind + ":" + p.raw}, neighbour.Own(dir)
}

// config lets a confined server write the profile. Of a nil profile it is empty.
func (p *profile) config() string {
	if p == nil {
		return ""
	}
	return fmt.Sprintf("[isolation]\nwrite = [%q]\n", filepath.Dir(p.raw))
}

// begin is called when the operation has been prepared. A nil profile does nothing.
func (p *profile) begin(r *run) error {
	if p == nil {
		return nil
	}
	return syscall.Kill(r.servers[0].pid(), syscall.SIGUSR1)
}

// end waits until the server has written it, and takes it.
func (p *profile) end(r *run) error {
	if p == nil {
		return nil
	}
	if err := syscall.Kill(r.servers[0].pid(), syscall.SIGUSR2); err != nil {
		return err
	}
	for range 1000 {
		if _, err := os.Stat(p.raw); err == nil {
			b, err := os.ReadFile(p.raw)
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "wrote %s\n", p.out)
			return os.WriteFile(p.out, b, 0o644)
		}
		if err := sleep(r.ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("the server wrote no profile; it says:\n%s", r.servers[0].log())
}
