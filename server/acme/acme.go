// Package acme gets certificates from an authority that speaks ACME (RFC 8555), as Let's
// Encrypt does, and renews them in time. certmagic does the work; this package says what
// Roost wants of it.
//
// The authority looks for its proof by HTTP (RFC 8555 section 8.3) on port 80 of each name:
// the Issuer answers there and does nothing else. A web server that has the port already
// passes /.well-known/acme-challenge/ on to where the Issuer listens.
package acme

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// Options say for what, from whom, and how.
type Options struct {
	Names     []string // the first is for clients that name no host
	Email     string   // that the authority writes to; "" for none
	Directory string   // URL of the authority's directory
	Roots     string   // PEM file of who vouches for the authority's own certificate; "" for the system's
	Listen    string   // host:port where it answers challenges
	Dir       string   // where keys and certificates are kept; made at Start
	Log       *slog.Logger

	// Listener, when not nil, listens on Listen already.
	Listener net.Listener

	// Issued, when not nil, is told of each certificate that there is: at first, and when it
	// was renewed. The chain and its key are PEM.
	Issued func(name string, chain, key []byte)
}

// An Issuer has certificates and renews them. Safe for concurrent use.
type Issuer struct {
	opt      Options
	cache    *certmagic.Cache
	magic    *certmagic.Config
	listener net.Listener
	http     *http.Server
	stop     context.CancelFunc
	wg       sync.WaitGroup

	mu   sync.Mutex        // guards told, and is held while it is told
	told map[string][]byte // by name, the chain that Options.Issued was given last
}

// Open listens for challenges, for which the process may need rights that it gives up
// later. Nothing is asked of the authority before Start.
func Open(opt Options) (*Issuer, error) {
	var roots *x509.CertPool
	if opt.Roots != "" {
		b, err := os.ReadFile(opt.Roots)
		if err != nil {
			return nil, err
		}
		roots = x509.NewCertPool()
		if block, _ := pem.Decode(b); block == nil || !roots.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s: it has no certificate in PEM", opt.Roots)
		}
	}
	l, err := opt.Listener, error(nil)
	if l == nil {
		if l, err = net.Listen("tcp", opt.Listen); err != nil {
			return nil, fmt.Errorf("port for the authority's challenges (tls.acme.listen): %w", err)
		}
	}
	host, _, err := net.SplitHostPort(opt.Listen)
	if err != nil {
		l.Close()
		return nil, err
	}
	i := &Issuer{opt: opt, listener: l, told: map[string][]byte{}}
	quiet := zap.NewNop() // what matters comes as events
	i.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return i.magic, nil },
		Logger:           quiet,
	})
	i.magic = certmagic.New(i.cache, certmagic.Config{
		Storage:           &certmagic.FileStorage{Path: opt.Dir},
		DefaultServerName: opt.Names[0],
		OnEvent:           i.event,
		Logger:            quiet,
		OCSP:              certmagic.OCSPConfig{DisableStapling: true}, // authorities give it up
	})
	email := opt.Email
	if email == "" {
		email = " " // none as well, but for the empty one certmagic asks on standard input
	}
	issuer := certmagic.NewACMEIssuer(i.magic, certmagic.ACMEIssuer{
		CA: opt.Directory, TestCA: opt.Directory, Email: email, Agreed: true, TrustedRoots: roots,
		DisableTLSALPNChallenge: true, ListenHost: host, AltHTTPPort: l.Addr().(*net.TCPAddr).Port, Logger: quiet,
	})
	i.magic.Issuers = []certmagic.Issuer{issuer}
	i.http = &http.Server{
		Handler: issuer.HTTPChallengeHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "This is a mail server.", http.StatusNotFound)
		})),
		ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(opt.Log.Handler(), slog.LevelDebug),
	}
	return i, nil
}

