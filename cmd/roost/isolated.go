package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"roost/auth"
	"roost/config"
	"roost/confine"
	"roost/server"
	"roost/server/acme"
	"roost/server/session"
	"roost/server/workers"
	"roost/store"
	"roost/sysuser"
)

// A server whose users have processes of their own is this program several times: the
// parent that an admin starts, and what it starts with the word isolated, the role and the
// configuration behind it. docs/isolation.md tells who may do what.

// isolated is no verb: nobody types it.
const isolated = "isolated"

// Descriptors of a child: the channel to its parent, and what the front has besides.
const (
	channelFD = 3
	readyFD   = 4
	listenFD  = 5
	authFD    = 4 // of the desk
)

// serveWorkers is the parent.
func serveWorkers(ctx context.Context, env *environment, path string, c *config.Config, hup <-chan os.Signal) error {
	if os.Geteuid() != 0 {
		return exitWith(exitUsage, errors.New(`isolation.mode is "workers", for which roost has to be started as root: each user's process becomes that user`))
	}
	sv := &service{path: path, config: c}
	sv.log = sv.logger(env.stderr, env.getenv("JOURNAL_STREAM") != "")
	passed, err := server.Activated()
	if err != nil {
		return err
	}
	sockets, passed, err := listenAuth(ctx, c, passed)
	if err != nil {
		return err
	}
	listeners, err := server.Listen(ctx, specs(c), passed)
	if err != nil {
		return err
	}
	p := &workers.Parent{
		Log:    sv.log,
		MinUID: uint32(c.Isolation.MinUID), MinGID: uint32(c.Isolation.MinGID),
		Most: c.Limits.Connections, Idle: c.Isolation.Idle, Patience: c.Limits.ShutdownPatience + 10*time.Second,
	}
	defer func() { closeFiles(p.Listeners, p.AuthListeners) }()
	for _, l := range listeners {
		f, err := fileOf(l.Listener)
		if err != nil {
			return err
		}
		p.Listeners = append(p.Listeners, f)
	}
	for _, l := range sockets {
		f, err := fileOf(l)
		if err != nil {
			return err
		}
		p.AuthListeners = append(p.AuthListeners, f)
	}
	if len(c.TLS.ACME.Names) > 0 {
		if err := prepareACME(c); err != nil {
			return err
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.TLS.ACME.Listen)
		if err != nil {
			return fmt.Errorf("port for the authority's challenges (tls.acme.listen): %w", err)
		}
		if p.Challenges, err = fileOf(l); err != nil {
			return err
		}
		defer p.Challenges.Close()
	}
	if p.Start, err = starter(env, absolute(path)); err != nil {
		return err
	}
	if c.Isolation.Seccomp != "off" {
		// Those whom it starts inherit it. Landlock they would inherit too, and each needs
		// other files.
		if err := confine.Seccomp(); err != nil {
			if err := sv.unconfined(c.Isolation.Seccomp, "isolation.seccomp", err); err != nil {
				return err
			}
		}
	}
	done := make(chan struct{})
	defer close(done)
	go func() { // ends with this function
		for {
			select {
			case <-hup:
				sv.notify(daemon.SdNotifyReloading + "\nMONOTONIC_USEC=" + daemon.SdNotifyMonotonicUsec())
				p.Reload()
				sv.notify(daemon.SdNotifyReady)
			case <-ctx.Done():
				sv.notify(daemon.SdNotifyStopping)
				sv.log.Info("stopping", "event", "stop")
				return
			case <-done:
				return
			}
		}
	}()
	return p.Serve(ctx, func() { sv.notify(daemon.SdNotifyReady) })
}

// fileOf gives the descriptor of a socket, for a child.
func fileOf(l net.Listener) (*os.File, error) {
	defer l.Close() // the copy lives
	switch l := l.(type) {
	case *net.TCPListener:
		return l.File()
	case *net.UnixListener:
		l.SetUnlinkOnClose(false)
		return l.File()
	}
	return nil, fmt.Errorf("the socket on %s cannot be passed on", l.Addr())
}

// listenerFrom is fileOf's way back.
func listenerFrom(fd int, name string) (net.Listener, error) {
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("the socket of %s: %w", name, err)
	}
	return l, nil
}

