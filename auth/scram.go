package auth

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1" // #nosec G505 -- SCRAM-SHA-1, in an HMAC
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/xdg-go/stringprep"
)

// SCRAM (RFC 5802, RFC 7677): the client proves that it knows the password, and the server
// that it has what was made of it, and neither sends it. The server needs it stored in the
// clear or as the keys of the same mechanism; no other hash will do, which is why the
// mechanisms are offered only where all users have such.

// scramIterations are those of new keys, and of those that are made from a password in the
// clear as it is used: RFC 7677 section 4 asks for at least 4096.
const (
	scramIterations    = 4096
	newScramIterations = 10_000
)

// scramHash gives the hash function of a mechanism or scheme by its name without -PLUS.
func scramHash(name string) func() hash.Hash {
	switch name {
	case "SCRAM-SHA-1":
		return sha1.New
	case "SCRAM-SHA-256":
		return sha256.New
	}
	return nil
}

// scramKeys are what the server knows of a password, RFC 5802 section 3.
type scramKeys struct {
	salt           []byte
	iterations     int
	stored, server []byte // StoredKey, ServerKey
}

// makeScramKeys computes them from a password as it is. It costs the iterations.
func makeScramKeys(newHash func() hash.Hash, password string, salt []byte, iterations int) (scramKeys, error) {
	salted, err := pbkdf2.Key(newHash, password, salt, iterations, newHash().Size())
	if err != nil {
		return scramKeys{}, err
	}
	return scramKeys{
		salt: salt, iterations: iterations,
		stored: sum(newHash, mac256(newHash, salted, "Client Key")),
		server: mac256(newHash, salted, "Server Key"),
	}, nil
}

// prepared is SASLprep (RFC 4013), as RFC 5802 section 2.2 wants it of a password; one
// that it forbids stays as it is.
func prepared(password string) string {
	if p, err := stringprep.SASLprep.Prepare(password); err == nil {
		return p
	}
	return password
}

