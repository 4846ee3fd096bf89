package auth

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func newTestAuth(t *testing.T, opt Options) *Auth {
	t.Helper()
	opt.NoWatch = true // no inotify: its goroutine would stop the clock of a synctest bubble
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	a, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

var home = Attempt{Addr: netip.MustParseAddr("192.0.2.7"), Secure: true, Protocol: "imap"}

const users = `# users
ann:{PLAIN}secret:1000:1001:Ann:/home/%d/%n::userdb_mail=maildir:/var/vmail/%d/%n userdb_quota_rule=*:storage=10M:messages=100 userdb_acl_groups=a,b
ann@example.org:{PLAIN}secret::::/home/%d/%n
off:!{PLAIN}secret
star:*
nets:{PLAIN}secret::::::allow_nets=10.0.0.0/8,2001:db8::/32,192.0.2.9,local
badnets:{PLAIN}secret::::::allow_nets=10.0.0.0/33
closed:{PLAIN}secret::::::nologin reason=Moved
away:{PLAIN}secret::::::proxy=y host=192.0.2.1
other:{PLAIN}secret::::::user=ann
far:{PLAIN}secret::::::delay_until=4000000000
open:::::::nopassword
empty:
root:{PLAIN}secret:0:0
des:abA5hjwYqm1.I
CaseUser:{PLAIN}secret
twice:{PLAIN}first
twice:{PLAIN}second
oldform:{PLAIN}secret:1000:1000::/home/oldform:::/var/mail/oldform
pam:179ad45c6ce2cb97cf1029e212046e81[34]
smtpd	$6$abcdefgh$U4pgEIulZKy0lQsRnAZP6jVochJ.6m1cIgtqABrewJ/CFcC3SCz6TfpkDuAa32YETvVmjCa/9wKp0IkFcnm1S0
apache:$apr1$lZL6V/ci$sQw6g73nRuoOIj/gnD18Z.
`

func TestLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newTestAuth(t, Options{File: writeFile(t, users), Trusted: everywhere})
		at := func(addr string) Attempt {
			if addr == "" {
				return Attempt{}
			}
			return Attempt{Addr: netip.MustParseAddr(addr)}
		}
		for _, c := range []struct {
			user, password, addr string
			want                 error
		}{
			{"ann", "secret", "192.0.2.7", nil},
			{"ANN", "secret", "192.0.2.7", nil},
			{"ann@example.org", "secret", "192.0.2.7", nil},
			{"ann", "Secret", "192.0.2.7", ErrDenied},
			{"ann", "", "192.0.2.7", ErrDenied},
			{"ann", strings.Repeat("x", 5000), "192.0.2.7", ErrDenied},
			{"nobody", "secret", "192.0.2.7", ErrDenied},
			{"", "secret", "192.0.2.7", ErrDenied},
			{"../ann", "secret", "192.0.2.7", ErrDenied},
			{"..@example.org", "secret", "192.0.2.7", ErrDenied},
			{"ann\x00", "secret", "192.0.2.7", ErrDenied},
			{"off", "secret", "192.0.2.7", ErrDenied},
			{"star", "*", "192.0.2.7", ErrDenied},
			{"nets", "secret", "192.0.2.7", ErrDenied},
			{"nets", "secret", "10.1.2.3", nil},
			{"nets", "secret", "192.0.2.9", nil},
			{"nets", "secret", "::ffff:10.1.2.3", nil},
			{"nets", "secret", "2001:db8::1", nil},
			{"nets", "secret", "", nil},
			{"badnets", "secret", "10.1.2.3", ErrDenied},
			{"closed", "wrong", "192.0.2.7", ErrDenied},
			{"closed", "secret", "192.0.2.7", ErrUnavailable},
			{"away", "secret", "192.0.2.7", ErrUnavailable},
			{"far", "secret", "192.0.2.7", ErrUnavailable},
			{"other", "secret", "192.0.2.7", nil},
			{"open", "anything", "192.0.2.7", ErrDenied},
			{"open", "", "192.0.2.7", ErrDenied},
			{"empty", "", "192.0.2.7", ErrDenied},
			{"root", "secret", "192.0.2.7", ErrDenied},
			{"des", "testpass", "192.0.2.7", ErrDenied},
			{"caseuser", "secret", "192.0.2.7", ErrDenied},
			{"CaseUser", "secret", "192.0.2.7", ErrDenied},
			{"twice", "first", "192.0.2.7", nil},
			{"twice", "second", "192.0.2.7", ErrDenied},
			{"oldform", "secret", "192.0.2.7", nil},
			{"pam", "testpass", "192.0.2.7", nil},
			{"smtpd", "testpass", "192.0.2.7", nil},
			{"apache", "myPassword", "192.0.2.7", nil},
		} {
			_, err := a.Login(t.Context(), c.user, c.password, at(c.addr))
			if !errors.Is(err, c.want) {
				t.Errorf("%q with %.10q from %s: %v, want %v", c.user, c.password, c.addr, err, c.want)
			}
			if errors.Is(err, ErrDenied) && err.Error() != ErrDenied.Error() {
				t.Errorf("%q: the text %q tells more than that it failed", c.user, err)
			}
			_, _, ok := a.Explain(t.Context(), c.user, &c.password, at(c.addr))
			if ok != (c.want == nil) {
				t.Errorf("%q: Explain says %v, Login %v", c.user, ok, err)
			}
		}
	})
}

