package server

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"roost/auth"
	"roost/server/control"
	"roost/server/session"
	"roost/server/trace"
	"roost/server/wire"
)

// registry knows the connections that are open: to cut them off, and to tell who is on.
// The limits are counted in places. The zero value is empty.
type registry struct {
	mu  sync.Mutex // guards all; a map operation at a time
	all map[string]*presence
}

// presence is one connection, from its first byte to its last.
type presence struct {
	id        string // of the session in the log; unique among those that are open
	conn      net.Conn
	connected time.Time
	leave     func(session.Goodbye) // asks the connection to end
	tap       wire.Tap

	heard   atomic.Int64 // unix nanoseconds of when the client said something last
	in, out atomic.Int64 // bytes since the login

	mu     sync.Mutex // guards all below; a leaf
	addr   string     // of the client
	proxy  string     // that speaks for it; "" for none
	ptls   string     // between client and proxy
	user   string     // "" before login
	login  string
	by     auth.Proof
	ended  bool // it was told that by does not hold any more
	since  time.Time
	tls    string
	client string
	doing  session.Activity

	mask   *trace.Mask // while the tap is set
	traces []*tracing
	held   []control.Line // said while it is not known by whom
}

// add makes a connection known, under an id of its own.
func (r *registry) add(p *presence) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[string]*presence{}
	}
	for p.id == "" || r.all[p.id] != nil {
		p.id = fmt.Sprintf("%08x", rand.Uint32()) // #nosec G404 -- a name for roost kick, no secret
	}
	r.all[p.id] = p
}

func (r *registry) remove(p *presence) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, p.id)
}

// find gives the connection of an id, or nil.
func (r *registry) find(id string) *presence {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all[id]
}

// list gives all connections, in no order.
func (r *registry) list() []*presence {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*presence, 0, len(r.all))
	for _, p := range r.all {
		out = append(out, p)
	}
	return out
}

// closeAll closes the sockets that are left, and counts them. Whoever serves them
// finds out at the next read or write.
func (r *registry) closeAll() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.all {
		p.conn.Close()
	}
	return len(r.all)
}

// entered notes who logged in, over conn.
func (p *presence) entered(u auth.User, client string, conn net.Conn) {
	now := time.Now()
	p.heard.Store(now.UnixNano())
	p.in.Store(0)
	p.out.Store(0)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = false
	p.user, p.login, p.by, p.client, p.since, p.tls, p.doing = u.Name, u.Login, u.Proof, client, now, "", session.Activity{}
	if c, ok := conn.(*tls.Conn); ok {
		p.tls = tls.VersionName(c.ConnectionState().Version)
	} else if p.ptls != "" {
		p.tls = p.ptls + " (proxy)"
	}
}

// moved notes that a proxy passes the connection on for another address.
func (p *presence) moved(addr, proxy netip.Addr, tls string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addr, p.proxy = addr.String(), proxy.String()
	if tls != "" {
		p.ptls = tls
	}
}

// proof is who is logged in and by what; false for nobody, and for who was told to go.
func (p *presence) proof() (auth.User, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return auth.User{Name: p.user, Login: p.login, Proof: p.by}, p.user != "" && !p.ended
}

// end notes that who is logged in was told to go.
func (p *presence) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
}

// left notes that nobody is logged in any more.
func (p *presence) left() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.user, p.login, p.since, p.doing = "", "", time.Time{}, session.Activity{}
}

// does notes what a session is doing.
func (p *presence) does(a session.Activity) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a.Client != "" {
		p.client = a.Client
	}
	p.doing = a
}

// isUser reports whether the user of a connection goes by a name.
func (p *presence) isUser(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.user != "" && (strings.EqualFold(p.user, name) || strings.EqualFold(p.login, name))
}

// describe tells of a connection.
func (p *presence) describe() control.Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := control.Session{
		ID: p.id, User: p.user, Addr: p.addr, Connected: p.connected, Proxy: p.proxy, State: "not logged in", Client: cut(p.client, 200),
	}
	if p.login != p.user {
		s.Login = p.login
	}
	if p.user == "" {
		return s
	}
	s.Since, s.TLS = p.since, p.tls
	s.Heard = time.Unix(0, p.heard.Load())
	s.In, s.Out = p.in.Load(), p.out.Load()
	s.Rules = p.doing.Rules
	s.Mailbox, s.ReadOnly = string(p.doing.Mailbox), p.doing.ReadOnly
	switch {
	case p.doing.Idle:
		s.State = "idle"
	case p.doing.Mailbox != "":
		s.State = "selected"
	default:
		s.State = "authenticated"
	}
	return s
}

// cut shortens what a client made long.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}

// heardConn is a connection that somebody is logged in on: it counts, and remembers
// when the client said something last.
type heardConn struct {
	net.Conn
	on *presence
}

func (c *heardConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.on.heard.Store(time.Now().UnixNano())
		c.on.in.Add(int64(n))
		thrift.stir()
	}
	return n, err
}

func (c *heardConn) Write(p []byte) (int, error) {
	var n int
	var err error
	if below := c.gathers(p); below != nil {
		n, err = below.writeGathered(c.Conn, p)
	} else {
		n, err = c.Conn.Write(p)
	}
	c.on.out.Add(int64(n))
	thrift.stir()
	return n, err
}
