package auth

import (
	"bytes"
	"slices"
	"sync"
	"time"
)

// offer is one look at what a connection can be offered. What costs a look at a file or at
// TLS is looked at once, for all mechanisms: it is done for each greeting.
type offer struct {
	auth *Auth
	at   Attempt

	looked bool
	files  []*file  // the sources; nil where one is no file
	tables []*table // their versions in force
	apps   *appTable

	asked, bound bool // whether it was looked whether the client can bind to TLS, and it can
}

func ofAuth(usable func(*Auth, Attempt) bool) func(*offer) bool {
	return func(o *offer) bool { return usable(o.auth, o.at) }
}

func (o *offer) look() {
	if o.looked {
		return
	}
	o.looked = true
	for _, src := range o.auth.sources {
		f, ok := src.(*file)
		if !ok {
			o.files = nil
			return
		}
		o.files, o.tables = append(o.files, f), append(o.tables, f.current())
	}
	o.apps = o.auth.appTable()
}

func (o *offer) bindable() bool {
	if !o.asked {
		o.asked, o.bound = true, o.at.bindings("tls-exporter") != nil || o.at.bindings("tls-server-end-point") != nil
	}
	return o.bound
}

// scramUsable reports whether all users can log in by a mechanism: a client that picks it
// and fails does not try another one.
func scramUsable(mech string, plus bool) func(*offer) bool {
	return func(o *offer) bool {
		if plus && !o.bindable() {
			return false
		}
		o.look()
		q := scramQuestion{mech, slices.Contains(o.auth.opt.AppsOnly, o.at.Protocol)}
		some := false
		for i, f := range o.files {
			able := f.scram.ask(o.tables[i], o.apps, q)
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