func TestUserFields(t *testing.T) {
	a := newTestAuth(t, Options{File: writeFile(t, users)})
	u, err := a.Login(t.Context(), "Ann@Example.ORG", "secret", home)
	if err != nil || u.Home != "/home/example.org/ann" || u.HasUID || u.Name != "ann@example.org" {
		t.Errorf("%+v, %v", u, err)
	}
	u, err = a.Login(t.Context(), "other", "secret", home)
	if err != nil || u.Name != "ann" || u.Login != "other" || u.UID != 1000 || u.GID != 1001 || !u.HasUID || !u.HasGID ||
		u.Mail != "maildir:/var/vmail/%d/%n" || u.QuotaBytes != 10<<20 || u.QuotaMessages != 100 || !slices.Equal(u.Groups, []string{"a", "b"}) {
		t.Errorf("user= does not give the other's mail: %+v, %v", u, err)
	}
	if u, _ = a.Lookup("oldform", home); u.Mail != "/var/mail/oldform" {
		t.Errorf("the old form's mail is %q", u.Mail)
	}
	var r *Refusal
	_, err = a.Login(t.Context(), "closed", "secret", home)
	if !errors.As(err, &r) || r.Text != "Moved" {
		t.Errorf("nologin's reason is not told: %v", err)
	}
}

// What a guesser can see of unknown, wrong and disabled is one thing: the answer and its
// time, counted from the start of the attempt.
func TestFailuresLookAlike(t *testing.T) {
	for _, user := range []string{"ann", "nobody", "off", "star", "des", "nets", "../x"} {
		synctest.Test(t, func(t *testing.T) {
			a := newTestAuth(t, Options{File: writeFile(t, users)})
			start := time.Now()
			_, err := a.Login(t.Context(), user, "wrong", home)
			if err == nil || err.Error() != "authentication failed" {
				t.Errorf("%s: %v", user, err)
			}
			if took := time.Since(start); took != firstDelay {
				t.Errorf("%s: answered after %v", user, took)
			}
		})
	}
}

// A user who is not there costs a hash of the class that most users have.
func TestDummyIsTheCommonest(t *testing.T) {
	text := "a:{PLAIN}x\n" + strings.Repeat("#\n", 3) +
		"b:$6$rounds=1000$abcdefgh$" + strings.Repeat("a", 86) + "\n" +
		"c:$6$rounds=1000$abcdefgi$" + strings.Repeat("b", 86) + "\n" +
		"d:!{PLAIN}x\ne:!{PLAIN}x\n"
	tab := parseTable("f", []byte(text), true, systemIDs)
	if tab.dummy.class != "SHA512-CRYPT 1000" {
		t.Errorf("dummy is %q", tab.dummy.class)
	}
	if tab = parseTable("f", nil, true, systemIDs); tab.dummy.Scheme != "ARGON2ID" || tab.dummy.Locked {
		t.Errorf("dummy of an empty file is %+v", tab.dummy)
	}
}