func mac256(newHash func() hash.Hash, key []byte, text string) []byte {
	h := hmac.New(newHash, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// scramExchange is one exchange of a mechanism of the family.
type scramExchange struct {
	auth    *Auth
	at      Attempt
	mech    string
	newHash func() hash.Hash
	plus    bool // the mechanism's name ends in -PLUS

	fresh func() string // the server's half of the nonce; nil: random

	step    int // messages of the client so far
	gs2     string
	bound   [][]byte // what the client must have bound to, one of them; nil without
	authcid string
	authzid string
	bare    string // client-first-message-bare
	first   string // server-first-message
	nonce   string
	account *Account       // nil: nobody
	apps    []*AppPassword // of the account, that have its salt
	barred  bool           // the main password is
	login   string
	salt    []byte
	rounds  int
	why     string // the login is refused whatever comes
	user    User
}

func (s *scramExchange) User() User { return s.user }

func (s *scramExchange) Next(ctx context.Context, response []byte) ([]byte, bool, error) {
	if s.step == 0 && response == nil {
		return []byte{}, false, nil
	}
	s.step++
	if s.step < 3 && (!utf8.Valid(response) || bytes.IndexByte(response, 0) >= 0) {
		return nil, false, s.malformed("messages are UTF-8 without NUL")
	}
	switch s.step {
	case 1:
		return s.begin(ctx, string(response))
	case 2:
		return s.prove(ctx, string(response))
	}
	// The server's own proof was taken note of: an empty response (RFC 5802 section 5).
	if len(response) > 0 {
		return nil, false, s.malformed("nothing may follow the server's final message")
	}
	return nil, true, nil
}

func (s *scramExchange) malformed(text string) error {
	return &Refusal{Err: ErrMalformed, Text: s.mech + ": " + text, User: s.authcid}
}

// begin answers client-first-message, RFC 5802 section 7.
func (s *scramExchange) begin(ctx context.Context, msg string) ([]byte, bool, error) {
	flag, rest, ok1 := strings.Cut(msg, ",")
	authzid, bare, ok2 := strings.Cut(rest, ",")
	if !ok1 || !ok2 {
		return nil, false, s.malformed("the first message has no GS2 header")
	}
	s.gs2, s.bare = flag+","+authzid+",", bare
	if err := s.bind(flag); err != nil {
		return nil, false, err
	}
	var ok bool
	if authzid != "" {
		if s.authzid, ok = strings.CutPrefix(authzid, "a="); ok {
			s.authzid, ok = unescape(s.authzid)
		}
		if !ok || s.authzid == "" {
			return nil, false, s.malformed("the authorization identity is not well formed")
		}
	}
	if strings.HasPrefix(bare, "m=") {
		return nil, false, s.malformed("mandatory extensions are not supported") // section 5.1, m=
	}
	attrs := strings.Split(bare, ",")
	if len(attrs) < 2 || !strings.HasPrefix(attrs[0], "n=") || !strings.HasPrefix(attrs[1], "r=") {
		return nil, false, s.malformed("the first message has no n= and r=")
	}
	if s.authcid, ok = unescape(attrs[0][2:]); !ok || s.authcid == "" {
		return nil, false, s.malformed("the user name is not well formed")
	}
	nonce := attrs[1][2:]
	if nonce == "" || strings.ContainsFunc(nonce, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, false, s.malformed("the nonce is not printable")
	}
	if s.forMaster() {
		return nil, false, &Refusal{Err: ErrMechanism, Text: s.mech + " does not do for master users: log in by PLAIN or LOGIN", User: s.authcid}
	}
	if err := s.find(ctx); err != nil {
		return nil, false, err
	}
	if s.fresh == nil {
		s.fresh = func() string { return base64.RawStdEncoding.EncodeToString(random(18)) }
	}
	s.nonce = nonce + s.fresh()
	s.first = fmt.Sprintf("r=%s,s=%s,i=%d", s.nonce, base64.StdEncoding.EncodeToString(s.salt), s.rounds)
	return []byte(s.first), false, nil
}

// bind understands the first part of the GS2 header, RFC 5802 section 6.
func (s *scramExchange) bind(flag string) error {
	kind, bound := strings.CutPrefix(flag, "p=")
	switch {
	case bound && !s.plus:
		return s.malformed("channel binding belongs to " + s.mech + "-PLUS")
	case bound:
		if s.bound = s.at.bindings(kind); s.bound == nil {
			return s.malformed(fmt.Sprintf("channel binding %.40q is not possible here", kind))
		}
	case s.plus:
		return s.malformed("the mechanism wants channel binding")
	case flag == "y":
		// The client could bind and believes that we cannot. Where we said that we can,
		// somebody in between took it out of what we offered.
		if s.auth.offers(s.mech+"-PLUS", s.at) {
			return &Refusal{Err: ErrDenied, User: s.authcid, Reason: "the client was not told of " + s.mech + "-PLUS: is somebody in between?"}
		}
	case flag != "n":
		return s.malformed("the GS2 header begins with n, y or p=")
	}
	return nil
}

// forMaster reports whether the login is by a master user, in either form. It goes by the
// form alone: who is one does not show.
func (s *scramExchange) forMaster() bool {
	if s.auth.master == nil {
		return false
	}
	_, _, named := s.auth.splitMaster(s.authcid)
	return named || s.authzid != "" && s.auth.counted(s.authzid) != s.auth.counted(s.authcid)
}

// find looks the user up. One who is not there gets a salt that is the same each time, so
// that this answer does not tell (section 5.1, s=).
func (s *scramExchange) find(ctx context.Context) error {
	d := decision{login: s.authcid}
	var err error
	if s.login, err = s.auth.foldName(s.authcid); err != nil {
		s.login, s.why = s.authcid, err.Error()
	} else {
		var src Source
		if src, s.account, err = s.auth.find(ctx, s.login, s.at); err != nil {
			if err := d.unavailable(ctx, src, err); err != nil {
				return err
			}
			d.refusal.User = s.authcid
			return d.refusal
		}
	}
	dummy := s.auth.dummy()
	var keys *scramKeys
	switch {
	case s.why != "":
	case s.account == nil:
		s.why = "unknown user"
	case s.account.locked() && !s.account.NoPassword:
		s.why = s.account.at() + s.account.Refused
	default:
		keys = s.collect()
	}
	if s.why != "" || s.account.locked() {
		s.barred = true
	}
	if keys == nil {
		keys = dummy.scram
	}
	s.salt, s.rounds = nil, scramIterations
	if keys != nil {
		s.salt, s.rounds = keys.salt, keys.iterations
	}
	if s.salt == nil || s.why != "" {
		size := max(len(s.salt), saltSize)
		s.salt = mac256(sha256.New, dummy.seed[:], s.mech+" salt of "+s.login)[:min(size, sha256.Size)]
	}
	return nil
}

// collect gathers the passwords of the account that one salt does for, and gives keys with
// it; nil where the salt is free. Files change, so there may be less than was offered.
func (s *scramExchange) collect() (keys *scramKeys) {
	h := s.account.Hash
	apps := s.auth.appTable().of(s.login)
	s.barred = !h.scramAble(s.mech) || slices.Contains(s.auth.opt.AppsOnly, s.at.Protocol) && apps.usable(time.Now())
	if !s.barred {
		keys = h.scram
	}
	if apps != nil {
		for _, p := range apps.list {
			if p.hash.Scheme == s.mech && (keys == nil || keys.sameSalt(p.hash.scram)) {
				keys = p.hash.scram
				s.apps = append(s.apps, p)
			}
		}
	}
	if s.barred && len(s.apps) == 0 {
		s.why = "no stored password does for " + s.mech
	}
	return keys
}

// prove checks client-final-message and answers with the server's own proof.
func (s *scramExchange) prove(ctx context.Context, msg string) ([]byte, bool, error) {
	i := strings.LastIndex(msg, ",p=")
	if i < 0 {
		return nil, false, s.malformed("the final message has no proof")
	}
	without := msg[:i]
	proof, err := base64.StdEncoding.Strict().DecodeString(msg[i+3:])
	attrs := strings.Split(without, ",")
	if err != nil || len(attrs) < 2 || !strings.HasPrefix(attrs[0], "c=") || !strings.HasPrefix(attrs[1], "r=") {
		return nil, false, s.malformed("the final message is not c=, r=, p=")
	}
	if attrs[1][2:] != s.nonce {
		return nil, false, s.malformed("the nonce is another one")
	}
	cbind, err := base64.StdEncoding.Strict().DecodeString(attrs[0][2:])
	if err != nil {
		return nil, false, s.malformed("c= is not base64")
	}
	var final []byte
	s.user, err = s.auth.attempt(ctx, s.authcid, s.at, msg, func() (d decision, err error) {
		d.login = s.login
		var keys scramKeys
		if err := s.auth.pool.do(ctx, s.at.Addr, func() { keys = s.keys() }); err != nil {
			return d, err
		}
		text := s.bare + "," + s.first + "," + without
		right := s.proves(keys.stored, proof, text) && !s.barred
		server := keys.server
		var app *AppPassword
		for _, p := range s.apps { // all of them, so that it takes one time
			if s.proves(p.hash.scram.stored, proof, text) && (app == nil || p.State(time.Now()) == "active") {
				app, server = p, p.hash.scram.server
			}
		}
		bound := s.bound == nil && same(cbind, []byte(s.gs2))
		for _, b := range s.bound {
			bound = same(cbind, append([]byte(s.gs2), b...)) || bound
		}
		switch {
		case s.why != "":
			d.deny("%s", s.why)
		case !right && app == nil:
			d.deny("wrong password")
		case !bound:
			d.deny("the channel binding is of another connection: is somebody in between?")
		default:
			if app != nil {
				if d.refusal = app.refuses(time.Now(), s.at); d.refusal != nil {
					return d, nil
				}
				s.account.app = app
			}
			if err := s.account.Rules.apply(ctx, &d, s.at); err != nil || d.refusal != nil {
				return d, err
			}
			d.user = s.account.proved()
			final = []byte("v=" + base64.StdEncoding.EncodeToString(mac256(s.newHash, server, text)))
		}
		return d, nil
	})
	if err == nil {
		err = s.auth.mayAct(s.user, s.authcid, s.authzid)
	}
	return final, false, err
}

// proves reports whether a proof is that of the password behind a StoredKey.
func (s *scramExchange) proves(stored, proof []byte, text string) bool {
	client := mac256(s.newHash, stored, text)
	whole := len(proof) == len(client)
	for i := range min(len(proof), len(client)) {
		client[i] ^= proof[i] // ClientKey
	}
	return same(sum(s.newHash, client), stored) && whole
}

// keys gives the keys of the main password, or those of nobody at the same cost.
func (s *scramExchange) keys() scramKeys {
	h := s.auth.dummy()
	if !s.barred {
		h = s.account.Hash
	}
	if h.scram != nil {
		return *h.scram
	}
	keys, err := makeScramKeys(s.newHash, prepared(h.clear), s.salt, s.rounds)
	if err != nil { // only for lengths that are none of these
		s.barred = true
		size := s.newHash().Size()
		return scramKeys{stored: make([]byte, size), server: make([]byte, size)}
	}
	return keys
}

// unescape reads a saslname, RFC 5802 section 5.1.
func unescape(name string) (string, bool) {
	rest := strings.NewReplacer("=2C", "", "=3D", "").Replace(name)
	return strings.NewReplacer("=2C", ",", "=3D", "=").Replace(name), !strings.Contains(rest, "=")
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails, says crypto/rand
	return b
}

// bindings gives what a client may bind to by one kind of channel binding; nil where
// there is none. tls-exporter (RFC 9266) and tls-server-end-point (RFC 5929 section 4);
// tls-unique is not offered, for TLS 1.3 has none.
func (at Attempt) bindings(kind string) [][]byte {
	switch kind {
	case "tls-exporter":
		if b := at.ExporterValue(); b != nil {
			return [][]byte{b}
		}
	case "tls-server-end-point":
		return at.EndPoints
	}
	return nil
}

// ExporterValue is what both ends of the TLS connection and nobody else can know; nil
// without TLS, and in TLS 1.2 without the extended master secret.
func (at Attempt) ExporterValue() []byte {
	if at.TLS == nil {
		return at.Exporter
	}
	b, err := at.TLS.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	if err != nil {
		return nil
	}
	return b
}