func closeFiles(lists ...[]*os.File) {
	for _, f := range slices.Concat(lists...) {
		f.Close()
	}
}

// starter gives what starts the other processes: this program, whatever lies at its path by
// then, so that an update does not mix versions.
func starter(env *environment, path string) (func(workers.Role, *syscall.Credential, []*os.File) (*os.Process, error), error) {
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	defer exe.Close()
	// Above the numbers that a child's descriptors get.
	fd, err := unix.FcntlInt(exe.Fd(), unix.F_DUPFD_CLOEXEC, 1000)
	if err != nil {
		return nil, fmt.Errorf("the program itself: %w", err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	var keep []string
	for _, v := range os.Environ() {
		// Not what speaks of the parent's own descriptors and sockets.
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "GO") || strings.HasPrefix(name, "ROOST_") || slices.Contains([]string{"TZ", "LANG", "PATH", "JOURNAL_STREAM"}, name) {
			keep = append(keep, v)
		}
	}
	log, ok := env.stderr.(*os.File)
	if !ok {
		log = os.Stderr
	}
	return func(role workers.Role, as *syscall.Credential, files []*os.File) (*os.Process, error) {
		args := []string{"roost", isolated, string(role), path}
		if as != nil {
			args[3] = strconv.FormatUint(uint64(as.Uid), 10) // for those who look who runs
		}
		return os.StartProcess(fmt.Sprintf("/proc/self/fd/%d", fd), args, &os.ProcAttr{
			Dir: "/", Env: keep, Files: append([]*os.File{null, log, log}, files...),
			// A terminal's ^C is for the parent, which ends all in their order.
			Sys: &syscall.SysProcAttr{Credential: as, Setpgid: true},
		})
	}, nil
}

// runIsolated is one of the other processes.
func runIsolated(ctx context.Context, env *environment, args []string) error {
	if len(args) != 2 {
		return usagef("%s is for roost itself", isolated)
	}
	if _, err := unix.FcntlInt(channelFD, unix.F_GETFD, 0); err != nil {
		return usagef("%s is for roost itself", isolated)
	}
	unix.CloseOnExec(channelFD)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	parent := os.NewFile(channelFD, "parent")
	switch workers.Role(args[0]) {
	case workers.RoleFront:
		return serveFront(ctx, env, args[1], parent, cancel)
	case workers.RoleDesk:
		return serveDesk(ctx, env, args[1], parent)
	case workers.RoleWorker:
		return serveWorker(ctx, env, parent)
	case workers.RoleIssuer:
		return serveIssuer(ctx, env, args[1], parent, cancel)
	}
	return usagef("there is no role %q", args[0])
}

// isolatedService is what front and desk begin with, while they are root.
func isolatedService(env *environment, role workers.Role, path string) (*service, error) {
	read := time.Now()
	c, err := loadConfig(path)
	if err != nil {
		return nil, err
	}
	sv := &service{path: path, config: c, read: read, role: role}
	sv.log = sv.logger(env.stderr, env.getenv("JOURNAL_STREAM") != "")
	return sv, nil
}

// serveFront is the process that speaks with clients.
func serveFront(ctx context.Context, env *environment, path string, parent *os.File, orphaned func()) (err error) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	sv, err := isolatedService(env, workers.RoleFront, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sv.close()) }()
	var take func(name string, chain, key []byte) error
	if names := sv.config.TLS.ACME.Names; len(names) > 0 {
		kept := acme.NewKept(names)
		sv.issued, take = kept.Certificate, kept.Put
	}
	if opt := certOptions(sv.config, sv.issued); len(opt.Pairs) > 0 || opt.Issued != nil {
		if sv.certs, err = server.OpenCertificates(opt, sv.log); err != nil {
			return err
		}
	}
	ready := os.NewFile(readyFD, "ready")
	unix.CloseOnExec(readyFD)
	var listeners []server.Listener
	for i, spec := range specs(sv.config) {
		l, err := listenerFrom(listenFD+i, spec.Address)
		if err != nil {
			return err
		}
		one := server.Listener{Listener: l, Mode: spec.Mode}
		if sv.config.Listen[i].Proxy {
			one.Proxies = networks(sv.config.Listen[i].ProxyNetworks)
		}
		listeners = append(listeners, one)
	}
	sv.prepareControl()
	if err := sv.dropRights(); err != nil {
		return err
	}
	if err := sv.confine(); err != nil {
		return err
	}
	sv.front, err = workers.NewFront(parent, workers.FrontOptions{Log: sv.log, Notice: sv.notice, Tap: sv.tap, Certificate: take, Orphaned: orphaned})
	if err != nil {
		return err
	}
	if err := sv.front.Wait(ctx); err != nil {
		return nil // nobody listened yet
	}
	opt, err := sv.options(sv.config)
	if err != nil {
		return err
	}
	for _, addr := range opt.Gateways {
		sv.front.Gateway(addr)
	}
	return sv.run(ctx, hup, listeners, opt, func() {
		ready.Write([]byte{1})
		ready.Close()
	})
}