// Every unusable line is named with file, line, user and what to do, and no problem
// shows a password.
func TestProblems(t *testing.T) {
	tab := parseTable("/etc/roost/passwd", []byte(users), true, systemIDs)
	var all strings.Builder
	for _, p := range tab.problems {
		all.WriteString(p.Error() + "\n")
	}
	for _, want := range []string{
		`/etc/roost/passwd:15: user "des": DES crypt: not supported; replace it with: roost passwd change --file /etc/roost/passwd des`,
		`/etc/roost/passwd:12: user "open": nopassword would let anybody in`,
		`/etc/roost/passwd:13: user "empty": has no password; set one with: roost passwd change --file /etc/roost/passwd empty`,
		`/etc/roost/passwd:14: user "root": mail of uid 0 is not served`,
		`/etc/roost/passwd:16: user "CaseUser": login names are folded`,
		`/etc/roost/passwd:18: user "twice": is already in line 17, which counts`,
		`/etc/roost/passwd:7: user "badnets": allow_nets`,
		`/etc/roost/passwd:9: user "away": proxy`,
	} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("no problem says %q", want)
		}
	}
	if strings.Contains(all.String(), "secret") || strings.Contains(all.String(), "abA5") {
		t.Error("a problem shows a password")
	}
	if t.Failed() {
		t.Log(all.String())
	}
}

// A damaged new version leaves the last good one in force, and the log has its line.
func TestDamagedVersion(t *testing.T) {
	for name, text := range map[string]string{
		"bad base64":     "ann:{PLAIN}new\nben:{SSHA}!!!\n",
		"nul bytes":      "ann:{PLAIN}new\nben:\x00\x00\x00\x00\n",
		"cut off":        "ann:{PLAIN}new\nben:{ARGON2ID}$argon2id$v=19$m=65536,t=3",
		"cut in a name":  "ann:{PLAIN}new\nbe",
		"cut in scheme":  "ann:{PLAIN}new\nben:{ARG",
		"latin1":         "ann:{PLAIN}new\nb\xe4n:{PLAIN}x\n",
		"something else": "ann:{PLAIN}new\n<html> whatever\n",
	} {
		t.Run(name, func(t *testing.T) {
			path := writeFile(t, "ann:{PLAIN}old\n")
			var log bytes.Buffer
			a := newTestAuth(t, Options{File: path, Log: slog.New(slog.NewTextHandler(&log, nil))})
			if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if _, err := a.Login(t.Context(), "ann", "old", home); err != nil {
					t.Fatalf("the old version is not in force: %v", err)
				}
			}
			if n := strings.Count(log.String(), "event=passwd_damaged"); n != 1 || !strings.Contains(log.String(), path+":2") {
				t.Errorf("logged %d times:\n%s", n, log.String())
			}
			if strings.Contains(log.String(), "new") {
				t.Errorf("the log shows a password:\n%s", log.String())
			}
			if a.Reload() == nil {
				t.Error("Reload says that it is good")
			}
			if err := os.WriteFile(path, []byte("ann:{PLAIN}mended\n"), 0o640); err != nil {
				t.Fatal(err)
			}
			if _, err := a.Login(t.Context(), "ann", "mended", home); err != nil {
				t.Errorf("the mended version is not in force: %v", err)
			}
		})
	}
}

