package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Tokens checks the bearer tokens (RFC 6750) of one issuer. Safe for concurrent use.
type Tokens interface {
	// Verify says whom a token names. say, when not nil, is told of each step, for an
	// admin. The error is a *TokenError, or that of ctx.
	Verify(ctx context.Context, token string, say func(format string, args ...any)) (Token, error)

	// Hint is what a client is told that has no token, or one that does not do.
	Hint() TokenHint

	Close() error
}

// Token is what is known of a token that counts.
type Token struct {
	Login   string    // whom it names
	Expires time.Time // zero: the issuer has not said
}

// TokenHint is what RFC 7628 section 3.2.2 tells a client; "" is not told.
type TokenHint struct {
	Scope         string // one that the service needs
	Configuration string // URL of the issuer's OpenID Connect configuration
}

// TokenError is why a token does not count. It says nothing of the token that would help
// who reads it to log in.
type TokenError struct {
	Kind   TokenFailure
	Claim  string // that does not do, "aud"; "" for the token as a whole
	Reason string // for the log
}

// TokenFailure says what is to be done about a token that does not count.
type TokenFailure int

const (
	TokenInvalid     TokenFailure = iota // anybody could have made it, or it is for something else
	TokenExpired                         // the issuer made it, and its time is over
	TokenScope                           // it is good, but not for mail
	TokenUnavailable                     // it cannot be checked now
)

func (e *TokenError) Error() string {
	if e.Claim == "" {
		return "token: " + e.Reason
	}
	return "token: claim " + e.Claim + ": " + e.Reason
}

// refusal is how a login by the token ends.
func (e *TokenError) refusal() *Refusal {
	switch e.Kind {
	case TokenExpired:
		return &Refusal{Err: ErrExpired, Reason: e.Error()}
	case TokenUnavailable:
		return &Refusal{Err: ErrUnavailable, Text: "Tokens cannot be checked now, try again later", Reason: e.Error()}
	}
	return &Refusal{Err: ErrDenied, Reason: e.Error()}
}

// tokenLogin decides on a login by token, in which the client says whom it wants to be; ""
// is whom the token names. bad is set where the token itself does not do.
func (a *Auth) tokenLogin(ctx context.Context, token, claimed string, at Attempt) (d decision, bad *TokenError, err error) {
	d = decision{login: claimed}
	out, err := a.cache.verify(ctx, a.cache.mac("", token, "bearer"), func() (outcome, error) {
		tok, err := a.opt.Tokens.Verify(ctx, token, nil)
		var bad *TokenError
		if errors.As(err, &bad) {
			return outcome{bad: bad}, nil
		}
		return outcome{verdict: Right, token: &tok}, err
	})
	if err != nil {
		return d, nil, err
	}
	if out.bad != nil {
		d.refusal = out.bad.refusal()
		return d, out.bad, nil
	}
	if d, err = a.tokenUser(ctx, out.token, at); err != nil || d.refusal != nil {
		return d, nil, err
	}
	// Here and not behind the attempt: who has a token of their own proves nothing of
	// whom they claim to be.
	if a.mayAct(d.user, claimed, claimed) != nil {
		d.refusal = &Refusal{Err: ErrUnauthorized, Reason: fmt.Sprintf("the token is of %.64q, and the client wants to be %.64q", out.token.Login, claimed)}
		return d, nil, nil
	}
	d.user.Proof = a.tokenProof(out.token)
	d.user.Proof.Service = at.Protocol
	return d, nil, nil
}

// tokenUser decides on whom a good token names.
func (a *Auth) tokenUser(ctx context.Context, tok *Token, at Attempt) (decision, error) {
	d, err := a.vouched(ctx, tok.Login, at)
	if d.unknown && a.admits(d.login) {
		d.refusal = nil
		d.user = User{Name: d.login, Login: d.login}
	} else if d.unknown {
		d.deny("unknown user %.64q, whom the token names", tok.Login)
	}
	return d, err
}

// admits reports whether the issuer alone decides on a login.
func (a *Auth) admits(login string) bool {
	if slices.Contains(a.opt.TokenDomains, "*") {
		return true
	}
	_, domain, ok := strings.Cut(login, "@")
	return ok && slices.ContainsFunc(a.opt.TokenDomains, func(d string) bool { return strings.EqualFold(d, domain) })
}

// tokenProof is that of a session which a token begins.
func (a *Auth) tokenProof(tok *Token) Proof {
	p := Proof{Token: true}
	if a.opt.TokenOutlive < 0 {
		return p
	}
	from := tok.Expires
	if from.IsZero() {
		from = time.Now()
	}
	p.Ends = from.Add(a.opt.TokenOutlive).Unix()
	return p
}

// ExplainToken says step by step what becomes of a login by token, for an admin. claimed is
// whom the client asks for, "" for nobody. Nothing is counted. The User is that of a login
// that would succeed.
func (a *Auth) ExplainToken(ctx context.Context, token, claimed string, at Attempt) (steps []string, user User, ok bool) {
	say := func(format string, args ...any) { steps = append(steps, fmt.Sprintf(format, args...)) }
	refused := func(r *Refusal) ([]string, User, bool) {
		say("refused: %s", r.Reason)
		say("the client is told: %s", r.Error())
		return steps, User{}, false
	}
	if a.opt.Tokens == nil {
		return refused(&Refusal{Err: ErrMechanism, Reason: "no issuer of tokens is configured"})
	}
	if !isToken(token) {
		return refused(&Refusal{Err: ErrMalformed, Reason: fmt.Sprintf("it is no bearer token (RFC 6750 section 2.1) of at most %d bytes", maxToken)})
	}
	tok, err := a.opt.Tokens.Verify(ctx, token, say)
	var bad *TokenError
	if errors.As(err, &bad) {
		return refused(bad.refusal())
	}
	if err != nil {
		return refused(&Refusal{Err: ErrUnavailable, Reason: err.Error()})
	}
	say("the token is good, and names %q", tok.Login)
	d, err := a.tokenUser(ctx, &tok, at)
	switch {
	case err != nil:
		return refused(&Refusal{Err: ErrUnavailable, Reason: err.Error()})
	case d.refusal != nil:
		return refused(d.refusal)
	case d.unknown:
		say("no source has the user, and the issuer alone decides on it")
	default:
		say("the user is known")
	}
	if a.mayAct(d.user, claimed, claimed) != nil {
		return refused(&Refusal{Err: ErrUnauthorized, Reason: fmt.Sprintf("the client wants to be %q, whom the token does not name", claimed)})
	}
	if p := a.tokenProof(&tok); p.Ends == 0 {
		say("the session ends when the client wants")
	} else {
		say("the session ends %s at the latest", time.Unix(p.Ends, 0).UTC().Format(time.RFC3339))
	}
	return steps, d.user, true
}
