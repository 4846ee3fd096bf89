package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"roost/auth"
	"roost/config"
	"roost/confine"
	"roost/events"
	"roost/message"
	"roost/server"
	"roost/server/acme"
	"roost/server/control"
	"roost/server/session"
	"roost/server/workers"
	"roost/store"
)

var serveVerb = verb{
	name:  "serve",
	about: "Serve mail over IMAP until SIGTERM.",
	more: "SIGHUP reads the configuration, the certificates and the passwd file again. Under systemd it\n" +
		"takes the sockets that are passed to it, and tells when it is ready. Started as root it binds\n" +
		"its ports and reads its key, then becomes the user that mail.user names.",
	example: "roost serve --config /etc/roost/roost.toml",
	setup: func(fs *flag.FlagSet) runner {
		path := configFlag(fs)
		return func(ctx context.Context, env *environment, args []string) error {
			if err := noArguments(args); err != nil {
				return err
			}
			return serve(ctx, env, *path, nil)
		}
	},
}

// serve runs a server from a configuration file until ctx ends. ready, when not
// nil, is called once clients can connect.
func serve(ctx context.Context, env *environment, path string, ready func()) (err error) {
	hup := make(chan os.Signal, 1) // what comes while it starts is seen to once it serves
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	read := time.Now() // before it is read: a change meanwhile must not look old
	c, err := loadConfig(path)
	if err != nil {
		return err
	}
	if c.Isolation.Workers() && env.own {
		return serveWorkers(ctx, env, path, c, hup)
	}
	sv := &service{path: path, config: c, read: read}
	sv.log = sv.logger(env.stderr, env.getenv("JOURNAL_STREAM") != "")
	defer func() { err = errors.Join(err, sv.close()) }()

	// What needs rights comes before they are given up. The sockets come first: who connects
	// while the users are read waits for a greeting instead of being refused.
	passed, err := server.Activated()
	if err != nil {
		return err
	}
	if sv.sockets, passed, err = listenAuth(ctx, c, passed); err != nil {
		return err
	}
	listeners, err := server.Listen(ctx, specs(c), passed)
	if err != nil {
		return err
	}
	for i := range listeners {
		if c.Listen[i].Proxy {
			listeners[i].Proxies = networks(c.Listen[i].ProxyNetworks)
		}
	}
	defer func() { // where it comes to Serve, that has closed them
		for _, l := range listeners {
			l.Close()
		}
	}()
	if err := sv.openFront(); err != nil {
		return err
	}
	sv.prepareControl()
	sv.prepareState()
	if err := sv.dropRights(); err != nil {
		return err
	}
	sv.openEvents()
	sv.openState()
	if env.own {
		if err := sv.confine(); err != nil {
			return err
		}
	}
	if sv.issuer != nil {
		if err := sv.issuer.Start(ctx); err != nil {
			return err
		}
	}
	if sv.store, err = openStore(c, sv.log); err != nil {
		return err
	}
	opt, err := sv.options(c)
	if err != nil {
		return err
	}
	for _, addr := range opt.Gateways {
		sv.auth.Gateway(addr)
	}
	return sv.run(ctx, hup, listeners, opt, ready)
}

// run serves until ctx ends.
func (sv *service) run(ctx context.Context, hup <-chan os.Signal, listeners []server.Listener, opt server.Options, ready func()) error {
	sv.server = server.New(opt)
	sv.openControl(listeners)
	sv.serveAuth()
	for _, l := range listeners {
		sv.log.Info("listening", "event", "listen", "on", l.String())
	}

	served := make(chan error, 1)
	go func() { served <- sv.server.Serve(ctx, listeners...) }() // ends with ctx; joined below
	sv.notify(daemon.SdNotifyReady)
	if ready != nil {
		ready()
	}
	stop := sync.OnceFunc(func() {
		sv.notify(daemon.SdNotifyStopping)
		sv.log.Info("stopping", "event", "stop")
	})
	for stopping := ctx.Done(); ; {
		select {
		case <-hup:
			sv.reload()
		case <-stopping:
			stop()
			stopping = nil
		case err := <-served:
			if ctx.Err() != nil { // it may be over before it was told of
				stop()
			}
			return err
		}
	}
}

