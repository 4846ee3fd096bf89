package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"
)

// Options say how logins are checked.
type Options struct {
	// File is a password file, the first source: Dovecot's passwd-file, an htpasswd, or
	// an OpenSMTPD credentials table. Empty for none.
	File string

	// Sources are asked after File, in their order. Auth closes them.
	Sources []Source

	// KeepCase looks login names up as they were sent. By default they are folded to
	// lower case first, as Dovecot does.
	KeepCase bool

	// Trusted networks speak for many users, as a webmail does: an address there is
	// never made to wait for what others behind it did.
	Trusted []netip.Prefix

	Throttle ThrottleOptions

	// Apps is the file of app passwords; it need not be there. Empty: they are not used.
	Apps string

	// AppsOnly are the protocols for which a user who has an app password that can be used
	// cannot log in by the main password.
	AppsOnly []string

	// AppUses is where it is kept when app passwords were used last; empty for nowhere.
	AppUses string

	// Mechanisms are the SASL mechanisms that may be offered; nil for all. Whether one
	// is depends on the users and the connection too.
	Mechanisms []string

	// Certificates says how clients log in by certificate (EXTERNAL); nil for not at all.
	Certificates *ClientCertificates

	// Tokens checks bearer tokens (OAUTHBEARER, XOAUTH2); nil: none are taken. Auth
	// closes it.
	Tokens Tokens

	// TokenDomains are those of which a token lets in everybody whom it names, though no
	// source has them; "*" is all names.
	TokenDomains []string

	// TokenOutlive is how long a session may live on when the token that began it has
	// expired; 0 is a day, negative as long as it wants.
	TokenOutlive time.Duration

	// Verifiers is how many passwords are computed at one time; 0 is GOMAXPROCS.
	Verifiers int

	// Remember is how long a verified password is known without computing it again;
	// 0 is one minute, negative is not at all.
	Remember time.Duration

	// MasterFile is a password file of master users, who open the mail of others (master.go);
	// "" for none. MasterSeparator stands between the user and the admin: "*".
	MasterFile, MasterSeparator string

	// NoWatch leaves it to each login to see that the file changed.
	NoWatch bool

	Log *slog.Logger // nil: slog.Default()
}

// Auth checks logins. Safe for concurrent use.
type Auth struct {
	opt     Options
	sources []Source
	master  Source               // nil: there are none
	apps    *versions[*appTable] // nil: none
	uses    *appUses             // nil: not kept
	changed atomic.Pointer[func()]

	expiryMu sync.Mutex  // guards expiry and closed; a leaf
	expiry   *time.Timer // nil: no app password ends
	closed   bool

	pool     *pool
	cache    *cache
	throttle *throttle

	closeState func() error // nil: there is none

	unusual atomic.Pointer[func(Unusual)]
}

// New opens the password file as OpenFile does, and puts the other sources behind it.
func New(opt Options) (*Auth, error) {
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	if opt.Verifiers <= 0 {
		opt.Verifiers = runtime.GOMAXPROCS(0)
	}
	if opt.TokenOutlive == 0 {
		opt.TokenOutlive = 24 * time.Hour
	}
	if opt.Remember == 0 {
		opt.Remember = time.Minute
	}
	sources := opt.Sources
	if opt.File != "" {
		f, err := OpenFile(opt.File, FileOptions{KeepCase: opt.KeepCase, NoWatch: opt.NoWatch, Log: opt.Log})
		if err != nil {
			return nil, err
		}
		sources = append([]Source{f}, sources...)
	}
	a := &Auth{
		opt:      opt,
		sources:  sources,
		pool:     newPool(opt.Verifiers),
		cache:    newCache(opt.Remember),
		throttle: newThrottle(opt.Throttle, opt.Trusted),
	}
	if err := a.openApps(); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	if opt.MasterFile != "" {
		f, err := OpenFile(opt.MasterFile, FileOptions{KeepCase: opt.KeepCase, NoWatch: opt.NoWatch, Log: opt.Log})
		if err != nil {
			return nil, errors.Join(err, a.Close())
		}
		a.master = f
	}
	for _, src := range append(slices.Clone(sources), a.master) {
		if c, ok := src.(changing); ok {
			c.OnChange(a.tell)
		}
	}
	return a, nil
}

// openApps reads the app passwords, and when they were used.
func (a *Auth) openApps() error {
	if a.opt.Apps == "" {
		return nil
	}
	a.apps = &versions[*appTable]{
		path: a.opt.Apps, what: "file of app passwords", event: "apps", log: a.opt.Log, absent: true,
		parse: func(b []byte, _ *appTable) (*appTable, error) { return parseApps(a.opt.Apps, b) },
	}
	if err := a.apps.open(); err != nil {
		return err
	}
	tell := a.tell
	a.apps.onChange.Store(&tell)
	if !a.opt.NoWatch {
		if err := a.apps.watch(); err != nil {
			a.opt.Log.Warn("file of app passwords is not watched", "event", "apps_watch", "path", a.opt.Apps, "err", err)
		}
	}
	a.awaitExpiry()
	if a.opt.AppUses != "" {
		a.uses = openAppUses(a.opt.AppUses, a.opt.Log)
	}
	return nil
}