// Start answers challenges, and gets the certificates that are not there yet in the
// background: until one came, clients that ask for its name are refused in the handshake.
func (i *Issuer) Start(ctx context.Context) error {
	if err := os.MkdirAll(i.opt.Dir, 0o700); err != nil {
		return err
	}
	// Ends when Close closes the server.
	i.wg.Go(func() {
		if err := i.http.Serve(limited(i.listener)); !errors.Is(err, http.ErrServerClosed) {
			i.opt.Log.Error("challenges are not answered", "event", "acme_listen", "err", err)
		}
	})
	ctx, i.stop = context.WithCancel(ctx)
	for _, name := range i.opt.Names {
		// Ends when it has one, or with ctx.
		i.wg.Go(func() { i.obtain(ctx, name) })
	}
	return nil
}

// obtain gets the certificate of a name or takes the one that is kept; certmagic renews it
// from then on. What fails is tried again, more and more rarely: authorities count.
func (i *Issuer) obtain(ctx context.Context, name string) {
	if i.magic.Storage.Exists(ctx, certmagic.StorageKeys.SiteCert(i.magic.Issuers[0].IssuerKey(), name)) {
		i.tell(ctx, name) // it may be due, and the authority out of reach
	}
	for wait := time.Minute; i.magic.ManageSync(ctx, []string{name}) != nil; wait = min(2*wait, 6*time.Hour) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
	i.tell(ctx, name)
}

// tell tells of the certificate that is kept, unless that was told last.
func (i *Issuer) tell(ctx context.Context, name string) {
	if i.opt.Issued == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	from := i.magic.Issuers[0].IssuerKey()
	chain, err := i.magic.Storage.Load(ctx, certmagic.StorageKeys.SiteCert(from, name))
	var key []byte
	if err == nil {
		key, err = i.magic.Storage.Load(ctx, certmagic.StorageKeys.SitePrivateKey(from, name))
	}
	if err != nil {
		i.opt.Log.Error("a certificate that was issued cannot be read", "event", "acme_kept", "name", name, "err", err)
		return
	}
	if bytes.Equal(chain, i.told[name]) {
		return
	}
	i.told[name] = chain
	i.opt.Issued(name, chain, key)
}

// Close stops renewing and waits for that.
func (i *Issuer) Close() error {
	if i.stop != nil {
		i.stop()
	}
	err := errors.Join(i.http.Close(), i.listener.Close())
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	i.cache.Stop()
	i.wg.Wait()
	return err
}

// Addr is where challenges are answered.
func (i *Issuer) Addr() net.Addr { return i.listener.Addr() }

// Certificate gives the one for the name that a client asks for; nil without an error when
// the name is none of the Issuer's.
func (i *Issuer) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(hello.ServerName)
	if name != "" && !slices.Contains(i.opt.Names, name) {
		return nil, nil
	}
	cert, err := i.magic.GetCertificate(hello)
	if err != nil {
		return nil, err // certmagic gives an empty one with it
	}
	return cert, nil
}

// event logs what certmagic did.
func (i *Issuer) event(ctx context.Context, event string, data map[string]any) error {
	log := i.opt.Log.With("event", "acme_"+strings.TrimPrefix(event, "cert_"), "name", data["identifier"])
	switch event {
	case "cert_obtaining":
		log.Info("certificate is asked for", "directory", i.opt.Directory)
	case "cert_obtained":
		log.Info("certificate was issued", "renewal", data["renewal"])
		if name, ok := data["identifier"].(string); ok && data["renewal"] == true { // the first is told when it is kept
			i.tell(ctx, name)
		}
	case "cert_failed":
		log.Error("certificate was not issued, it will be tried again", "renewal", data["renewal"], "err", data["error"])
	}
	return nil
}

// maxChallenges is how many connections are held at one time: an authority makes a few.
const maxChallenges = 64

// limited is a listener that closes what is too much.
func limited(l net.Listener) net.Listener {
	return &limitedListener{Listener: l, places: make(chan struct{}, maxChallenges)}
}

type limitedListener struct {
	net.Listener
	places chan struct{}
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.places <- struct{}{}:
			return &limitedConn{Conn: c, leave: sync.OnceFunc(func() { <-l.places })}, nil
		default:
			c.Close()
		}
	}
}

type limitedConn struct {
	net.Conn
	leave func()
}

func (c *limitedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
