package auth

import (
	"bytes"
	"slices"
	"sync"
	"time"
)

// scramUsable reports whether all users can log in by a mechanism: a client that picks it
// and fails does not try another one.
func scramUsable(mech string, plus bool) func(*Auth, Attempt) bool {
	return func(a *Auth, at Attempt) bool {
		if plus && at.bindings("tls-exporter") == nil && at.bindings("tls-server-end-point") == nil {
			return false
		}
		apps, barred := a.appTable(), slices.Contains(a.opt.AppsOnly, at.Protocol)
		some := false
		for _, src := range a.sources {
			f, ok := src.(*file)
			if !ok {
				return false
			}
			able := f.scram.ask(f.current(), apps, scramQuestion{mech, barred})
			if able == notAll {
				return false
			}
			some = some || able == all
		}
		return some
	}
}

// scramAnswers remembers what was found out of one version of a password file and of the
// app passwords. Safe for concurrent use.
type scramAnswers struct {
	mu    sync.Mutex // guards all below
	users *table
	apps  *appTable
	known map[scramQuestion]scramAnswer
}

type scramQuestion struct {
	mech   string
	barred bool // main passwords, for who has app passwords
}

// scramAnswer says how many of the users of a file can log in by SCRAM.
type scramAnswer int

const (
	nobody scramAnswer = iota // there is no user who can log in at all
	notAll
	all
)

func (s *scramAnswers) ask(t *table, apps *appTable, q scramQuestion) scramAnswer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || s.users != t || s.apps != apps {
		s.users, s.apps, s.known = t, apps, map[scramQuestion]scramAnswer{}
	}
	able, ok := s.known[q]
	if !ok {
		able = t.scramAble(apps, q)
		s.known[q] = able
	}
	return able
}

// scramAble says for whom each password that is good for a login is good for one by SCRAM.
func (t *table) scramAble(apps *appTable, q scramQuestion) scramAnswer {
	able := nobody
	for name, e := range t.entries {
		if e.refused != "" && !e.empty {
			continue
		}
		var keys *scramKeys // whose salt the user's others must have
		list := apps.of(name)
		if e.refused == "" && !e.hash.Locked && !(q.barred && list.usable(time.Now())) {
			if !e.hash.scramAble(q.mech) {
				return notAll
			}
			able, keys = all, e.hash.scram
		}
		if list == nil {
			continue
		}
		for _, p := range list.list {
			switch {
			case !p.Revoked.IsZero():
			case p.hash.Scheme != q.mech, keys != nil && !keys.sameSalt(p.hash.scram):
				return notAll
			default:
				able, keys = all, p.hash.scram
			}
		}
	}
	return able
}

func (k *scramKeys) sameSalt(other *scramKeys) bool {
	return k.iterations == other.iterations && bytes.Equal(k.salt, other.salt)
}
