package dovecot

import (
	"bufio"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"roost/auth"
	"roost/unixsocket"
)

// SourceOptions say whom a Source asks.
type SourceOptions struct {
	Socket  string        // path of the socket for clients: auth-client
	Userdb  string        // path of the socket that says where mail is: auth-userdb; "" for none
	Timeout time.Duration // for an answer; 0 is 10 s: Dovecot delays failures by 2
}

// Source asks the authentication server of a Dovecot. Safe for concurrent use.
//
// Each password goes there, of users whom the userdb does not have too: Dovecot answers
// all failures late, and who is not there must not be answered sooner.
type Source struct {
	opt    SourceOptions
	client link
	userdb link
}

// Open makes a source; it connects when it is asked.
func Open(opt SourceOptions) *Source {
	opt.Timeout = cmp.Or(opt.Timeout, 10*time.Second)
	s := &Source{opt: opt}
	s.client = link{path: opt.Socket, greet: greetClient}
	s.userdb = link{path: opt.Userdb, greet: greetMaster}
	return s
}

// Name names the socket.
func (s *Source) Name() string { return "Dovecot at " + s.opt.Socket }

// Dummy: there is none.
func (s *Source) Dummy() (auth.Hash, bool) { return auth.Hash{}, false }

// Reload has nothing to read.
func (s *Source) Reload() error { return nil }

// Close ends the connections.
func (s *Source) Close() error {
	s.client.close()
	s.userdb.close()
	return nil
}

// Find gives an account that is asked for its password. Whose it is, is known where there
// is a userdb.
func (s *Source) Find(ctx context.Context, login string, at auth.Attempt) (*auth.Account, error) {
	acc, known := &auth.Account{Version: "Dovecot"}, false
	if s.opt.Userdb != "" {
		fields, err := s.user(ctx, login, at)
		if err != nil {
			return nil, err
		}
		if known = fields != nil; known {
			acc.Notes = acc.Describe(login, fields, at)
		}
	}
	acc.Check = func(ctx context.Context, password string) (auth.Verdict, *auth.Account, error) {
		return s.check(ctx, login, password, at, known)
	}
	return acc, nil
}

// check asks for a password.
func (s *Source) check(ctx context.Context, login, password string, at auth.Attempt, known bool) (auth.Verdict, *auth.Account, error) {
	no := auth.Unknown
	if known {
		no = auth.Wrong
	}
	if strings.Contains(password, "\x00") {
		return no, nil, nil // it would end the password there
	}
	fields := []string{"AUTH", "", "PLAIN", param("service", cmp.Or(at.Protocol, "imap")), "nologin", "no-penalty"}
	if at.Addr.IsValid() {
		fields = append(fields, param("rip", at.Addr.Unmap().String()))
	}
	if at.Secure {
		fields = append(fields, "secured")
	}
	fields = append(fields, "resp="+base64.StdEncoding.EncodeToString([]byte("\x00"+login+"\x00"+password)))
	var verb string
	var got map[string]string
	err := s.ask(ctx, &s.client, fields, func(v string, fields []string) bool {
		verb, got = v, params(fields)
		return true
	})
	switch {
	case err != nil:
		return no, nil, err
	case verb == "FAIL":
		_, temp := got["temp"]
		_, disabled := got["user_disabled"]
		_, expired := got["pass_expired"]
		switch {
		case temp || got["code"] == "temp_fail":
			return no, nil, fmt.Errorf("it says: %.200q", cmp.Or(got["reason"], "temporary failure"))
		case disabled || got["code"] == "user_disabled":
			return auth.Wrong, &auth.Account{Refused: "Dovecot says: the user is disabled"}, nil
		case expired || got["code"] == "pass_expired":
			return auth.Wrong, &auth.Account{Refused: "Dovecot says: the password has expired"}, nil
		}
		return no, nil, nil
	case verb != "OK":
		return no, nil, fmt.Errorf("it answers a password with %.20q", verb)
	}
	name := cmp.Or(got["user"], login)
	all := map[string]string{}
	if s.opt.Userdb != "" {
		if all, err = s.user(ctx, name, at); err != nil {
			return no, nil, err
		}
		if all == nil {
			return no, nil, fmt.Errorf("its userdb does not have %.64q, whom it lets in", name)
		}
	}
	for key, value := range got {
		if key != "user" && key != "" {
			all[key] = literal(value)
		}
	}
	if name != login {
		all["user"] = literal(name)
	}
	acc := &auth.Account{}
	acc.Notes = acc.Describe(login, all, at)
	return auth.Right, acc, nil
}

