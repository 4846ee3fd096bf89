package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"roost/auth"
	"roost/server/session"
	"roost/server/wire"
	"roost/store"
)

// A gate takes connections from their greeting to their login and hands them over. It
// serves the commands of RFC 9051 sections 6.1 and 6.2, and ID (RFC 2971).
//
// Until a login a connection holds one pooled buffer of 4 KiB, one command of at most
// line bytes or one SASL response of at most authLine, its decoded form, and what an
// encoder holds: below 64 KiB in all, beside TLS. Its time is limited as a whole,
// whatever trickles in.
type gate struct {
	hostname string
	product  []string // what ID answers, in pairs
	auth     Authenticator
	places   *places
	traces   *tracer // nil: nobody can look
	log      *slog.Logger

	// identity says where a user's mail is.
	identity func(auth.User) (store.Identity, error)

	clients []session.ClientRule
	trusted []netip.Prefix // whose ID tells the client's address
	crowd   *crowd
	guard   Guard // nil: none

	// endPoints are Certificates.EndPoints; nil: none.
	endPoints func() [][]byte

	runner Runner // of the session after login

	limits gateLimits
}

// gateLimits bound one connection before its login; the zero value of a field is its
// default.
type gateLimits struct {
	Line        int64         // bytes of a command; 8 KiB
	AuthLine    int64         // bytes of AUTHENTICATE and of a SASL response; 24 KiB
	Literal     int64         // bytes of one literal; 4 KiB
	Time        time.Duration // from greeting to login; 30 s
	BadCommands int           // until the connection ends; 3
}

func (l gateLimits) withDefaults() gateLimits {
	def := func(v *int64, n int64) {
		if *v <= 0 {
			*v = n
		}
	}
	def(&l.Line, 8<<10)
	def(&l.AuthLine, 24<<10)
	def(&l.Literal, 4<<10)
	if l.Time <= 0 {
		l.Time = 30 * time.Second
	}
	if l.BadCommands <= 0 {
		l.BadCommands = 3
	}
	return l
}

// arrival is a connection that was just accepted.
type arrival struct {
	now     *generation // what it lives under
	conn    net.Conn
	seat    *seat
	on      *presence
	id      string // of the session in the log
	addr    netip.Addr
	secure  bool       // conn is TLS, its handshake done, or the proxy's is
	via     netip.Addr // who speaks for addr by ID; invalid: nobody
	proxied origin     // what a PROXY header said

	// plaintext: passwords may be sent though there is no TLS, as the configuration says
	// of this socket.
	plaintext bool

	// tls is what STARTTLS begins with; nil: it is not offered.
	tls *tls.Config
}

// serve talks to a client until it is gone, and closes the connection. It returns when
// all is over. ctx ends it; a cause of type session.Goodbye is told to the client.
//
// Its frame lies under the session for as long as that lasts: what needs room is done in
// functions that have returned by then.
func (g *gate) serve(ctx context.Context, a *arrival) {
	d := g.door(a)
	defer d.close()
	for d.next(ctx) {
		out, err := g.runner.Run(ctx, d.visit.conn, d.visit.login)
		if !d.over(ctx, out, err) {
			return
		}
	}
}

// close ends the connection: the one that STARTTLS made, if it did.
func (d *door) close() {
	if d.visit != nil {
		d.visit.leave()
	}
	d.conn.Close()
}

// door greets a client.
func (g *gate) door(a *arrival) *door {
	d := &door{gate: g, arrival: a, limits: g.limits.withDefaults(), log: a.logger(g.log)}
	d.start(nil)
	d.enc.Raw("* OK [CAPABILITY ").Raw(d.capabilities()).Raw("] ").Raw(g.hostname).Raw(" Roost ready").CRLF()
	return d
}

// door is one connection at the gate. One goroutine.
type door struct {
	*arrival
	gate   *gate
	limits gateLimits
	log    *slog.Logger

	lex *wire.Lexer // nil during a session
	enc *wire.Encoder
	bad int // commands that were BAD so far

	client string // what ID told, for the log
	until  time.Time

	// entered is how a login that succeeded leaves the loop of commands.
	entered *entry

	visit *visit // the session; nil: nobody is logged in

	originRefused bool // it was logged
}

// entry is a login that succeeded, before the session began.
type entry struct {
	user auth.User
	tag  string
	mech string
}

// start makes lexer and encoder for the connection, with the bytes already read from it.
func (d *door) start(input []byte) {
	d.enc = wire.NewEncoder(d.conn)
	d.enc.Tap = &d.on.tap
	d.lex = wire.NewLexer(lean{d.conn}, input, wire.Limits{}, wire.Hooks{
		Tap:  &d.on.tap,
		Fill: d.enc.Flush,
		Invite: func() error {
			d.enc.Raw("+ Go on").CRLF()
			return d.enc.Flush()
		},
	})
	d.limit(d.limits.Line)
}

func (d *door) limit(command int64) {
	d.lex.SetLimits(wire.Limits{Command: command, Literal: d.limits.Literal, Swallow: 64 << 10})
}