// serveDesk is the process that knows passwords.
func serveDesk(ctx context.Context, env *environment, path string, parent *os.File) (err error) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	sv, err := isolatedService(env, workers.RoleDesk, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sv.close()) }()
	if sv.auth, err = openAuth(sv.config, true, sv.log); err != nil {
		return err
	}
	for i, a := range sv.config.Auth.Listen {
		l, err := listenerFrom(authFD+i, a.Path+a.Address)
		if err != nil {
			return err
		}
		sv.sockets = append(sv.sockets, l)
	}
	sv.prepareState()
	if err := sv.dropRights(); err != nil {
		return err
	}
	sv.openEvents()
	sv.openState()
	if err := sv.confine(); err != nil {
		return err
	}
	sv.serveAuth()
	var system sysuser.Cache
	var now atomic.Pointer[placer]
	desk := &workers.Desk{
		Users: sv.auth, Log: sv.log, Events: sv.history(), Deed: sv.told, Most: sv.config.Limits.Connections,
		Place: func(ctx context.Context, u auth.User) (workers.Order, store.Identity, any, error) {
			return now.Load().order(ctx, u)
		},
	}
	sv.orders = func(c *config.Config) {
		if p, err := newPlacer(c, &system); err == nil { // what is wrong, Check has told
			now.Store(p)
			sv.mailing.Store(&mailing{c.Hostname, desk.Note})
		}
	}
	sv.orders(sv.config)
	if now.Load() == nil {
		_, err := newPlacer(sv.config, &system)
		return err
	}
	go func() { // ends with the process
		for range hup {
			sv.reload()
		}
	}()
	return desk.Serve(ctx, parent)
}

// placer says as whom to work for a user, and where.
type placer struct {
	identity func(auth.User) (store.Identity, error)
	system   *sysuser.Cache
	settings settings
}

// settings are what a worker goes by: the configuration of those that it must not read.
type settings struct {
	Session     session.Options
	MaxUnpacked int64
	NoTextIndex bool
	Level       string
	Format      string
	Landlock    string
	Seccomp     string
	Write       []string
	Audit       bool // somebody wants to know of all deeds
}

func newPlacer(c *config.Config, system *sysuser.Cache) (*placer, error) {
	identity, err := identities(c)
	if err != nil {
		return nil, err
	}
	return &placer{identity: identity, system: system, settings: settings{
		Session: plainOptions(c), MaxUnpacked: int64(c.Limits.Unpacked), NoTextIndex: c.Search.Index == "off",
		Level: c.Log.Level, Format: c.Log.Format, Landlock: c.Isolation.Landlock, Seccomp: c.Isolation.Seccomp,
		Write: slices.Concat(c.Mail.LinkTo, c.Isolation.Write), Audit: c.Log.Audit != "off",
	}}, nil
}

// owner completes what is known of a user by what the system knows: whose the mail is, in
// which groups that user is, and the home.
func (p *placer) owner(ctx context.Context, u auth.User) (auth.User, []uint32, error) {
	var groups []uint32
	sys, err := p.system.Find(ctx, u.Name)
	switch {
	case err == nil:
		if !u.HasUID {
			u.UID, u.HasUID = sys.UID, true
		}
		if u.Home == "" {
			u.Home = sys.Home
		}
		if u.UID == sys.UID {
			if !u.HasGID {
				u.GID, u.HasGID = sys.GID, true
			}
			groups = sys.Groups
		}
	case !errors.Is(err, sysuser.ErrUnknown):
		return u, nil, fmt.Errorf("user %s: %w", u.Name, err)
	case !u.HasUID:
		return u, nil, fmt.Errorf("user %s has no userdb_uid, and %w", u.Name, err)
	}
	if !u.HasGID {
		return u, nil, fmt.Errorf("user %s has a uid of its own and no userdb_gid", u.Name)
	}
	return u, groups, nil
}