// service is a running server and what it is made of.
type service struct {
	path   string
	config *config.Config // in force
	log    *slog.Logger
	level  slog.LevelVar

	auth   *auth.Auth
	certs  *server.Certificates                                 // nil: every listener is in the clear
	issuer *acme.Issuer                                         // nil: certificates are files
	issued func(*tls.ClientHelloInfo) (*tls.Certificate, error) // nil with issuer, or where that is another process
	store  store.Store
	server *server.Server

	read         time.Time // when config was
	about        atomic.Pointer[control.Status]
	closeControl func()         // nil: there is none
	sockets      []net.Listener // auth.listen
	closeAuth    func()         // nil: nobody answers on them

	events  *events.Watch
	mailing atomic.Pointer[mailing]
	audit   auditLog
	burst   events.Burst // of deletions

	state  *os.File               // the state directory, locked; nil: there is none
	role   workers.Role           // "": all of them
	front  *workers.Front         // of RoleFront
	orders func(c *config.Config) // of RoleDesk: puts a configuration in force
	within *confine.Paths         // what files there are for this process; nil: all
}

// logger writes what the configuration says. The journal has times of its own.
func (sv *service) logger(w io.Writer, journal bool) *slog.Logger {
	sv.level.Set(levels[sv.config.Log.Level])
	opt := &slog.HandlerOptions{Level: &sv.level}
	if journal {
		opt.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 {
				return slog.Attr{}
			}
			return a
		}
	}
	if sv.config.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}

var levels = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

// openFront opens what stands before a login: certificates and users.
func (sv *service) openFront() (err error) {
	c := sv.config
	if sv.issuer, err = openIssuer(c, sv.log); err != nil {
		return err
	}
	if sv.issuer != nil {
		sv.issued = sv.issuer.Certificate
	}
	if opt := certOptions(c, sv.issued); len(opt.Pairs) > 0 || opt.Issued != nil {
		if sv.certs, err = server.OpenCertificates(opt, sv.log); err != nil {
			return err
		}
	}
	sv.auth, err = openAuth(c, true, sv.log)
	return err
}

// options makes a configuration what the server works with.
func (sv *service) options(c *config.Config) (server.Options, error) {
	identity, err := identities(c)
	if err != nil {
		return server.Options{}, exitWith(exitUsage, err)
	}
	if sv.role == "" {
		sv.mailing.Store(&mailing{c.Hostname, func(ctx context.Context, u auth.User, text []byte) error {
			who, err := identity(u)
			if err != nil {
				return err
			}
			return deliver(ctx, sv.store, who, text)
		}})
	}
	opt := server.Options{
		Hostname: c.Hostname,
		Product:  product(),
		Auth:     sv.auth,
		Guard:    sv.auth,
		Events:   sv.history(),
		Gateways: gateways(),
		Identity: sv.reachable(identity),
		Clients:  clientRules(c),
		Runner:   &server.Local{Store: sv.store, Options: sv.sessionOptions(c)},
		Limits: server.Limits{
			LoginTime:      c.Limits.LoginTime,
			Line:           int64(c.Limits.PreLoginLine),
			AuthLine:       int64(c.Limits.AuthLine),
			Literal:        int64(c.Limits.PreLoginLiteral),
			BadCommands:    c.Limits.BadCommands,
			Connections:    c.Limits.Connections,
			PerAddress:     c.Limits.PerAddress,
			PerUserAddress: c.Limits.PerUserAddress,
			PerUser:        c.Limits.PerUser,
			MakeRoom:       c.Limits.MakeRoomAfter,
			Trusted:        trusted(c),
			Shutdown:       c.Limits.ShutdownPatience,
		},
		Log: sv.log,
	}
	if sv.front != nil {
		opt.Auth, opt.Guard, opt.Identity, opt.Runner = sv.front, sv.front, workers.Identity, sv.front
		opt.Events = sv.front.Events
	}
	if sv.certs != nil {
		opt.TLS, opt.Ends = sv.certs.Config(), sv.certs.EndPoints
	}
	return opt, nil
}

// sessionOptions are those of the sessions of this process.
func (sv *service) sessionOptions(c *config.Config) session.Options {
	opt := plainOptions(c)
	opt.Log, opt.Notice, opt.Tap, opt.Audit = sv.log, sv.notice, sv.tap, sv.deed
	return opt
}