// next brings the client to a login that is let in. It reports false when the connection
// is over.
func (d *door) next(ctx context.Context) bool {
	for {
		e := d.identify(ctx)
		if e == nil {
			return false
		}
		if d.visit = d.admit(e); d.visit != nil {
			break // else the client was told why, and may go on
		}
	}
	// What was answered before the login, where commands were pipelined, comes first.
	if err := d.enc.Flush(); err != nil {
		return false
	}
	d.lex, d.enc = nil, nil
	d.conn.SetDeadline(time.Time{})
	return true
}

// identify brings the client to a login; nil when the connection is over.
func (d *door) identify(ctx context.Context) *entry {
	d.until = time.Now().Add(d.limits.Time)
	d.conn.SetDeadline(d.until)
	conn := d.conn
	// Interrupts the read that waits for the client.
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	timed, cancel := context.WithDeadline(ctx, d.until)
	err := d.commands(timed)
	cancel()
	stop()
	e := d.entered
	d.entered = nil
	switch {
	case err != nil:
		d.end(ctx, err)
		return nil
	case e == nil:
		d.enc.Flush()
		d.log.Info("connection ended before login", "event", "leave", "client", d.client, "reason", "logout")
	}
	return e
}

// errBad ends a connection that sent too many bad commands.
var errBad = errors.New("too many bad commands")

// errInjected: commands behind STARTTLS, sent in the clear by whom they may.
var errInjected = errors.New("commands behind STARTTLS are not allowed")

// commands runs commands until a login or LOGOUT, or until the connection must end.
func (d *door) commands(ctx context.Context) error {
	for {
		if err := d.lex.Wait(); err != nil {
			return err
		}
		more, err := d.command(ctx)
		if err != nil || !more {
			return err
		}
	}
}

// end tells the client why it must go, where it may still listen, and the log.
func (d *door) end(ctx context.Context, err error) {
	reason, bye := err.Error(), ""
	var goodbye session.Goodbye
	switch {
	case ctx.Err() != nil:
		if bye = "Server is shutting down"; errors.As(context.Cause(ctx), &goodbye) {
			bye = string(goodbye)
		}
		reason = bye
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		bye = "Login took too long"
		reason = bye
	case errors.Is(err, wire.ErrSwallow):
		bye = "Command is too long"
	case errors.Is(err, errBad), errors.Is(err, errInjected):
		bye = reason
	case errors.Is(err, errAddressFull):
		bye = "[LIMIT] " + sentence(reason)
	case errors.Is(err, errProxy):
		d.log.Warn("connection refused", "event", "proxy_refused", "err", err)
		bye = "There is no proxy here"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe):
		reason = "client closed the connection"
	}
	if bye != "" && d.enc.Err() == nil {
		d.conn.SetWriteDeadline(time.Now().Add(time.Second))
		d.enc.Line("BYE " + sentence(bye))
		d.enc.Flush()
	}
	d.on.note("connection ended before login: %s", reason)
	d.log.Info("connection ended before login", "event", "leave", "client", d.client, "reason", reason)
}

// answer is how a command ends: one line with its tag.
type answer struct {
	kind string // "OK", "NO", "BAD"; "" when the answer was given or is the session's
	code string
	text string
}

func ok(text string) answer { return answer{kind: "OK", text: text} }

func bad(format string, args ...any) answer {
	return answer{kind: "BAD", text: fmt.Sprintf(format, args...)}
}

// command reads and runs one command. It reports whether more may follow.
func (d *door) command(ctx context.Context) (more bool, err error) {
	d.limit(d.limits.Line)
	tag, name, err := d.name()
	ans := answer{}
	more = true
	if err == nil {
		ans, more, err = d.dispatch(ctx, tag, name)
	}
	var syntax *wire.SyntaxError
	var limit *wire.LimitError
	switch {
	case errors.As(err, &syntax), errors.As(err, &limit):
		ans, err = bad("%v", err), nil
	case err != nil:
		return false, err
	}
	if d.entered != nil {
		return false, nil
	}
	if err := d.lex.Skip(); err != nil {
		return false, err
	}
	if ans.kind == "BAD" {
		if tag == "" {
			tag = "*"
		}
		d.bad++
	}
	if ans.kind != "" {
		d.enc.Raw(tag).SP().Raw(ans.kind).SP()
		if ans.code != "" {
			d.enc.Raw("[").Raw(ans.code).Raw("] ")
		}
		d.enc.Raw(ascii(ans.text)).CRLF()
	}
	if d.bad >= d.limits.BadCommands {
		return false, errBad
	}
	return more, d.enc.Err()
}

func (d *door) name() (tag, name string, err error) {
	if tag, err = d.lex.Tag(); err != nil {
		return "", "", err
	}
	if c, err := d.lex.Peek(); err == nil && c != ' ' && c != '\r' && c != '\n' {
		tag = "" // a part of what was meant as one, for which no client waits
	}
	if err = d.lex.SP(); err != nil {
		return tag, "", err
	}
	name, err = d.lex.Keyword()
	return tag, name, err
}

