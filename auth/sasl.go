package auth

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// An Exchange is one run of a SASL mechanism (RFC 4422 section 3), a state machine
// over bytes; the protocol around it encodes them. One goroutine at a time. One that is an
// io.Closer too is closed when no call will follow.
type Exchange interface {
	// Next takes what the client sent and gives the next challenge, or with done the
	// end of it. A nil response is for the first call only and says that there was no
	// initial response; an empty one was sent. Errors are those of Auth.Login, ErrMalformed,
	// ErrExpired and ErrNoToken; no call may follow. A challenge beside an error is sent
	// first: the client answers it, or cancels, and whatever it says the error is the end
	// (RFC 7628 section 3.2.3).
	Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error)

	// User is who logged in, once Next was done.
	User() User
}

// mechanism is one row of the table of mechanisms.
type mechanism struct {
	name string

	// usable reports whether all users can log in by it over such a connection: a client
	// picks the first that it knows and does not try another when that fails.
	usable func(o *offer) bool

	// startable reports whether it may be tried though it is not offered, so that the log
	// has a reason; nil: no.
	startable func(a *Auth, at Attempt) bool

	start func(a *Auth, at Attempt) Exchange
}

// mechanisms in the order in which they are offered: first those that do not send the
// password.
var mechanisms []mechanism

func init() { // not a literal: SCRAM asks the table what else is offered
	mechanisms = []mechanism{
		{"SCRAM-SHA-256-PLUS", scramUsable("SCRAM-SHA-256", true), nil, startScram("SCRAM-SHA-256", true)},
		{"SCRAM-SHA-256", scramUsable("SCRAM-SHA-256", false), nil, startScram("SCRAM-SHA-256", false)},
		{"SCRAM-SHA-1-PLUS", scramUsable("SCRAM-SHA-1", true), nil, startScram("SCRAM-SHA-1", true)},
		{"SCRAM-SHA-1", scramUsable("SCRAM-SHA-1", false), nil, startScram("SCRAM-SHA-1", false)},
		{"EXTERNAL", ofAuth((*Auth).externalUsable), (*Auth).certified, func(a *Auth, at Attempt) Exchange { return &external{auth: a, at: at} }},
		{"OAUTHBEARER", ofAuth((*Auth).tokens), nil, startOAuthBearer},
		{"XOAUTH2", ofAuth((*Auth).tokens), nil, startXOAuth2},
		{"PLAIN", ofAuth((*Auth).passwords), nil, func(a *Auth, at Attempt) Exchange { return &plain{auth: a, at: at} }},
		{"LOGIN", ofAuth((*Auth).passwords), nil, func(a *Auth, at Attempt) Exchange { return &login{auth: a, at: at} }},
	}
}

// AllMechanisms lists what there is, whatever is offered.
func AllMechanisms() (names []string) {
	for _, m := range mechanisms {
		names = append(names, m.name)
	}
	return names
}

// Mechanisms lists what Start takes for a connection; none where passwords would travel
// in the clear.
func (a *Auth) Mechanisms(at Attempt) (names []string) {
	o := &offer{auth: a, at: at}
	for _, m := range mechanisms {
		if a.mechanism(m.name, at) != nil && m.usable(o) {
			names = append(names, m.name)
		}
	}
	return names
}

// Passwords reports whether a connection may send a password outside of SASL, by LOGIN:
// where PLAIN or LOGIN is offered.
func (a *Auth) Passwords(at Attempt) bool { return a.offers("PLAIN", at) || a.offers("LOGIN", at) }

func (a *Auth) offers(name string, at Attempt) bool {
	m := a.mechanism(name, at)
	return m != nil && m.usable(&offer{auth: a, at: at})
}

// mechanism gives the row of a mechanism that the options allow on a connection, or nil.
func (a *Auth) mechanism(name string, at Attempt) *mechanism {
	if !at.Secure || a.opt.Mechanisms != nil && !slices.Contains(a.opt.Mechanisms, name) {
		return nil
	}
	i := slices.IndexFunc(mechanisms, func(m mechanism) bool { return m.name == name })
	if i < 0 {
		return nil
	}
	return &mechanisms[i]
}

// passwords: every source takes them.
func (a *Auth) passwords(Attempt) bool { return len(a.sources) > 0 }

func startScram(mech string, plus bool) func(*Auth, Attempt) Exchange {
	return func(a *Auth, at Attempt) Exchange {
		return &scramExchange{auth: a, at: at, mech: mech, newHash: scramHash(mech), plus: plus}
	}
}

// Start begins an exchange. ErrMechanism for a name that Mechanisms does not list;
// names ignore case.
func (a *Auth) Start(mech string, at Attempt) (Exchange, error) {
	m := a.mechanism(strings.ToUpper(mech), at)
	if m == nil || !m.usable(&offer{auth: a, at: at}) && (m.startable == nil || !m.startable(a, at)) {
		return nil, fmt.Errorf("%w: %.20q", ErrMechanism, mech)
	}
	return m.start(a, at), nil
}

// plain is RFC 4616.
type plain struct {
	auth *Auth
	at   Attempt
	user User
}

func (p *plain) Next(ctx context.Context, response []byte) ([]byte, bool, error) {
	if response == nil {
		return []byte{}, false, nil
	}
	// message = [authzid] NUL authcid NUL passwd, none of them with a NUL inside:
	// RFC 4616 section 2.
	parts := bytes.Split(response, []byte{0})
	if len(parts) != 3 || len(parts[1]) == 0 || !utf8.Valid(response) {
		return nil, false, &Refusal{Err: ErrMalformed, Text: "PLAIN wants authzid NUL authcid NUL password, in UTF-8"}
	}
	authzid, authcid, password := string(parts[0]), string(parts[1]), string(parts[2])
	// A master user says for whom either here or in the name.
	if authzid != "" && p.auth.isMaster(ctx, authcid) {
		authcid, authzid = authzid+p.auth.opt.MasterSeparator+authcid, ""
	}
	user, err := p.auth.Login(ctx, authcid, password, p.at)
	if err != nil {
		return nil, false, err
	}
	if err := p.auth.mayAct(user, authcid, authzid); err != nil {
		return nil, false, err
	}
	p.user = user
	return nil, true, nil
}

func (p *plain) User() User { return p.user }

// login is the mechanism of old Outlooks: two prompts that nobody reads, whose wording
// some clients still compare. It has no RFC.
type login struct {
	auth  *Auth
	at    Attempt
	asked bool // for the name
	named bool
	name  string
	user  User
}

func (l *login) Next(ctx context.Context, response []byte) ([]byte, bool, error) {
	switch {
	// An initial response is the name; "New Outlook" sends one. An empty one cannot be a
	// name and is taken for none.
	case !l.asked && len(response) == 0:
		l.asked = true
		return []byte("Username:"), false, nil
	case !l.named:
		l.asked, l.named = true, true
		l.name = string(response)
		return []byte("Password:"), false, nil
	}
	user, err := l.auth.Login(ctx, l.name, string(response), l.at)
	if err != nil {
		return nil, false, err
	}
	l.user = user
	return nil, true, nil
}

func (l *login) User() User { return l.user }
