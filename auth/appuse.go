package auth

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"
)

// AppUse is when an app password let somebody in last.
type AppUse struct {
	User    string     `json:"user"`
	App     string     `json:"app"`
	At      time.Time  `json:"at"`
	Service string     `json:"service"`
	Addr    netip.Addr `json:"addr"`
	Client  string     `json:"client,omitempty"` // as it calls itself
}

// appUses keeps the last use of each app password, in memory and from time to time in a
// file, a JSON object a line. What a crash loses of it is a minute.
type appUses struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex // guards all below
	uses   map[[2]string]AppUse
	timer  *time.Timer // of the next writing; nil: all is written
	failed bool        // it was logged
	closed bool
}

// useDelay is how long a use stays in memory only.
const useDelay = time.Minute

func openAppUses(path string, log *slog.Logger) *appUses {
	u := &appUses{path: path, log: log, uses: map[[2]string]AppUse{}}
	list, err := ReadAppUses(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("when app passwords were used is not known", "event", "app_uses", "path", path, "err", err)
	}
	for _, use := range list {
		u.uses[[2]string{use.User, use.App}] = use
	}
	return u
}

// ReadAppUses reads the file in which a server keeps the uses. Lines that cannot be read
// are passed over.
func ReadAppUses(path string) ([]AppUse, error) {
	b, _, err := readFile(path)
	if err != nil {
		return nil, err
	}
	var list []AppUse
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		var use AppUse
		if json.Unmarshal(lines.Bytes(), &use) == nil && use.User != "" {
			list = append(list, use)
		}
	}
	return list, lines.Err()
}

// note remembers that a user was let in by an app password.
func (u *appUses) note(user User, at Attempt) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.uses[[2]string{user.Login, user.Proof.App}] = AppUse{
		User: user.Login, App: user.Proof.App, At: time.Now().UTC().Truncate(time.Second),
		Service: at.Protocol, Addr: at.Addr.Unmap(), Client: at.Client[:min(len(at.Client), 200)],
	}
	if u.timer == nil && !u.closed {
		u.timer = time.AfterFunc(useDelay, func() { u.write() })
	}
}

func (u *appUses) write() error {
	u.mu.Lock()
	u.timer = nil
	list := slices.SortedFunc(maps.Values(u.uses), func(a, b AppUse) int {
		return strings.Compare(a.User+"\x00"+a.App, b.User+"\x00"+b.App)
	})
	u.mu.Unlock()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, use := range list {
		if err := enc.Encode(use); err != nil {
			return err
		}
	}
	err := renameio.WriteFile(u.path, b.Bytes(), 0o600)
	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil && !u.failed {
		u.log.Warn("when app passwords were used cannot be kept", "event", "app_uses", "path", u.path, "err", err)
	}
	u.failed = err != nil
	return err
}

// close writes what is only in memory.
func (u *appUses) close() error {
	u.mu.Lock()
	u.closed = true
	pending := u.timer != nil && u.timer.Stop()
	u.mu.Unlock()
	if pending {
		_ = u.write() // it logs
	}
	return nil
}
