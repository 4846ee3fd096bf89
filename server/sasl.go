package server

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"slices"

	"roost/auth"
	"roost/server/wire"
)

// login is LOGIN, RFC 9051 section 6.2.3.
func (d *door) login(ctx context.Context, tag string) (answer, error) {
	// Before the password is asked for: it may be a literal.
	if !d.passwords() {
		return privacyRequired, nil
	}
	if !d.gate.auth.Passwords(d.attempt()) {
		return answer{kind: "NO", text: "LOGIN is switched off here; CAPABILITY lists the mechanisms of AUTHENTICATE"}, nil
	}
	if err := d.lex.SP(); err != nil {
		return answer{}, err
	}
	name, err := d.lex.AString()
	if err != nil {
		return answer{}, err
	}
	if err := d.lex.SP(); err != nil {
		return answer{}, err
	}
	password, err := d.lex.AString()
	if err != nil {
		return answer{}, err
	}
	if err := d.lex.End(); err != nil {
		return answer{}, err
	}
	user, err := d.gate.auth.Login(ctx, name, password, d.attempt())
	if err != nil {
		return d.refused("LOGIN", err)
	}
	d.entered = &entry{user: user, tag: tag, mech: "LOGIN"}
	return answer{}, nil
}

var privacyRequired = answer{kind: "NO", code: "PRIVACYREQUIRED", text: "Passwords are not taken in the clear; use STARTTLS or the TLS port"}

func (d *door) attempt() auth.Attempt {
	at := auth.Attempt{Addr: d.addr, Secure: d.passwords(), Protocol: "imap", Client: d.client}
	if c, ok := d.conn.(*tls.Conn); ok {
		state := c.ConnectionState()
		at.TLS = &state
		if d.gate.endPoints != nil {
			at.EndPoints = d.gate.endPoints()
		}
	}
	return at
}

// authenticate is AUTHENTICATE, RFC 9051 section 6.2.2, with the initial response of
// RFC 4959.
func (d *door) authenticate(ctx context.Context, tag string) (answer, error) {
	d.limit(d.limits.AuthLine)
	if err := d.lex.SP(); err != nil {
		return answer{}, err
	}
	mech, err := d.lex.Keyword()
	if err != nil {
		return answer{}, err
	}
	if !d.passwords() {
		return privacyRequired, nil
	}
	ex, err := d.gate.auth.Start(mech, d.attempt())
	if err != nil {
		return answer{kind: "NO", text: "Mechanism is not available; CAPABILITY lists those that are"}, nil
	}
	if c, ok := ex.(io.Closer); ok {
		defer c.Close()
	}
	var response []byte // nil: none yet
	if d.lex.Accept(' ') && !d.lex.AtEnd() {
		if response, err = d.response(true); err != nil {
			return d.cancelled(err)
		}
	}
	if err := d.lex.End(); err != nil {
		return answer{}, err
	}
	for {
		challenge, done, err := ex.Next(ctx, response)
		if err != nil {
			ans, err := d.refused(mech, err)
			if err == nil && challenge != nil {
				_, err = d.ask(challenge)
				if errors.Is(err, errCancelled) || errors.Is(err, errBase64) {
					err = nil // RFC 7628 section 4.3: that is a NO too
				}
			}
			return ans, err
		}
		if done {
			d.entered = &entry{user: ex.User(), tag: tag, mech: mech}
			return answer{}, nil
		}
		if response, err = d.ask(challenge); err != nil {
			return d.cancelled(err)
		}
	}
}

// ask sends a challenge and reads what the client answers.
func (d *door) ask(challenge []byte) ([]byte, error) {
	d.enc.Raw("+ ").Raw(base64.StdEncoding.EncodeToString(challenge)).CRLF()
	c, err := d.lex.Peek()
	if err != nil {
		return nil, err
	}
	response := []byte{}
	if c != '\r' && c != '\n' { // an empty line is an empty response, and Wait would pass over it
		// Each response is a line of its own and has the limit for itself.
		if err := d.lex.Wait(); err != nil {
			return nil, err
		}
		if response, err = d.response(false); err != nil {
			return nil, err
		}
	}
	return response, d.lex.End()
}

