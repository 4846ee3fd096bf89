package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"roost/config"
)

var tlsCheckVerb = verb{
	name:  "tls check",
	about: "Say what a client sees of TLS: versions, certificates, what is offered.",
	args:  "[HOST[:PORT]]",
	more: "Without an argument it connects to each listener of the configuration that speaks TLS. Port 143 and\n" +
		"listeners with starttls are asked for STARTTLS. Exits with 1 when a client would stumble.",
	example: "roost tls check mail.example.org",
	setup: func(fs *flag.FlagSet) runner {
		path := configFlag(fs)
		name := fs.String("name", "", "the `name` that clients use, where it is not HOST or the configuration's hostname")
		roots := fs.String("roots", "", "PEM `file` of who is trusted, instead of whom this machine trusts")
		startTLS := fs.Bool("starttls", false, "ask for STARTTLS whatever the port")
		return func(ctx context.Context, env *environment, args []string) error {
			v := &onlooker{out: env.stdout, now: time.Now}
			if *roots != "" {
				b, err := os.ReadFile(*roots)
				if err != nil {
					return err
				}
				v.roots = x509.NewCertPool()
				if !v.roots.AppendCertsFromPEM(b) {
					return usagef("--roots: %s has no certificate in PEM", *roots)
				}
			}
			var places []viewed
			switch len(args) {
			case 0:
				c, err := loadConfig(*path)
				if err != nil {
					return err
				}
				places = listening(c)
				if len(places) == 0 {
					return errors.New("no listener of the configuration speaks TLS")
				}
			case 1:
				host, port, err := net.SplitHostPort(args[0])
				if err != nil {
					host, port = strings.Trim(args[0], "[]"), "993"
				}
				places = []viewed{{net.JoinHostPort(host, port), host, port == "143" || *startTLS}}
			default:
				return usagef("tls check takes one server")
			}
			for i, p := range places {
				if *name != "" {
					p.name = *name
				}
				if i > 0 {
					fmt.Fprintln(env.stdout)
				}
				if err := v.look(ctx, p); err != nil {
					if ctx.Err() != nil {
						return ctx.Err()
					}
					v.bad("%v", err)
				}
			}
			if v.faults > 0 {
				return exitWith(exitFailed, fmt.Errorf("%s a client would stumble over", plural(v.faults, "thing", "things")))
			}
			return nil
		}
	},
}

// viewed is a server as a client knows it.
type viewed struct {
	addr     string
	name     string // the name that clients use
	startTLS bool
}

// listening are the listeners of a configuration that speak TLS.
func listening(c *config.Config) (list []viewed) {
	for _, l := range c.Listen {
		if addr, ok := reachable(l.Address); ok && !l.Plaintext && !l.Proxy {
			list = append(list, viewed{addr, c.Hostname, l.STARTTLS})
		}
	}
	return list
}

// onlooker looks at servers and tells what it sees.
type onlooker struct {
	out    io.Writer
	roots  *x509.CertPool // nil: those of this machine
	now    func() time.Time
	faults int
}

func (v *onlooker) say(what, format string, args ...any) {
	fmt.Fprintf(v.out, "  %-14s %s\n", what, fmt.Sprintf(format, args...))
}

// bad says what a client would stumble over.
func (v *onlooker) bad(format string, args ...any) {
	v.faults++
	v.say("FAULT", format, args...)
}

// look looks at one server. An error is that of the first connection: it cannot be seen.
func (v *onlooker) look(ctx context.Context, p viewed) error {
	how := "TLS"
	if p.startTLS {
		how = "STARTTLS"
	}
	fmt.Fprintf(v.out, "%s, %s, as %s\n", p.addr, how, p.name)
	sessions := tls.NewLRUClientSessionCache(4)
	conf := func() *tls.Config {
		return &tls.Config{ServerName: p.name, InsecureSkipVerify: true, NextProtos: []string{"imap"}, ClientSessionCache: sessions} // #nosec G402 -- the chain is judged, and told of, by chain
	}
	asked := false
	first := conf()
	first.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = true
		return &tls.Certificate{}, nil
	}
	seen, err := v.connect(ctx, p, first)
	if err != nil {
		return err
	}
	s := seen.state
	alpn := "no ALPN"
	if s.NegotiatedProtocol != "" {
		alpn = "ALPN " + s.NegotiatedProtocol
	}
	v.say("speaks", "%s with %s, %s", tls.VersionName(s.Version), tls.CipherSuiteName(s.CipherSuite), alpn)
	v.versions(ctx, p, conf)
	if again, err := v.connect(ctx, p, conf()); err == nil {
		v.say("resumption", "%v", again.state.DidResume)
	}
	v.chain(p, s.PeerCertificates)
	if asked {
		v.say("asks", "for a client's certificate, which clients may do without")
	}
	if p.startTLS {
		v.say("in the clear", "%s", strings.Join(seen.before, " "))
		for _, word := range seen.before {
			if strings.HasPrefix(word, "AUTH=") {
				v.bad("it offers %s before TLS: whoever listens gets the password", word)
			}
		}
	}
	v.say("offers", "%s", strings.Join(seen.after, " "))
	return nil
}

