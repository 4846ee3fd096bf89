// Package ldap has users who are in a directory: it searches for a user's entry, and then
// binds as the entry with the password, or takes the hash that is in it.
//
// Searches share one connection, that of the service; passwords are tried on others, a few
// of which are kept. Servers are tried in their order, beginning with the one that answered
// last. Nothing waits for longer than a few times the timeout, whatever a server does.
package ldap

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-ldap/ldap/v3"
	"golang.org/x/text/unicode/norm"

	"roost/auth"
)

// Options say where the directory is and what in it is a user.
type Options struct {
	URLs     []string // ldap://host, ldaps://host, ldapi:///path
	StartTLS bool     // on ldap:// connections
	CA       string   // PEM file of the authorities for TLS; "" for the system's

	BindDN       string // of the service; "" to search without a name
	PasswordFile string // holds the service's password, its first line

	Base       string
	Filter     string   // %u is the user, %n and %d the parts before and behind the @
	Password   string   // attribute that holds a hash; "" to bind as the user
	Attributes []string // attribute=field, in the words of a password file

	ListFilter    string // of all users; "" for none
	NameAttribute string // what a user is called in that list

	Timeout time.Duration // 0 is 5 s
	Log     *slog.Logger  // nil: slog.Default()
}

const maxBinds = 16 // connections on which passwords are tried at one time

// Source asks a directory. Safe for concurrent use.
type Source struct {
	opt    Options
	fields [][2]string // attribute, field
	tls    atomic.Pointer[tls.Config]
	good   atomic.Int32 // the server that answered last
	last   atomic.Pointer[auth.Hash]

	all    sync.Mutex      // held by who takes every connection there is
	search chan *ldap.Conn // holds one: the connection of the service, or nil
	binds  chan *ldap.Conn // connections to bind on, or nil
	down   []atomic.Bool   // servers of which it was logged
}