// Why an exchange ends before its mechanism has decided.
var (
	errCancelled = errors.New("authentication cancelled")
	errBase64    = errors.New("authentication cancelled: the response is not base64")
)

// cancelled answers an exchange that the client broke off, RFC 9051 section 6.2.2. A
// line that is no base64 does too: eM Client sends its next command instead of "*".
func (d *door) cancelled(err error) (answer, error) {
	switch {
	case errors.Is(err, errCancelled):
		d.bad-- // it is how the protocol wants it, and no fault
	case !errors.Is(err, errBase64):
		return answer{}, err
	}
	return bad("%v", err), nil
}

// response reads base64 up to the end of the line, decoding as it comes, so that it is
// never held twice. An initial one that is empty is "=" (RFC 4959 section 3).
func (d *door) response(initial bool) ([]byte, error) {
	out := []byte{}
	var group [4]byte
	var n, padded int
	first, err := d.lex.Peek()
	if err != nil {
		return nil, err
	}
	if first == '*' && !initial {
		d.lex.Accept('*')
		if d.lex.AtEnd() {
			return nil, errCancelled
		}
		return nil, errBase64
	}
	for length := 0; ; length++ {
		c, err := d.lex.Peek()
		if err != nil {
			return nil, err
		}
		if c == '\r' || c == '\n' || c == ' ' {
			switch {
			case n == 0:
				return out, nil
			case initial && n == 1 && length == 1 && group[0] == '=':
				return out, nil
			}
			return nil, errBase64
		}
		if !d.lex.Accept(c) {
			return nil, &wire.LimitError{Offset: d.lex.Offset(), What: "response", Limit: d.limits.AuthLine}
		}
		// After padding nothing may come but the end of the line.
		if padded > 0 {
			return nil, errBase64
		}
		group[n] = c
		if n++; n < len(group) {
			continue
		}
		n = 0
		var raw [3]byte
		k, err := base64.StdEncoding.Decode(raw[:], group[:])
		if err != nil {
			return nil, errBase64
		}
		padded = 3 - k
		if len(out)+k > cap(out) { // append would go beyond what there can be
			out = slices.Grow(out[:len(out):len(out)], min(max(len(out), 384), max(int(d.limits.AuthLine)*3/4-len(out), k)))
		}
		out = append(out, raw[:k]...)
	}
}

// refused answers a login that did not happen, and logs it: what fail2ban reads.
func (d *door) refused(method string, err error) (answer, error) {
	var r *auth.Refusal
	if !errors.As(err, &r) {
		return answer{}, err // of the context: the connection ends
	}
	d.gate.traces.claims(d.on, r.User)
	if errors.Is(r, auth.ErrMalformed) {
		return bad("%s", r.Error()), nil
	}
	reason := r.Reason
	if reason == "" {
		reason = r.Error()
	}
	level, event := r.LoggedAs()
	args := []any{"event", event, "user", r.User, "method", method, "reason", reason, "client", d.client}
	if !r.Guess() {
		args = append(args, "guess", false) // the last: fail2ban passes over it
	}
	d.log.Log(context.Background(), level, "login refused", args...)
	if r.Event != "" {
		d.log.Warn("login to look at", "event", r.Event, "user", r.User, "method", method, "reason", reason, "client", d.client)
	}
	ans := answer{kind: "NO", code: "UNAVAILABLE", text: r.Error()}
	switch {
	case errors.Is(r, auth.ErrDenied):
		ans.code, ans.text = "AUTHENTICATIONFAILED", "Authentication failed"
	case errors.Is(r, auth.ErrNoToken):
		ans.code = "AUTHENTICATIONFAILED"
	case errors.Is(r, auth.ErrExpired):
		ans.code = "EXPIRED" // RFC 5530 section 3
	case errors.Is(r, auth.ErrMechanism):
		ans.code = "CANNOT" // RFC 5530 section 3: not by this one, ever
	case errors.Is(r, auth.ErrUnauthorized):
		ans.code, ans.text = "AUTHORIZATIONFAILED", "Not authorized to act for this user"
	}
	return ans, nil
}