// versions tries each version of TLS alone.
func (v *onlooker) versions(ctx context.Context, p viewed, conf func() *tls.Config) {
	var takes, refuses []string
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13} {
		c := conf()
		c.ClientSessionCache = nil
		c.MinVersion, c.MaxVersion = version, version
		c.CipherSuites = nil
		for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
			c.CipherSuites = append(c.CipherSuites, s.ID)
		}
		if _, err := v.connect(ctx, p, c); err != nil {
			refuses = append(refuses, tls.VersionName(version))
			continue
		}
		takes = append(takes, tls.VersionName(version))
		if version < tls.VersionTLS12 {
			v.bad("it takes %s, which is broken (RFC 8996)", tls.VersionName(version))
		}
	}
	v.say("takes", "%s; refuses %s", strings.Join(takes, ", "), strings.Join(refuses, ", "))
}

// chain judges the certificates as the doctor does.
func (v *onlooker) chain(p viewed, chain []*x509.Certificate) {
	for i, c := range chain {
		what := "certificate"
		if i > 0 {
			what = "  issued by"
		}
		v.say(what, "%s, by %s, until %s, %v key", namesOr(c), c.Issuer.CommonName, c.NotAfter.UTC().Format(time.DateOnly), c.PublicKeyAlgorithm)
	}
	d := newDoctor()
	d.roots, d.now = v.roots, v.now
	d.judge(p.addr, p.name, chain)
	for _, f := range d.found {
		if f.Weight == ill || f.Kind == "certificate-untrusted" {
			v.bad("%s; %s", f.What, f.Do)
		} else {
			v.say("soon", "%s; %s", f.What, f.Do)
		}
	}
	if len(d.found) == 0 {
		v.say("trusted", "for %s, by this machine", p.name)
	}
}

// namesOr are the names of a certificate, or of an authority.
func namesOr(c *x509.Certificate) string {
	if c.IsCA && len(c.DNSNames) == 0 {
		return c.Subject.CommonName
	}
	return namesOf(c)
}

// sight is what one connection shows.
type sight struct {
	state         tls.ConnectionState
	before, after []string // capabilities; before is of a connection that starts in the clear
}

// viewTime bounds one connection.
const viewTime = 10 * time.Second

// connect speaks TLS and then asks what is offered.
func (v *onlooker) connect(ctx context.Context, p viewed, conf *tls.Config) (s sight, err error) {
	ctx, cancel := context.WithTimeout(ctx, viewTime)
	defer cancel()
	var dialer net.Dialer
	nc, err := dialer.DialContext(ctx, "tcp", p.addr)
	if err != nil {
		return s, bottomNet(err)
	}
	defer nc.Close()
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	talk := &asker{r: bufio.NewReader(io.LimitReader(nc, 64<<10)), w: nc}
	if p.startTLS {
		if err := talk.greeting(); err != nil {
			return s, err
		}
		if s.before, err = talk.capabilities(); err != nil {
			return s, err
		}
		if _, err := talk.command("STARTTLS"); err != nil {
			return s, err
		}
	}
	conn := tls.Client(nc, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		return s, err
	}
	talk.r, talk.w = bufio.NewReader(io.LimitReader(conn, 64<<10)), conn
	if !p.startTLS {
		if err := talk.greeting(); err != nil {
			return s, err
		}
	}
	if s.after, err = talk.capabilities(); err != nil {
		return s, err
	}
	_, err = talk.command("LOGOUT")
	s.state = conn.ConnectionState() // with what came behind the handshake
	return s, err
}

// asker speaks as much IMAP as it takes.
type asker struct {
	r *bufio.Reader
	w io.Writer
}

func (t *asker) line() (string, error) {
	l, err := t.r.ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = errors.New("it closes the connection without a word")
	}
	return strings.TrimRight(l, "\r\n"), err
}

func (t *asker) greeting() error {
	l, err := t.line()
	if err == nil && !strings.HasPrefix(l, "* OK") {
		err = fmt.Errorf("it greets with %.100q", l)
	}
	return err
}

// command gives what was said before the OK.
func (t *asker) command(name string) (untagged []string, err error) {
	if _, err := fmt.Fprintf(t.w, "t %s\r\n", name); err != nil {
		return nil, err
	}
	for {
		l, err := t.line()
		switch {
		case err != nil:
			return nil, err
		case strings.HasPrefix(l, "t OK"):
			return untagged, nil
		case strings.HasPrefix(l, "t "):
			return nil, fmt.Errorf("it answers %s with %.100q", name, l)
		}
		untagged = append(untagged, l)
	}
}

func (t *asker) capabilities() ([]string, error) {
	lines, err := t.command("CAPABILITY")
	for _, l := range lines {
		if list, ok := strings.CutPrefix(l, "* CAPABILITY "); ok {
			return strings.Fields(list), err
		}
	}
	return nil, err
}