// A file that is empty or gone for an instant changes nothing.
func TestMissingVersion(t *testing.T) {
	path := writeFile(t, "ann:{PLAIN}old\n")
	a := newTestAuth(t, Options{File: path})
	for _, change := range []func() error{
		func() error { return os.WriteFile(path, nil, 0o640) },
		func() error { return os.Remove(path) },
		func() error { return os.Mkdir(path, 0o750) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Login(t.Context(), "ann", "old", home); err != nil {
			t.Error(err)
		}
	}
	if _, err := New(Options{File: path + "/none", Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("New without a file succeeds")
	}
}

// Problems of single users do not keep a new version from coming into force.
func TestRefusedLineIsNoDamage(t *testing.T) {
	path := writeFile(t, "ann:{PLAIN}old\n")
	a := newTestAuth(t, Options{File: path})
	if err := os.WriteFile(path, []byte("des:abA5hjwYqm1.I\nann:{PLAIN}new\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Login(t.Context(), "ann", "new", home); err != nil {
		t.Error(err)
	}
}

// The watch reads the file though nobody logs in.
func TestWatch(t *testing.T) {
	path := writeFile(t, "ann:{PLAIN}old\n")
	log := &lines{want: "event=passwd_damaged", seen: make(chan struct{})}
	a, err := New(Options{File: path, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("ann:{SSHA}!\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	<-log.seen
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// lines waits for a line of the log.
type lines struct {
	want string
	once sync.Once
	seen chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(l.want)) {
		l.once.Do(func() { close(l.seen) })
	}
	return len(p), nil
}

// A crowd with one password computes it once, remembers it, and forgets it when the
// entry changes.
func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(time.Minute)
		computed := 0
		start := make(chan struct{})
		m := c.mac("ann", "secret", "entry")
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() {
				ok, err := c.verify(t.Context(), m, func() (outcome, error) { computed++; <-start; return outcome{verdict: Right}, nil })
				if ok.verdict != Right || err != nil {
					t.Error(ok, err)
				}
			})
		}
		synctest.Wait()
		close(start)
		wg.Wait()
		again := func(m mac, right Verdict) {
			ok, err := c.verify(t.Context(), m, func() (outcome, error) { computed++; return outcome{verdict: right}, nil })
			if ok.verdict != right || err != nil {
				t.Error(ok, err)
			}
		}
		again(m, Right)
		if computed != 1 {
			t.Errorf("computed %d times", computed)
		}
		again(c.mac("ann", "secret", "changed entry"), Right)
		again(c.mac("annsecret", "", "entry"), Right)
		again(c.mac("ann", "wrong", "entry"), Wrong)
		again(c.mac("ann", "wrong", "entry"), Wrong)
		if computed != 5 {
			t.Errorf("computed %d times, want 5: what differs is not remembered, nor is what is wrong", computed)
		}
		time.Sleep(time.Minute)
		again(m, Right)
		if computed != 6 {
			t.Error("remembered for longer than the time given")
		}
		for i := range maxCached + 50 {
			again(c.mac("ann", "secret", strings.Repeat("x", i%7)+string(rune(0x4e00+i%20000))), Right)
		}
		if len(c.right) > maxCached {
			t.Errorf("%d passwords remembered", len(c.right))
		}
	})
}

// One who hangs up while he waits does not make others fail who wait for him.
func TestCacheLeaderLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(time.Minute)
		m := c.mac("ann", "secret", "")
		gone := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			c.verify(t.Context(), m, func() (outcome, error) { <-gone; return outcome{}, context.Canceled })
		})
		synctest.Wait()
		wg.Go(func() {
			if ok, err := c.verify(t.Context(), m, func() (outcome, error) { return outcome{verdict: Right}, nil }); ok.verdict != Right || err != nil {
				t.Error(ok, err)
			}
		})
		synctest.Wait()
		close(gone)
		wg.Wait()
	})
}