// Close closes the sources, and writes the state. Nobody may log in any more.
func (a *Auth) Close() error {
	a.expiryMu.Lock()
	a.closed = true
	if a.expiry != nil {
		a.expiry.Stop()
	}
	a.expiryMu.Unlock()
	var errs []error
	if a.closeState != nil {
		errs = append(errs, a.closeState())
	}
	if a.apps != nil {
		errs = append(errs, a.apps.close())
	}
	if a.uses != nil {
		errs = append(errs, a.uses.close())
	}
	if a.opt.Tokens != nil {
		errs = append(errs, a.opt.Tokens.Close())
	}
	for _, src := range a.sources {
		errs = append(errs, src.Close())
	}
	if a.master != nil {
		errs = append(errs, a.master.Close())
	}
	return errors.Join(errs...)
}

// Reload reads the sources again, as SIGHUP wants it. What is damaged is an error, and
// what that source had stays in force.
func (a *Auth) Reload() error {
	var errs []error
	if a.apps != nil {
		errs = append(errs, a.apps.reload(true))
	}
	for _, src := range a.sources {
		errs = append(errs, src.Reload())
	}
	if a.master != nil {
		errs = append(errs, a.master.Reload())
	}
	return errors.Join(errs...)
}

// Login says who user is, if the password is theirs and they may log in from where
// they are; otherwise the error is a *Refusal, or that of ctx. It takes as long as it
// takes: a failure is answered after a delay that grows with the failures before it.
func (a *Auth) Login(ctx context.Context, user, password string, at Attempt) (User, error) {
	return a.attempt(ctx, user, at, password, func() (decision, error) { return a.decide(ctx, user, password, at) })
}

// attempt is one try to be somebody, whatever the mechanism: it waits until they may
// try, lets decide say what becomes of it, and counts and delays a failure. secret is
// what was tried: the same one again is not counted again.
func (a *Auth) attempt(ctx context.Context, user string, at Attempt, secret string, decide func() (decision, error)) (User, error) {
	start := time.Now()
	login := a.counted(user)
	tk, why, err := a.throttle.admit(ctx, start, login, at.Addr, a.cache.mac(login, secret, ""))
	if tk == nil && err == nil {
		err = wait(ctx, refusedDelay-time.Since(start))
	}
	if tk == nil {
		if err != nil {
			return User{}, err
		}
		return User{}, &Refusal{Err: ErrThrottled, User: user, Reason: why}
	}
	d, err := a.settled(tk, at, decide)
	if err != nil {
		return User{}, err
	}
	a.tellOf(&d, tk, at)
	if d.refusal == nil {
		if a.uses != nil && d.user.Proof.App != "" {
			a.uses.note(d.user, at)
		}
		return d.user, nil
	}
	d.refusal.User = user
	// Counted from the start, so that the cost of the hash does not show.
	if err := wait(ctx, d.delay-time.Since(start)); err != nil {
		return User{}, err
	}
	return User{}, d.refusal
}

// settled decides and gives the ticket back, whatever comes of it.
func (a *Auth) settled(tk *ticket, at Attempt, decide func() (decision, error)) (d decision, err error) {
	wrong, right := false, false
	defer func() {
		end := a.throttle.settle(time.Now(), tk, wrong, right)
		if d.delay = end.delay; end.repeated {
			d.refusal.Repeated = true
		}
		if end.many {
			a.report(Unusual{EventManyUsers, "", at.Addr, fmt.Sprintf("%v failed to log in as %d users", at.Addr, manyUsers)})
		}
		for _, l := range end.locked {
			a.opt.Log.Warn("locked after failed logins", "event", "login_locked", "what", l.What, "user", l.User,
				"network", l.Network.String(), "until", l.Until.UTC().Format(time.RFC3339), "locks", l.Locks)
			a.report(Unusual{EventLocked, l.User, at.Addr, l.What + " is locked until " + l.Until.UTC().Format(time.RFC3339)})
		}
	}()
	d, err = decide()
	if err == nil {
		wrong = d.refusal != nil && errors.Is(d.refusal, ErrDenied)
		right = d.refusal == nil
	}
	return d, err
}

// Tune puts other numbers and trusted networks in force.
func (a *Auth) Tune(opt ThrottleOptions, trusted []netip.Prefix) { a.throttle.tune(opt, trusted) }

// Gateway notes that an address is that of a gateway with nearly all clients behind it:
// it is never locked, and failures there are counted of users only.
func (a *Auth) Gateway(addr netip.Addr) { a.throttle.gateway(addr) }

// maxName and maxPassword bound what is looked at, in bytes. RFC 4616 section 2 asks
// for 255; the time of a crypt(3) hash grows with the square of the password.
const (
	maxName     = 1024
	maxPassword = 1024
)

var errName = errors.New("user names have no control characters and no slash, and neither they nor their parts around the @ are empty, \".\" or \"..\"")

// foldName brings a login name into the form of the file's keys. The name goes into
// paths later, so what could mean something there is refused.
func (a *Auth) foldName(name string) (string, error) { return foldName(name, !a.opt.KeepCase) }

func foldName(name string, lower bool) (string, error) {
	if len(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool {
		return r == '/' || unicode.IsControl(r)
	}) {
		return "", errName
	}
	local, domain, at := strings.Cut(name, "@")
	for _, part := range []string{name, local, domain} {
		if part == "." || part == ".." {
			return "", errName
		}
	}
	if local == "" || at && domain == "" {
		return "", errName
	}
	if lower {
		name = strings.ToLower(name)
	}
	return name, nil
}

// wait sleeps, but not longer than ctx lasts.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
