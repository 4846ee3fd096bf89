package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// The file "throttle" in the state directory keeps what is counted across a restart. Text,
// one record a line, fields parted by tabs, times in seconds since 1970:
//
//	roost-throttle 1
//	failures <kind> "user" network count last due until locks
//	familiar "user" network last
//	sum <CRC-32C in hex of all lines before>
//
// Kinds are user, pair, address and network; the user is quoted as in Go, "" for none; a
// network that is none is "-". due is when the budget is whole again, until when the lock
// ends, 0 for never. No password and nothing that was made of one is in it.
//
// Who else reads it: nobody. A file whose sum is wrong, or which is of another version,
// is put aside as throttle.damaged, and counting begins anew. It is written as a whole
// beside the old one and renamed, seldom and never by a login; what the last seconds
// before a crash counted is lost with it.
const (
	stateName   = "throttle"
	stateHeader = "roost-throttle 1\n"
	stateEvery  = 10 * time.Second
	maxState    = 64 << 20 // bytes that are read
)

var kindNames = [kinds]string{"user", "pair", "address", "network"}

// sumLine is the last line of a file.
func sumLine(b []byte) string {
	return fmt.Sprintf("sum\t%08x\n", crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// marshal writes the state. It reports false where nothing has changed since the last time.
func (t *throttle) marshal(now time.Time) ([]byte, bool) {
	b := bytes.NewBufferString(stateHeader)
	unix := func(at time.Time) int64 {
		if at.IsZero() {
			return 0
		}
		return at.Unix()
	}
	t.mu.Lock()
	changed := t.changed
	t.changed = false
	for k := range t.subjects {
		for s, p := range t.subjects[k] {
			p.age(now)
			if p.failures == 0 && p.locks == 0 {
				continue
			}
			network := "-"
			if s.net.IsValid() {
				network = s.net.String()
			}
			fmt.Fprintf(b, "failures\t%s\t%q\t%s\t%d\t%d\t%d\t%d\t%d\n", kindNames[k], s.user, network, p.failures, p.last.Unix(), unix(p.due), unix(p.until), p.locks)
		}
	}
	t.mu.Unlock()
	f := t.familiar
	f.mu.Lock()
	changed = changed || f.changed
	f.changed = false
	for user, list := range f.users {
		for _, v := range list {
			if now.Sub(v.last) < familiarFor {
				fmt.Fprintf(b, "familiar\t%q\t%s\t%d\n", user, v.net, v.last.Unix())
			}
		}
	}
	f.mu.Unlock()
	b.WriteString(sumLine(b.Bytes()))
	return b.Bytes(), changed
}

// errState: the file is none of ours, or damaged.
var errState = errors.New("it is damaged")

// unmarshal takes the state from a file's bytes: all of it or nothing.
func (t *throttle) unmarshal(b []byte, now time.Time) error {
	i := bytes.LastIndexByte(bytes.TrimSuffix(b, []byte("\n")), '\n') + 1
	if string(b[i:]) != sumLine(b[:i]) {
		return fmt.Errorf("%w: the sum at its end is not that of its lines", errState)
	}
	text, ok := strings.CutPrefix(string(b[:i]), stateHeader)
	if !ok {
		return fmt.Errorf("%w: it does not begin with %q", errState, strings.TrimSpace(stateHeader))
	}
	var penalties []*penalty
	var homes []familiarOf
	number := 1
	for line := range strings.Lines(text) {
		number++
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		var err error
		switch {
		case fields[0] == "failures" && len(fields) == 9:
			var p *penalty
			p, err = parsePenalty(fields[1:], now, t.opt.LockMax)
			penalties = append(penalties, p)
		case fields[0] == "familiar" && len(fields) == 4:
			var h familiarOf
			h, err = parseFamiliar(fields[1:], now)
			homes = append(homes, h)
		default:
			err = errors.New("no record")
		}
		if err != nil {
			return fmt.Errorf("%w: line %d: %v", errState, number, err)
		}
	}
	t.mu.Lock()
	for _, p := range penalties {
		if m := t.subjects[p.subject.kind]; len(m) < maxPenalties {
			m[p.subject] = p
		}
	}
	t.mu.Unlock()
	t.familiar.mu.Lock()
	defer t.familiar.mu.Unlock()
	for _, h := range homes {
		t.familiar.addLocked(h.user, h.visited)
	}
	return nil
}

// parsePenalty reads the fields behind "failures". A clock that was set back must not make
// a lock longer.
func parsePenalty(f []string, now time.Time, longest time.Duration) (*penalty, error) {
	k := slices.Index(kindNames[:], f[0])
	user, err := strconv.Unquote(f[1])
	if k < 0 || err != nil {
		return nil, errors.Join(errors.New("no kind, or no user"), err)
	}
	p := &penalty{subject: subject{kind: kind(k), user: user}}
	if f[2] != "-" {
		if p.subject.net, err = netip.ParsePrefix(f[2]); err != nil {
			return nil, err
		}
	}
	var n [5]int64
	for i := range n {
		if n[i], err = strconv.ParseInt(f[3+i], 10, 64); err != nil || n[i] < 0 || n[i] > 1<<40 {
			return nil, fmt.Errorf("%q is no number", f[3+i])
		}
	}
	when := func(seconds int64, latest time.Duration) time.Time {
		if seconds == 0 {
			return time.Time{}
		}
		return earlier(time.Unix(seconds, 0), now.Add(latest))
	}
	p.failures, p.locks = int(min(n[0], 1<<20)), int(min(n[4], 1<<20))
	p.last, p.due, p.until = earlier(time.Unix(n[1], 0), now), when(n[2], time.Minute), when(n[3], longest)
	return p, nil
}

type familiarOf struct {
	user string
	visited
}

func parseFamiliar(f []string, now time.Time) (h familiarOf, err error) {
	var seconds int64
	if h.user, err = strconv.Unquote(f[0]); err == nil {
		if h.net, err = netip.ParsePrefix(f[1]); err == nil {
			seconds, err = strconv.ParseInt(f[2], 10, 64)
		}
	}
	h.last = earlier(time.Unix(seconds, 0), now)
	return h, err
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// OpenState reads what was counted before, and keeps it up to date in a directory until
// Close. A file that is damaged is put aside and logged. The error is that of the
// directory; then nothing is kept.
func (a *Auth) OpenState(dir string) error {
	path := filepath.Join(dir, stateName)
	b, err := os.ReadFile(path)
	if err == nil && len(b) > maxState {
		err = fmt.Errorf("%s: %w: it has %d bytes", path, errState, len(b))
	} else if err == nil {
		if err = a.throttle.unmarshal(b, time.Now()); err != nil {
			err = fmt.Errorf("%s: %w", path, err)
		}
	}
	switch {
	case errors.Is(err, errState):
		a.opt.Log.Error("what was counted of failed logins is lost", "event", "state_damaged", "path", path, "kept", path+".damaged", "err", err)
		if err := os.Rename(path, path+".damaged"); err != nil {
			return err
		}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := a.saveState(path, true); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	a.closeState = func() error {
		cancel()
		<-done
		return a.saveState(path, false)
	}
	go func() { // ends with ctx; joined in closeState
		defer close(done)
		failed := false
		for wait(ctx, stateEvery) == nil {
			err := a.saveState(path, false)
			if err != nil && !failed {
				a.opt.Log.Error("what is counted of failed logins cannot be kept", "event", "state_failed", "path", path, "err", err)
			}
			failed = err != nil
		}
	}()
	return nil
}

// saveState writes the file where something has changed, or always.
func (a *Auth) saveState(path string, always bool) error {
	b, changed := a.throttle.marshal(time.Now())
	if !changed && !always {
		return nil
	}
	err := renameio.WriteFile(path, b, 0o600)
	if err != nil {
		a.throttle.mu.Lock()
		a.throttle.changed = true // the next time tries again
		a.throttle.mu.Unlock()
	}
	return err
}