// A flood from one address delays only itself: the others take turns with it.
func TestPoolIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1)
		flood, phone := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		hold := make(chan struct{})
		var mu sync.Mutex
		var order []netip.Addr
		var wg sync.WaitGroup
		enter := func(addr netip.Addr) {
			wg.Go(func() {
				if err := p.do(t.Context(), addr, func() { mu.Lock(); order = append(order, addr); mu.Unlock(); <-hold }); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		for range 10 {
			enter(flood)
		}
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if err := p.do(ctx, phone, func() { t.Error("ran though its ctx ended") }); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		synctest.Wait()
		enter(phone)
		cancel()
		synctest.Wait()
		close(hold)
		wg.Wait()
		if i := slices.Index(order, phone); i < 1 || i > 2 {
			t.Errorf("the phone was number %d", i+1)
		}
		if p.free != 1 || len(p.queues) != 0 || len(p.turn) != 0 {
			t.Errorf("left behind: %+v", p)
		}
	})
}

func TestSASL(t *testing.T) {
	a := newTestAuth(t, Options{File: writeFile(t, users), Trusted: everywhere})
	for _, c := range []struct {
		mech string
		talk []string // responses; "-" for no initial one
		want error
	}{
		{"PLAIN", []string{"\x00ann\x00secret"}, nil},
		{"plain", []string{"-", "\x00ann\x00secret"}, nil},
		{"PLAIN", []string{"ann\x00ann\x00secret"}, nil},
		{"PLAIN", []string{"ANN\x00ann\x00secret"}, nil},
		{"PLAIN", []string{"ann\x00other\x00secret"}, nil}, // user=ann makes other ann
		{"PLAIN", []string{"ben\x00ann\x00secret"}, ErrUnauthorized},
		{"PLAIN", []string{""}, ErrMalformed},
		{"PLAIN", []string{"ann\x00secret"}, ErrMalformed},
		{"PLAIN", []string{"\x00ann\x00secret\x00"}, ErrMalformed},
		{"PLAIN", []string{"\x00\x00secret"}, ErrMalformed},
		{"PLAIN", []string{"\x00ann\x00secr\xe4t"}, ErrMalformed},
		{"LOGIN", []string{"-", "ann", "secret"}, nil},
		{"LOGIN", []string{"ann", "secret"}, nil},
		{"LOGIN", []string{"", "ann", "secret"}, nil},
	} {
		ex, err := a.Start(c.mech, home)
		if err != nil {
			t.Fatal(err)
		}
		done := false
		for i, s := range c.talk {
			response := []byte(s)
			if s == "-" {
				response = nil
			}
			_, done, err = ex.Next(t.Context(), response)
			if err != nil || done != (i == len(c.talk)-1) {
				break
			}
		}
		if !errors.Is(err, c.want) || err == nil && (!done || ex.User().Name != "ann") {
			t.Errorf("%s %q: %v %v, want %v", c.mech, c.talk, done, err, c.want)
		}
	}
	if _, err := a.Start("PLAIN", Attempt{}); !errors.Is(err, ErrMechanism) {
		t.Errorf("PLAIN without TLS: %v", err)
	}
	if _, err := a.Start("CRAM-MD5", home); !errors.Is(err, ErrMechanism) {
		t.Errorf("CRAM-MD5: %v", err)
	}
}

// A file of any bytes: no panic, no user that is not in it, and problems that have a line.
func FuzzParseTable(f *testing.F) {
	f.Add(users)
	f.Add("ann:{PLAIN}x::::::allow_nets=1.2.3.4 userdb_quota_rule=*:storage=9999999999T\n")
	f.Fuzz(func(t *testing.T, text string) {
		ids := func(byte, string) (uint32, error) { return 1000, nil }
		tab := parseTable("f", []byte(text), true, ids)
		for name, e := range tab.entries {
			if !strings.Contains(text, name) || strings.ContainsAny(name, "\n:") || e.line < 1 || e.line > 1+strings.Count(text, "\n") {
				t.Errorf("user %q of line %d", name, e.line)
			}
			if e.refused == "" && !e.hash.Locked {
				if folded, err := foldName(name, true); err != nil || folded != name {
					t.Errorf("user %q can log in", name)
				}
			}
		}
		for _, p := range tab.problems {
			if p.Line < 1 || p.What == "" {
				t.Errorf("%+v", p)
			}
		}
	})
}