// Open makes a source; it connects when it is asked. Errors are of the options and of the
// files that they name.
func Open(opt Options) (*Source, error) {
	opt.Timeout = cmp.Or(opt.Timeout, 5*time.Second)
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	s := &Source{opt: opt, search: make(chan *ldap.Conn, 1), binds: make(chan *ldap.Conn, maxBinds), down: make([]atomic.Bool, len(opt.URLs))}
	s.search <- nil
	for range maxBinds {
		s.binds <- nil
	}
	for _, a := range opt.Attributes {
		attribute, field, ok := strings.Cut(a, "=")
		if !ok || attribute == "" || field == "" {
			return nil, fmt.Errorf("attributes: %q is not attribute=field", a)
		}
		s.fields = append(s.fields, [2]string{attribute, field})
	}
	if !strings.Contains(opt.Filter, "%u") && !strings.Contains(opt.Filter, "%n") {
		return nil, fmt.Errorf("filter %q finds the same entry for all users: it needs %%u or %%n", opt.Filter)
	}
	for _, f := range []string{opt.Filter, opt.ListFilter} {
		if f == "" {
			continue
		}
		if _, err := ldap.CompileFilter(expand(f, "user@example.org")); err != nil {
			return nil, fmt.Errorf("filter %q: %w", f, err)
		}
	}
	if _, err := ldap.ParseDN(opt.Base); err != nil {
		return nil, fmt.Errorf("base %q: %w", opt.Base, err)
	}
	if err := s.trust(); err != nil {
		return nil, err
	}
	if opt.PasswordFile != "" {
		if _, err := s.secret(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// trust reads the authorities.
func (s *Source) trust() error {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.opt.CA != "" {
		pem, err := os.ReadFile(s.opt.CA)
		if err != nil {
			return err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s has no certificate", s.opt.CA)
		}
	}
	s.tls.Store(c)
	return nil
}

// secret reads the service's password, which may change.
func (s *Source) secret() (string, error) {
	if s.opt.PasswordFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(s.opt.PasswordFile)
	if err != nil {
		return "", err
	}
	text, _, _ := strings.Cut(string(b), "\n")
	if text = strings.TrimSuffix(text, "\r"); text == "" {
		return "", fmt.Errorf("%s: the first line has no password", s.opt.PasswordFile)
	}
	return text, nil
}

// expand puts a user into a filter. What could mean something there is escaped.
func expand(filter, user string) string {
	local, domain, _ := strings.Cut(user, "@")
	return strings.NewReplacer("%%", "%", "%u", ldap.EscapeFilter(user), "%n", ldap.EscapeFilter(local), "%d", ldap.EscapeFilter(domain)).Replace(filter)
}

// Name names the first server.
func (s *Source) Name() string { return "directory " + s.opt.URLs[0] }

// Dummy is a hash like that which the directory gave last.
func (s *Source) Dummy() (auth.Hash, bool) {
	if h := s.last.Load(); h != nil {
		return *h, true
	}
	return auth.Hash{}, false
}

// Reload reads the authorities again, and lets go of the connections, so that the password
// is read again too.
func (s *Source) Reload() error {
	err := s.trust()
	s.letGo()
	return err
}

// Close ends the connections. No call may follow.
func (s *Source) Close() error {
	s.letGo()
	return nil
}

func (s *Source) letGo() {
	s.all.Lock()
	defer s.all.Unlock()
	for _, pool := range []chan *ldap.Conn{s.search, s.binds} {
		for range cap(pool) {
			if c := <-pool; c != nil { // whoever has it gives it back within the timeout
				c.Close()
			}
		}
		for range cap(pool) {
			pool <- nil
		}
	}
}

// Find searches for a user's entry.
func (s *Source) Find(ctx context.Context, login string, at auth.Attempt) (*auth.Account, error) {
	if login != canonical(login) {
		return nil, nil
	}
	attributes := []string{"1.1"} // none: RFC 4511 section 4.5.1.8
	for _, f := range s.fields {
		attributes = append(attributes, f[0])
	}
	if s.opt.Password != "" {
		attributes = append(attributes, s.opt.Password)
	}
	if len(attributes) > 1 {
		attributes = attributes[1:]
	}
	// Two show that there is more than one.
	found, err := s.entries(ctx, expand(s.opt.Filter, login), attributes, 2)
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0:
		return nil, nil
	case len(found) > 1:
		return &auth.Account{Refused: "the filter finds more than one entry", Hash: auth.Hash{Locked: true}}, nil
	}
	entry := found[0]
	fields := map[string]string{}
	version := "bind " + entry.DN
	for _, f := range s.fields {
		if values := entry.GetEqualFoldAttributeValues(f[0]); len(values) > 0 {
			value := strings.ReplaceAll(strings.Join(values, ","), "%", "%%") // no variables
			fields[f[1]] = value
			version += fmt.Sprintf("\n%q=%q", f[1], value)
		}
	}
	acc := &auth.Account{Where: entry.DN, Version: version}
	acc.Notes = acc.Describe(login, fields, at)
	if s.opt.Password == "" {
		acc.Check = func(ctx context.Context, password string) (auth.Verdict, *auth.Account, error) {
			v, err := s.bind(ctx, entry.DN, password)
			return v, nil, err
		}
		return acc, nil
	}
	values := entry.GetEqualFoldAttributeValues(s.opt.Password)
	acc.Hash = auth.Hash{Locked: true}
	if len(values) == 0 && acc.Refused == "" {
		acc.Refused, acc.NoPassword = "the entry has no "+s.opt.Password+", or the service may not read it", true
	}
	for _, value := range values {
		h, err := parseHash(value)
		if err != nil {
			if acc.Refused == "" {
				acc.Refused = err.Error()
			}
			continue
		}
		// Of several the first that can be read counts.
		acc.Hash, acc.Version = h, value+"\n"+version
		if !h.Locked {
			s.last.Store(&h)
		}
		break
	}
	if acc.Hash.Locked && acc.Refused == "" {
		acc.Refused = auth.DisabledUser
	}
	return acc, nil
}

// canonical is the one form of a name that is taken. To a directory blanks around and within
// a value, and forms of a character, are all one (RFC 4518 section 2); here each would be
// another user, with the same password, mail and a quota of its own, and failures counted
// apart.
func canonical(login string) string {
	return strings.Join(strings.Fields(norm.NFKC.String(login)), " ")
}

// parseHash reads a value of userPassword: RFC 4519 section 2.41 has it in the clear,
// servers write {SCHEME} before a hash.
func parseHash(value string) (auth.Hash, error) {
	if !strings.HasPrefix(value, "{") {
		return auth.ParseHash("{PLAIN}" + value)
	}
	if end := strings.IndexByte(value, '}'); end > 0 && strings.EqualFold(value[:end+1], "{ARGON2}") {
		value = value[end+1:] // OpenLDAP's word; what follows says which
	}
	return auth.ParseHash(value)
}

// Users lists all users.
func (s *Source) Users(ctx context.Context) (names []string, err error) {
	if s.opt.ListFilter == "" || s.opt.NameAttribute == "" {
		return nil, auth.ErrUnlisted
	}
	found, err := s.entries(ctx, s.opt.ListFilter, []string{s.opt.NameAttribute}, 0)
	for _, e := range found {
		names = append(names, e.GetEqualFoldAttributeValue(s.opt.NameAttribute))
	}
	return slices.DeleteFunc(names, func(n string) bool { return n == "" }), err
}

// entries searches; most is how many entries are wanted, 0 for all.
func (s *Source) entries(ctx context.Context, filter string, attributes []string, most int) (found []*ldap.Entry, err error) {
	err = s.with(ctx, s.search, true, func(c *ldap.Conn) error {
		r := ldap.NewSearchRequest(s.opt.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, most, int(s.opt.Timeout/time.Second)+1, false, filter, attributes, nil)
		var res *ldap.SearchResult
		var err error
		if most == 0 {
			res, err = c.SearchWithPaging(r, 500)
		} else {
			res, err = c.Search(r)
		}
		if ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) && most > 0 && res != nil && len(res.Entries) >= most {
			err = nil
		}
		if ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) {
			return fmt.Errorf("there is no entry %q to search in", s.opt.Base)
		}
		if err == nil {
			found = res.Entries
		}
		return err
	})
	return found, err
}