func (d *door) dispatch(ctx context.Context, tag, name string) (ans answer, more bool, err error) {
	switch name {
	case "CAPABILITY":
		if err := d.lex.End(); err != nil {
			return ans, true, err
		}
		d.enc.Line("CAPABILITY " + d.capabilities())
	case "NOOP":
		if err := d.lex.End(); err != nil {
			return ans, true, err
		}
	case "LOGOUT":
		if err := d.lex.End(); err != nil {
			return ans, true, err
		}
		d.enc.Line("BYE Logging out")
		return ok("LOGOUT completed"), false, nil
	case "ID":
		before := d.hiding()
		if err := d.readID(); err != nil {
			return ans, true, err
		}
		d.enc.Raw("* ID ")
		for i, s := range d.gate.product {
			d.enc.Raw(map[bool]string{true: "(", false: " "}[i == 0]).String(s)
		}
		if len(d.gate.product) == 0 {
			d.enc.Raw("NIL")
		} else {
			d.enc.Raw(")")
		}
		d.enc.CRLF()
		if before != nil || d.hiding() != nil {
			return answer{"OK", "CAPABILITY " + d.capabilities(), "ID completed"}, true, nil
		}
	case "STARTTLS":
		ans, err := d.startTLS(ctx, tag)
		return ans, true, err
	case "LOGIN":
		ans, err := d.login(ctx, tag)
		return ans, true, err
	case "AUTHENTICATE":
		ans, err := d.authenticate(ctx, tag)
		return ans, true, err
	default:
		// COMPRESS, ENABLE and SELECT among them: some clients send such too early, and
		// must be able to go on.
		if strings.EqualFold(tag, "PROXY") && d.bad == 0 {
			return ans, false, errProxy
		}
		return bad("%.40s is not known before login", name), true, nil
	}
	return ok(name + " completed"), true, nil
}

// passwords reports whether passwords may be sent now.
func (d *door) passwords() bool { return d.secure || d.plaintext }

func (d *door) capabilities() string {
	at := d.attempt()
	return session.BeforeLogin{
		StartTLS:      d.tls != nil && !d.secure,
		LoginDisabled: !d.gate.auth.Passwords(at),
		Mechanisms:    d.gate.auth.Mechanisms(at),
		Hiding:        d.hiding(),
	}.Capabilities()
}

// hiding is what is hidden from this client, whose user is not known.
func (d *door) hiding() *session.Hiding {
	return session.HidingFrom(d.gate.clients, session.Client{ID: d.client, Addr: d.addr, ServerName: d.serverName()})
}

// serverName is the one that was asked for in TLS; "" for none.
func (d *door) serverName() string {
	if c, ok := d.conn.(*tls.Conn); ok {
		return c.ConnectionState().ServerName
	}
	return d.proxied.serverName
}

// readID reads what a client says of itself (RFC 2971 section 3.1): NIL, or pairs.
func (d *door) readID() error {
	if err := d.lex.SP(); err != nil {
		return err
	}
	c, err := d.lex.Peek()
	if err != nil {
		return err
	}
	if c != '(' {
		if _, isString, err := d.lex.NString(); err != nil || isString {
			return errors.Join(err, d.lex.Unexpected("a list or NIL"))
		}
		return d.lex.End()
	}
	var known []string // keys and values in turn
	var told introduction
	key, n := "", 0
	err = d.lex.List(func() error {
		s, _, err := d.lex.NString()
		if n++; n%2 == 1 {
			key = strings.ToLower(s)
		} else if (key == "name" || key == "version") && len(known) < 4 {
			known = append(known, key, s[:min(len(s), 64)])
		} else {
			told.field(key, s)
		}
		return err
	})
	if err != nil {
		return err
	}
	d.client = session.ClientName(known)
	if err := d.lex.End(); err != nil {
		return err
	}
	return d.introduced(told)
}

// startTLS is RFC 9051 section 6.2.1. What came behind it in the clear may be of
// somebody between us and the client, and ends the connection.
func (d *door) startTLS(ctx context.Context, tag string) (answer, error) {
	if err := d.lex.End(); err != nil {
		return answer{}, err
	}
	switch {
	case d.secure:
		return bad("TLS is already in use"), nil
	case d.tls == nil:
		return answer{kind: "NO", text: "TLS is not configured here"}, nil
	case d.lex.Pending() > 0:
		return answer{}, errInjected
	}
	d.enc.Raw(tag).Raw(" OK Begin TLS now").CRLF()
	if err := d.enc.Flush(); err != nil {
		return answer{}, err
	}
	conn, err := handshake(ctx, d.conn, d.tls, d.limits.Time)
	if err != nil {
		return answer{}, fmt.Errorf("TLS handshake: %w", err)
	}
	d.conn, d.secure, d.client = conn, true, ""
	d.start(nil)
	return answer{}, nil
}

// resume sends what a session has left to be sent.
func (d *door) resume(output []byte) bool {
	if len(output) == 0 {
		return true
	}
	d.conn.SetWriteDeadline(time.Now().Add(d.limits.Time))
	_, err := d.conn.Write(output)
	return err == nil
}

// sentence is the text of an error as a client is shown it.
func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// ascii makes text fit for a response: one line of ASCII (RFC 9051 section 9, text).
func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
