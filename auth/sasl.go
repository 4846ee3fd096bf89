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
// over bytes; the protocol around it encodes them. One goroutine at a time.
type Exchange interface {
	// Next takes what the client sent and gives the next challenge, or with done the
	// end of it. A nil response is for the first call only and says that there was no
	// initial response; an empty one was sent. Errors are those of Auth.Login and
	// ErrMalformed; none may follow.
	Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error)

	// User is who logged in, once Next was done.
	User() User
}

// mechanisms in the order in which they are offered. Both send the password itself.
var mechanisms = []string{"PLAIN", "LOGIN"}

// Mechanisms lists what Start takes; none where passwords would travel in the clear.
func (a *Auth) Mechanisms(secure bool) []string {
	if !secure {
		return nil
	}
	return slices.Clone(mechanisms)
}

// Start begins an exchange. ErrMechanism for a name that Mechanisms does not list;
// names ignore case.
func (a *Auth) Start(mech string, at Attempt) (Exchange, error) {
	mech = strings.ToUpper(mech)
	if !slices.Contains(a.Mechanisms(at.Secure), mech) {
		return nil, fmt.Errorf("%w: %.20q", ErrMechanism, mech)
	}
	if mech == "PLAIN" {
		return &plain{auth: a, at: at}, nil
	}
	return &login{auth: a, at: at}, nil
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
	user, err := p.auth.Login(ctx, authcid, password, p.at)
	if err != nil {
		return nil, false, err
	}
	// Only after the password was right: RFC 5530 section 3, AUTHORIZATIONFAILED.
	if authzid != "" {
		if name, err := p.auth.foldName(authzid); err != nil || name != user.Login && name != user.Name {
			return nil, false, &Refusal{Err: ErrUnauthorized, User: authcid, Reason: fmt.Sprintf("wants to act for %.64q", authzid)}
		}
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