// plainOptions are what a configuration says of sessions.
func plainOptions(c *config.Config) session.Options {
	return session.Options{
		Limits: session.Limits{
			CommandBytes: int64(c.Limits.Command),
			AppendBytes:  int64(c.Limits.Message),
			Messages:     c.IMAP.MessageLimit,
			Saved:        c.IMAP.SaveLimit,
			MIME: message.Limits{
				Depth: c.Limits.MIMEDepth, Parts: c.Limits.MIMEParts,
				Header: int(c.Limits.MIMEHeader), Headers: 4 * int(c.Limits.MIMEHeader),
			},
		},
		Idle:      c.Limits.Silence,
		Keepalive: c.IMAP.IdleKeepalive,
		Product:   product(),
		Shared:    shared(c.IMAP),
		Clients:   clientRules(c),
	}
}

// product is what ID answers.
func product() []string { return []string{"name", "Roost", "version", version} }

// identities gives the function that knows where a user's mail is.
func identities(c *config.Config) (func(auth.User) (store.Identity, error), error) {
	locator, err := c.Mail.Locator()
	if err != nil {
		return nil, err
	}
	var folders []store.Folder
	for _, f := range c.Mail.Folder {
		name := store.Name(f.Name)
		if !strings.HasPrefix(f.Name, c.Mail.Prefix) { // the default ones know no prefix
			name = store.Name(c.Mail.Prefix) + name
		}
		folders = append(folders, store.Folder{Name: name, Use: f.Use, Create: f.Create, Subscribe: f.Subscribe})
	}
	escapes := map[string]store.Escape{"none": store.EscapeNone, "backslash": store.EscapeBackslash, "courier": store.EscapeCourier}
	return func(u auth.User) (store.Identity, error) {
		p, err := locator.Place(u.Name, u.Home, u.Mail)
		if err != nil {
			return store.Identity{}, err
		}
		return store.Identity{
			User:      u.Name,
			Login:     u.Login,
			Groups:    u.Groups,
			Separator: c.Mail.Separator[0],
			Quota:     store.Limits{Bytes: u.QuotaBytes, Messages: u.QuotaMessages, MessageBytes: int64(c.Limits.Message)},
			Roots: []store.Root{{
				Prefix:      c.Mail.Prefix,
				OldPrefix:   c.Mail.OldPrefix,
				Layout:      store.Layout(p.Layout),
				Mail:        p.Mail,
				Inbox:       p.Inbox,
				Control:     p.Control,
				Index:       p.Index,
				UTF8:        p.UTF8,
				Escape:      escapes[p.Escape],
				MailDir:     p.MailDir,
				SubsFile:    p.SubsFile,
				Create:      c.Mail.Create,
				Folders:     folders,
				FollowLinks: c.Mail.LinkTo,
			}},
		}, nil
	}, nil
}

// clientRules are the [[client]] entries.
func clientRules(c *config.Config) (list []session.ClientRule) {
	for i, e := range c.Client {
		r := session.ClientRule{Name: e.Name, ID: e.ID, User: e.User, ServerName: e.ServerName, Hide: e.Hide}
		if r.Name == "" {
			r.Name = fmt.Sprintf("client %d", i+1)
		}
		for _, n := range e.Network {
			if p, err := config.ParseNetwork(n); err == nil { // Check has told
				r.Network = append(r.Network, p)
			}
		}
		list = append(list, r)
	}
	return list
}

// protocol is what a configuration is checked against.
func protocol() config.Protocol {
	return config.Protocol{
		Filter:       session.CheckFilter,
		Capabilities: capabilities(),
		Mechanisms:   auth.AllMechanisms(),
	}
}

// capabilities are all that a client may be told of.
func capabilities() []string {
	list := session.Capabilities()
	for _, name := range auth.AllMechanisms() {
		list = append(list, "AUTH="+name)
	}
	return list
}

// shared are the annotations of the server (RFC 5464 section 3.2.1.1).
func shared(c config.IMAP) (list []store.Annotation) {
	for _, a := range []struct{ entry, value string }{{"/shared/admin", c.Contact}, {"/shared/comment", c.Comment}} {
		if a.value != "" {
			list = append(list, store.Annotation{Entry: a.entry, Value: []byte(a.value)})
		}
	}
	for _, f := range c.Filter {
		list = append(list, store.Annotation{Entry: "/shared/filters/values/" + f.Name, Value: []byte(f.Search)})
	}
	return list
}