// literal keeps % from being taken for a variable: Dovecot has put in what they stand for.
func literal(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// user asks the userdb, and gives its fields in the words of a password file; nil for one
// whom it does not have.
func (s *Source) user(ctx context.Context, name string, at auth.Attempt) (map[string]string, error) {
	var verb string
	var got []string
	err := s.ask(ctx, &s.userdb, []string{"USER", "", escaper.Replace(name), param("service", cmp.Or(at.Protocol, "imap"))}, func(v string, fields []string) bool {
		verb, got = v, fields
		return true
	})
	switch {
	case err != nil:
		return nil, err
	case verb == "NOTFOUND":
		return nil, nil
	case verb != "USER" || len(got) < 1:
		return nil, fmt.Errorf("its userdb answers %.20q %.200q", verb, params(got)["reason"])
	}
	all := map[string]string{}
	for key, value := range params(got[1:]) {
		all["userdb_"+key] = literal(value)
	}
	return all, nil
}

// Users lists the users of the userdb.
func (s *Source) Users(ctx context.Context) (names []string, err error) {
	if s.opt.Userdb == "" {
		return nil, auth.ErrUnlisted
	}
	var failed bool
	err = s.ask(ctx, &s.userdb, []string{"LIST", "", "service=imap"}, func(verb string, fields []string) bool {
		if verb == "LIST" && len(fields) == 1 && len(names) < 1_000_000 {
			names = append(names, unescaper.Replace(fields[0]))
			return false
		}
		failed = verb != "DONE" || len(fields) > 0
		return true
	})
	if err == nil && failed {
		err = auth.ErrUnlisted // not every userdb can
	}
	return names, err
}

// ask sends a request, whose second field is its number, and gives the lines that answer
// it to take until that reports the last one.
func (s *Source) ask(ctx context.Context, l *link, fields []string, take func(verb string, fields []string) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.opt.Timeout, fmt.Errorf("no answer within %v", s.opt.Timeout))
	defer cancel()
	for {
		c, fresh, err := l.connection(ctx)
		if err == nil {
			err = c.ask(ctx, fields, take)
		}
		// One that was open before may have been closed by a Dovecot that was restarted.
		if errors.Is(err, errLost) && !fresh {
			l.forget(c)
			continue
		}
		if err != nil && c != nil {
			l.forget(c)
		}
		return err
	}
}

// link is a connection that is made when it is needed.
type link struct {
	path  string
	greet func(*bufio.Reader) (hello string, err error)

	mu     sync.Mutex // guards all below, and is held while it connects
	now    *call      // nil: none
	closed bool
}

// connection gives the connection, and whether it is new.
func (l *link) connection(ctx context.Context) (*call, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, false, net.ErrClosed
	}
	if l.now != nil {
		return l.now, false, nil
	}
	if ctx.Err() != nil {
		return nil, false, context.Cause(ctx)
	}
	nc, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", l.path)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", l.path, unixsocket.Plain(err))
	}
	// Those who wait for the lock wait no longer than for this.
	nc.SetDeadline(time.Now().Add(2 * time.Second))
	r := bufio.NewReader(nc)
	hello, err := l.greet(r)
	if err == nil {
		_, err = nc.Write([]byte(hello))
	}
	if err != nil {
		nc.Close()
		return nil, false, fmt.Errorf("%s: %w", l.path, err)
	}
	nc.SetDeadline(time.Time{})
	l.now = &call{net: nc, pending: map[uint32]*question{}, lost: make(chan struct{}), write: make(chan struct{}, 1)}
	go l.now.read(r) // ends with the connection; joined in forget and close
	return l.now, true, nil
}