// bind tries a password.
func (s *Source) bind(ctx context.Context, dn, password string) (verdict auth.Verdict, err error) {
	if password == "" {
		return auth.Wrong, nil // RFC 4513 section 5.1.2: it would succeed, and prove nothing
	}
	err = s.with(ctx, s.binds, false, func(c *ldap.Conn) error {
		err := c.Bind(dn, password)
		switch {
		case err == nil:
			verdict = auth.Right
			return nil
		case ldap.IsErrorAnyOf(err, ldap.LDAPResultInvalidCredentials, ldap.LDAPResultInappropriateAuthentication,
			ldap.LDAPResultNoSuchObject, ldap.LDAPResultInvalidDNSyntax, ldap.LDAPResultInsufficientAccessRights, ldap.LDAPResultConstraintViolation):
			verdict = auth.Wrong
			return nil
		}
		return err
	})
	return verdict, err
}

// with runs do on a connection of a pool, on a new one where there is none or it was lost.
func (s *Source) with(ctx context.Context, pool chan *ldap.Conn, service bool, do func(*ldap.Conn) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.opt.Timeout, fmt.Errorf("no answer within %v", s.opt.Timeout))
	defer cancel()
	var c *ldap.Conn
	select {
	case c = <-pool:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if service && c != nil && !c.IsClosing() {
		// Many may search on it at one time.
		pool <- c
		err := do(c)
		if !lost(err) {
			return plain(err)
		}
		c.Close()
		select {
		case c = <-pool:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if c != nil && c.IsClosing() {
			c = nil
		}
	}
	defer func() { pool <- c }()
	for range 2 {
		fresh := c == nil || c.IsClosing()
		if fresh {
			var err error
			if c, err = s.connect(ctx, service); err != nil {
				c = nil
				return err
			}
		}
		err := do(c)
		if !lost(err) {
			return plain(err)
		}
		c.Close()
		c = nil
		if fresh {
			return plain(err)
		}
	}
	return errors.New("the connection is lost again and again")
}

// lost reports whether a connection is of no use after an error.
func lost(err error) bool { return ldap.IsErrorWithCode(err, ldap.ErrorNetwork) }

// plain drops the number that the library puts before its words.
func plain(err error) error {
	var e *ldap.Error
	if errors.As(err, &e) && e.Err != nil {
		if text, ok := ldap.LDAPResultCodeMap[e.ResultCode]; ok && e.ResultCode < 200 {
			return fmt.Errorf("%s: %.200v", text, e.Err)
		}
		return e.Err
	}
	return err
}

// connect gives a connection to the first server that can be reached, bound as the service
// or not at all.
func (s *Source) connect(ctx context.Context, service bool) (*ldap.Conn, error) {
	first := int(s.good.Load())
	var errs []error
	for i := range s.opt.URLs {
		n := (first + i) % len(s.opt.URLs)
		// One that is silent must leave time for the others.
		deadline, _ := ctx.Deadline()
		part, cancel := context.WithTimeoutCause(ctx, time.Until(deadline)/time.Duration(len(s.opt.URLs)-i), errors.New("it does not answer"))
		c, err := s.dial(part, s.opt.URLs[n], service)
		if err != nil && part.Err() != nil {
			err = context.Cause(part)
		}
		cancel()
		if err == nil {
			s.good.Store(int32(n))
			if s.down[n].Swap(false) {
				s.opt.Log.Info("directory server answers again", "event", "auth_ldap", "server", s.opt.URLs[n])
			}
			return c, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", s.opt.URLs[n], err))
		if !s.down[n].Swap(true) {
			s.opt.Log.Warn("directory server cannot be used", "event", "auth_ldap", "server", s.opt.URLs[n], "err", err)
		}
	}
	return nil, errors.Join(errs...)
}

// dial makes one connection. ctx bounds all of it.
func (s *Source) dial(ctx context.Context, server string, service bool) (*ldap.Conn, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	network, addr := "tcp", u.Host
	switch port := map[string]string{"ldap": "389", "ldaps": "636"}[u.Scheme]; {
	case u.Scheme == "ldapi":
		network, addr = "unix", u.Path
	case u.Port() == "":
		addr = net.JoinHostPort(u.Hostname(), port)
	}
	nc, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	nc.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) }) // it was given up
	config := s.tls.Load().Clone()
	config.ServerName = u.Hostname()
	wire := nc
	if u.Scheme == "ldaps" {
		t := tls.Client(nc, config)
		if err := t.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, err
		}
		wire = t
	}
	c := ldap.NewConn(wire, u.Scheme == "ldaps")
	c.SetTimeout(max(time.Until(deadline), time.Millisecond))
	c.Start()
	if s.opt.StartTLS && u.Scheme == "ldap" {
		err = c.StartTLS(config)
	}
	if err == nil && service && s.opt.BindDN != "" {
		var password string
		if password, err = s.secret(); err == nil {
			if err = c.Bind(s.opt.BindDN, password); err != nil {
				err = fmt.Errorf("bind as %s: %w", s.opt.BindDN, plain(err))
			}
		}
	}
	if err == nil && !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		c.Close()
		return nil, plain(err)
	}
	nc.SetDeadline(time.Time{})
	c.SetTimeout(s.opt.Timeout)
	return c, nil
}