// reload puts a changed configuration in force, as a whole or not at all.
func (sv *service) reload() {
	sv.notify(daemon.SdNotifyReloading + "\nMONOTONIC_USEC=" + daemon.SdNotifyMonotonicUsec())
	defer sv.notify(daemon.SdNotifyReady)
	read := time.Now()
	fresh, err := config.Load(sv.path)
	if err == nil {
		if list := sv.outside(fresh); len(list) > 0 {
			sv.log.Error("the configuration stays as it was: it names what is outside of what Roost may open since it confined itself; restart it",
				"event", "reload_failed", "paths", list)
			return
		}
		p := protocol()
		p.Partly = sv.role != ""
		err = fresh.Check(time.Now(), p)
	}
	if err != nil {
		var problems config.Problems
		if !errors.As(err, &problems) {
			problems = config.Problems{{Text: err.Error()}}
		}
		for _, p := range problems {
			sv.log.Error("the configuration stays as it was", "event", "reload_failed", "err", p.String())
		}
		return
	}
	live, restart := config.Changes(sv.config, fresh)
	c := config.Merge(sv.config, fresh)
	opt, err := sv.options(c)
	if err == nil && sv.certs != nil {
		_, err = sv.certs.Reload(certOptions(c, sv.issued))
	}
	if err != nil {
		sv.log.Error("the configuration stays as it was", "event", "reload_failed", "err", err)
		return
	}
	if sv.auth != nil {
		if err := sv.auth.Reload(); err != nil {
			sv.log.Error("users stay as they were", "event", "reload_failed", "err", err)
		}
		sv.auth.Tune(throttle(c), trusted(c))
		sv.events.Configure(eventRules(c))
	}
	if err := sv.audit.reopen(); err != nil {
		sv.log.Error("the audit log stays where it was", "event", "audit_failed", "err", err)
	}
	if sv.server != nil {
		sv.server.Reconfigure(opt)
	}
	if sv.orders != nil {
		sv.orders(c)
	}
	sv.level.Set(levels[c.Log.Level])
	sv.config, sv.read = c, read
	sv.reread(restart)
	sv.log.Info("configuration read again", "event", "reload", "changed", live)
	if len(restart) > 0 {
		sv.log.Warn("these changes wait for a restart", "event", "reload_restart", "keys", restart)
	}
}

// close flushes the store and ends the watches.
func (sv *service) close() (err error) {
	if sv.closeControl != nil {
		sv.closeControl()
	}
	if sv.closeAuth != nil {
		sv.closeAuth()
	}
	for _, l := range sv.sockets {
		l.Close()
	}
	if sv.events != nil {
		err = sv.events.Close()
	}
	if sv.store != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = errors.Join(err, sv.store.Close(ctx))
	}
	if sv.certs != nil {
		err = errors.Join(err, sv.certs.Close())
	}
	if sv.issuer != nil {
		err = errors.Join(err, sv.issuer.Close())
	}
	if sv.auth != nil {
		err = errors.Join(err, sv.auth.Close())
	}
	sv.audit.close()
	if sv.state != nil {
		sv.state.Close()
	}
	return err
}

// notify tells systemd, where it is there.
func (sv *service) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		sv.log.Warn("systemd cannot be told", "event", "notify_failed", "err", err)
	}
}

// specs gives the sockets that a configuration asks for.
func specs(c *config.Config) (list []server.Spec) {
	for _, l := range c.Listen {
		mode := server.Implicit
		switch {
		case l.Plaintext:
			mode = server.Plaintext
		case l.STARTTLS:
			mode = server.STARTTLS
		}
		list = append(list, server.Spec{Address: l.Address, Mode: mode})
	}
	return list
}

func keyPairs(c *config.Config) (list []server.KeyPair) {
	if c.TLS.Cert != "" {
		list = append(list, server.KeyPair{Cert: c.TLS.Cert, Key: c.TLS.Key})
	}
	for _, p := range c.TLS.Certificate {
		list = append(list, server.KeyPair{Cert: p.Cert, Key: p.Key})
	}
	return list
}

func minVersion(c *config.Config) uint16 {
	if c.TLS.MinVersion == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

// trusted gives limits.trusted_networks; Check has seen that they parse.
func trusted(c *config.Config) []netip.Prefix { return networks(c.Limits.TrustedNetworks) }

func networks(texts []string) (list []netip.Prefix) {
	for _, s := range texts {
		if p, err := config.ParseNetwork(s); err == nil {
			list = append(list, p)
		}
	}
	return list
}

// gateways are those of this machine's default routes: in a container all clients may come
// from there.
func gateways() []netip.Addr {
	v4, _ := os.ReadFile("/proc/net/route")
	v6, _ := os.ReadFile("/proc/net/ipv6_route")
	return server.ParseRoutes(string(v4), string(v6))
}