// forget closes a connection that is of no use.
func (l *link) forget(c *call) {
	l.mu.Lock()
	if l.now == c {
		l.now = nil
	}
	l.mu.Unlock()
	c.net.Close()
	<-c.lost
}

func (l *link) close() {
	l.mu.Lock()
	c := l.now
	l.now, l.closed = nil, true
	l.mu.Unlock()
	if c != nil {
		c.net.Close()
		<-c.lost
	}
}

// greetClient reads what the server says before a client does.
func greetClient(r *bufio.Reader) (string, error) {
	plain := false
	for range 1000 {
		text, err := readLine(r)
		if err != nil {
			return "", err
		}
		fields := strings.Split(text, "\t")
		switch {
		case fields[0] == "VERSION" && (len(fields) < 2 || fields[1] != "1"):
			return "", fmt.Errorf("it speaks another version: %.40q", text)
		case fields[0] == "MECH" && len(fields) > 1 && fields[1] == "PLAIN":
			plain = true
		case fields[0] == "DONE" && !plain:
			return "", errors.New("it does not take PLAIN: auth_mechanisms")
		case fields[0] == "DONE":
			// It has to be unique among the clients, and a process may have been one before.
			return line("VERSION", "1", "2") + line("CPID", strconv.FormatUint(uint64(rand.Uint32N(1<<31-1))+1, 10)), nil // #nosec G404 -- unique, not secret
		}
	}
	return "", errors.New("its greeting has no end")
}

// greetMaster does on the socket of the userdb.
func greetMaster(r *bufio.Reader) (string, error) {
	for range 100 {
		text, err := readLine(r)
		if err != nil {
			return "", err
		}
		fields := strings.Split(text, "\t")
		switch {
		case fields[0] == "VERSION" && (len(fields) < 2 || fields[1] != "1"):
			return "", fmt.Errorf("it speaks another version: %.40q", text)
		case fields[0] == "SPID":
			return line("VERSION", "1", "1"), nil
		case fields[0] == "MECH":
			return "", errors.New("it is a socket for clients, and not auth-userdb")
		}
	}
	return "", errors.New("its greeting has no end")
}

var errLost = errors.New("the connection ended")

// call is one connection. Questions are asked beside each other.
type call struct {
	net   net.Conn
	lost  chan struct{} // closed when nothing more will be read
	write chan struct{} // holds one: whoever has it writes to net

	mu      sync.Mutex // guards all below
	last    uint32
	pending map[uint32]*question
}

// question waits for its answer.
type question struct {
	take func(verb string, fields []string) bool
	done chan struct{} // closed when take had the last line
}

func (c *call) ask(ctx context.Context, fields []string, take func(verb string, fields []string) bool) error {
	q := &question{take, make(chan struct{})}
	c.mu.Lock()
	c.last++
	id := c.last
	c.pending[id] = q
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.pending, id)
		c.mu.Unlock()
	}()
	fields[1] = number(id)
	select {
	case c.write <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	deadline, _ := ctx.Deadline()
	c.net.SetWriteDeadline(deadline)
	_, err := c.net.Write([]byte(line(fields...)))
	<-c.write
	if err != nil {
		return errLost
	}
	select {
	case <-q.done:
		return nil
	case <-c.lost:
		select {
		case <-q.done:
			return nil
		default:
			return errLost
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// read gives each line to who asked for it.
func (c *call) read(r *bufio.Reader) {
	defer close(c.lost)
	defer c.net.Close()
	for {
		text, err := readLine(r)
		if err != nil {
			return
		}
		fields := strings.Split(text, "\t")
		if len(fields) < 2 {
			continue
		}
		id, err := parseID(fields[1])
		if err != nil {
			continue
		}
		c.mu.Lock()
		if q := c.pending[id]; q != nil && q.take(fields[0], fields[2:]) {
			delete(c.pending, id)
			close(q.done)
		}
		c.mu.Unlock()
	}
}
