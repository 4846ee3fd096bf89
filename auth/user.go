package auth

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net/netip"
)

// User is who logged in, as the password file describes them. In Home and Fields the
// variables of Dovecot (%u, %n, %d, ...) are replaced.
type User struct {
	Name  string // whose mail; another than Login when the entry has user=
	Login string // the name that gave the password, folded as the file's keys are

	Home string // "" when the file names none

	// Mail is a mail location in Dovecot's words, "maildir:~/Maildir", as it is written:
	// with variables, which stand for Name. "" for none.
	Mail string

	UID, GID       uint32
	HasUID, HasGID bool // the file names them

	// Proof is what let them in; of use to Auth.Stands.
	Proof Proof

	Groups        []string // for access rights
	QuotaBytes    int64    // 0: none named
	QuotaMessages int64    // 0: none named

	// Ticket stands for a login that another process keeps: server/workers. "" else.
	Ticket string

	// Fields are the extra fields of the entry, by name; a field without value is "".
	Fields map[string]string
}

// Attempt is what is known of a connection that wants to log in.
type Attempt struct {
	Addr netip.Addr // invalid for a connection that has none, a pipe

	// Secure: the transport is TLS, or one that the configuration trusts as much.
	Secure bool

	Protocol string // "imap", "smtp"; what %s stands for in a field
	Client   string // what the client calls itself; "" when it has not told

	// TLS is that of the connection, for what binds to it and for the client's
	// certificate; nil without.
	TLS *tls.ConnectionState

	// Exporter is what tls-exporter (RFC 9266) gives, where another process has the
	// connection and TLS is nil.
	Exporter []byte

	// EndPoints are the hashes of the server's certificates that channel binding by
	// tls-server-end-point may name (RFC 5929 section 4).
	EndPoints [][]byte
}

// What a caller decides on; a Refusal wraps one of them.
var (
	// ErrDenied is all that one without the right password learns.
	ErrDenied = errors.New("authentication failed")

	// ErrUnauthorized: the password is right, but the login asks to act for another
	// user and may not (RFC 5530 section 3, AUTHORIZATIONFAILED).
	ErrUnauthorized = errors.New("not authorized to act for this user")

	// ErrUnavailable: the password is right or could not be looked at, and there is no
	// login now; Refusal.Text may say more.
	ErrUnavailable = errors.New("login is not possible now")

	// ErrThrottled: too many passwords from this address were wrong. Whether this one
	// is was not looked at.
	ErrThrottled = errors.New("too many failed logins, try again later")

	// ErrMechanism: Start was asked for a mechanism that is not offered here.
	ErrMechanism = errors.New("mechanism is not available")

	// ErrExpired: the token is one that the issuer made, and its time is over. The client
	// gets another one; nobody has guessed.
	ErrExpired = errors.New("the token has expired")

	// ErrNoToken: the client has no token, and asks which one it should have.
	ErrNoToken = errors.New("a token is needed")

	// ErrMalformed: what the client sent is no message of its mechanism.
	ErrMalformed = errors.New("malformed response")
)

// Refusal is a login that did not happen.
type Refusal struct {
	Err    error  // one of the sentinels
	Text   string // may be shown to the client; "" for the sentinel's own words
	User   string // as the client sent it
	Reason string // for the log alone: it tells what a stranger must not learn
	Event  string // a stable name, for the log, where an admin should see it; "" for none

	// Repeated: the same was wrong a short time ago, as with a device that has an old password.
	Repeated bool

	// Disabled: not a fault that passes, but what was written of this user, who knows the
	// password.
	Disabled bool
}

// Guess reports whether somebody may have tried to guess a password: it was wrong and not
// a repetition, or was not looked at for what came before it.
func (r *Refusal) Guess() bool {
	return !r.Repeated && !errors.Is(r.Err, ErrUnavailable) && !errors.Is(r.Err, ErrExpired) && !errors.Is(r.Err, ErrNoToken) &&
		!errors.Is(r.Err, ErrMechanism)
}

// Error gives what may be shown.
func (r *Refusal) Error() string {
	if r.Text != "" {
		return r.Text
	}
	return r.Err.Error()
}

func (r *Refusal) Unwrap() error { return r.Err }

// LoggedAs gives the level and the stable name of the event with which a refusal is
// logged: "login_refused" is what may be guessing.
func (r *Refusal) LoggedAs() (slog.Level, string) {
	switch {
	case errors.Is(r, ErrExpired):
		return slog.LevelInfo, "token_expired"
	case errors.Is(r, ErrNoToken):
		return slog.LevelDebug, "token_wanted"
	}
	return slog.LevelWarn, "login_refused"
}