// order says where a user's mail is, and as whom to work there.
func (p *placer) order(ctx context.Context, u auth.User) (o workers.Order, who store.Identity, s settings, err error) {
	if u, o.Groups, err = p.owner(ctx, u); err != nil {
		return o, who, s, err
	}
	if who, err = p.identity(u); err != nil {
		return o, who, s, err
	}
	o.UID, o.GID = u.UID, u.GID
	root := who.Roots[0]
	for _, dir := range []string{root.Mail, root.Inbox, root.Control, root.Index} {
		if dir != "" && !slices.Contains(o.Dirs, dir) {
			o.Dirs = append(o.Dirs, dir)
		}
	}
	return o, who, p.settings, nil
}

// serveWorker is the process that has the mail of one uid.
func serveWorker(ctx context.Context, env *environment, parent *os.File) error {
	sv := &service{config: config.Default(), role: workers.RoleWorker}
	sv.log = sv.logger(env.stderr, env.getenv("JOURNAL_STREAM") != "")
	var audit atomic.Bool
	w := &workers.Worker{Log: sv.log, Deliver: deliver, Deeds: func(d session.Deed) bool { return audit.Load() || d.What == "expunge" }} // of bursts somebody always wants to know
	w.Open = func(b workers.Begin, raw json.RawMessage) (store.Store, error) {
		var s settings
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, err
		}
		sv.config.Log = config.Log{Level: s.Level, Format: s.Format}
		sv.log = sv.logger(env.stderr, env.getenv("JOURNAL_STREAM") != "").With("uid", os.Getuid())
		w.Log = sv.log
		sv.config.Isolation.Landlock, sv.config.Isolation.Seccomp = s.Landlock, s.Seccomp
		if env.own {
			if err := sv.confineWorker(b.Dirs, s.Write); err != nil {
				return nil, err
			}
		}
		sv.config.Limits.Unpacked = config.Size(s.MaxUnpacked)
		if s.NoTextIndex {
			sv.config.Search.Index = "off"
		}
		return openStore(sv.config, sv.log)
	}
	w.Options = func(raw json.RawMessage) (*session.Options, error) {
		var s settings
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, err
		}
		audit.Store(s.Audit)
		sv.level.Set(levels[s.Level])
		s.Session.Log = sv.log
		return &s.Session, nil
	}
	return w.Serve(ctx, parent)
}

// confineWorker leaves this process the mail, and neither programs nor sockets.
func (sv *service) confineWorker(dirs, more []string) error {
	iso := sv.config.Isolation
	if iso.Landlock != "off" {
		p := confine.Paths{Read: everyProgram.Read, Write: slices.Concat(everyProgram.Write, more)}
		for _, dir := range dirs {
			p.Write = append(p.Write, existing(dir))
		}
		if err := confine.Landlock(p, true); err != nil {
			if err := sv.unconfined(iso.Landlock, "isolation.landlock", err); err != nil {
				return err
			}
		} else {
			sv.log.Debug("confined", "event", "isolation", "role", sv.role, "landlock", confine.LandlockABI(), "write", p.Write)
		}
	}
	if iso.Seccomp != "off" {
		if err := confine.Seccomp(confine.Programs, confine.Sockets); err != nil {
			if err := sv.unconfined(iso.Seccomp, "isolation.seccomp", err); err != nil {
				return err
			}
		}
	}
	return nil
}

// existing is dir, or what there is of the way to it: what is missing is made there. A
// directory of the system is never opened for that.
func existing(dir string) string {
	for d := filepath.Clean(dir); !slices.Contains(system, d); d = filepath.Dir(d) {
		if _, err := os.Stat(d); err == nil {
			return d
		}
	}
	return dir
}
