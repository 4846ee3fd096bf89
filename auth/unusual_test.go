package auth

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// told gathers what is unusual.
type told struct {
	mu   sync.Mutex
	list []string
}

func (l *told) note(u Unusual) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, fmt.Sprint(u.Event, " ", u.User, " ", u.Addr, ": ", u.Detail))
}

func (l *told) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := strings.Join(l.list, "\n")
	l.list = nil
	return s
}

func TestUnusual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := throttled(t, ThrottleOptions{})
		var l told
		a.OnUnusual(l.note)
		login := func(addr, want string) {
			t.Helper()
			if _, err := try(t, a, "Ann", "secret", addr); err != nil {
				t.Fatal(err)
			}
			if got := l.take(); got != want {
				t.Errorf("%s: %q, want %q", addr, got, want)
			}
		}
		login("192.0.2.7", "") // the first of all is nothing new
		login("192.0.2.99", "")
		login("198.51.100.1", "new_network ann 198.51.100.1: the first login of ann from 198.51.100.0/24")
		login("198.51.100.1", "")
		login("2001:db8:1:2::3", "new_network ann 2001:db8:1:2::3: the first login of ann from 2001:db8:1::/48")
		time.Sleep(familiarFor)
		login("192.0.2.7", "new_network ann 192.0.2.7: the first login of ann from 192.0.2.0/24")

		for i := range manyUsers + 2 {
			fails(t, a, fmt.Sprint("user", i), "203.0.113.9", 1)
		}
		if got := l.take(); got != "many_users  203.0.113.9: 203.0.113.9 failed to log in as 10 users" {
			t.Errorf("many: %q", got)
		}
		fails(t, a, "ann", "203.0.114.1", 10)
		if got := l.take(); !strings.HasPrefix(got, "login_locked ann 203.0.114.1: user ann from 203.0.114.1 is locked until ") {
			t.Errorf("locked: %q", got)
		}
	})
}
