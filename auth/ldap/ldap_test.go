package ldap

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"roost/auth"
	"roost/test/neighbour"
)

var imap = auth.Attempt{Secure: true, Protocol: "imap"}

// directory runs slapd with some users.
func directory(t *testing.T) *neighbour.Slapd {
	t.Helper()
	hash, err := auth.NewHash("sha512-crypt", "secret", true)
	if err != nil {
		t.Fatal(err)
	}
	ldif := "dn: ou=people,dc=example,dc=org\nobjectClass: organizationalUnit\nou: people\n\n"
	for _, u := range []struct{ uid, password, more string }{
		{"ann", "secret", "mail: ann@example.org\nhomeDirectory: /home/100%n\n"},
		{"ben", "{CRYPT}" + hash, "mail: ben@example.org\nhomeDirectory: /home/ben\n"},
		{"two", "secret", "mail: twice@example.org\nhomeDirectory: /home/x\n"},
		{"tow", "secret", "mail: twice@example.org\nhomeDirectory: /home/x\n"},
		{"star*(x)\\", "secret", "mail: star*(x)\\@example.org\nhomeDirectory: /home/star\n"},
	} {
		dn := strings.ReplaceAll(u.uid, "\\", "\\\\")
		ldif += fmt.Sprintf("dn: uid=%s,ou=people,dc=example,dc=org\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\ncn: x\nsn: x\nuid: %s\nuidNumber: 1000\ngidNumber: 1000\n%suserPassword: %s\n\n",
			dn, u.uid, u.more, u.password)
	}
	s, err := neighbour.StartSlapd(t.TempDir(), ldif)
	var missing neighbour.Missing
	if errors.As(err, &missing) && os.Getenv("ROOST_PEERS") != "required" {
		t.Skip(missing)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// options are those of a site with that directory.
func options(t *testing.T, s *neighbour.Slapd) Options {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("servicesecret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return Options{
		URLs: []string{"ldap://" + s.Addr}, BindDN: "cn=roost,dc=example,dc=org", PasswordFile: file, Base: "ou=people,dc=example,dc=org",
		Filter: "(&(objectClass=inetOrgPerson)(mail=%u))", Attributes: []string{"homedirectory=userdb_home", "mail=user", "uidNumber=userdb_uid"},
		ListFilter: "(objectClass=inetOrgPerson)", NameAttribute: "mail", Timeout: 20 * time.Second, Log: slog.New(slog.DiscardHandler),
	}
}

func asking(t *testing.T, opt Options) *auth.Auth {
	t.Helper()
	s, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	a, err := auth.New(auth.Options{Sources: []auth.Source{s}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// Users of a directory log in by bind and by hash, in the clear on loopback, by StartTLS
// and by ldaps, and nothing in a name is a filter.
func TestDirectory(t *testing.T) {
	s := directory(t)
	for name, change := range map[string]func(*Options){
		"bind":     func(*Options) {},
		"hash":     func(o *Options) { o.Password = "userPassword" },
		"StartTLS": func(o *Options) { o.StartTLS, o.CA = true, s.CAFile },
		"ldaps":    func(o *Options) { o.URLs, o.CA = []string{"ldaps://" + s.TLSAddr}, s.CAFile },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opt := options(t, s)
			change(&opt)
			a := asking(t, opt)
			var wg sync.WaitGroup
			for _, c := range []struct {
				user, password, home string
				want                 error
			}{
				{"ann@example.org", "secret", "/home/100%n", nil},
				{"ANN@Example.ORG", "secret", "/home/100%n", nil},
				{"ben@example.org", "secret", "/home/ben", nil},
				{"star*(x)\\@example.org", "secret", "/home/star", nil},
				{"ann@example.org", "wrong", "", auth.ErrDenied},
				{"ann@example.org", "", "", auth.ErrDenied},
				{"*@example.org", "secret", "", auth.ErrDenied},
				{"ann*", "secret", "", auth.ErrDenied},
				{"x)(uid=ann", "secret", "", auth.ErrDenied},
				{"x)(|(uid=*))", "secret", "", auth.ErrDenied},
				{"\\61nn@example.org", "secret", "", auth.ErrDenied},
				{"twice@example.org", "secret", "", auth.ErrDenied},
				{"nobody@example.org", "secret", "", auth.ErrDenied},
			} {
				wg.Go(func() { // each failure is delayed
					u, err := a.Login(t.Context(), c.user, c.password, imap)
					if !errors.Is(err, c.want) || u.Home != c.home || err == nil && (u.UID != 1000 || u.Name != strings.ToLower(c.user)) {
						t.Errorf("%s with %q: %+v, %v; want %v", c.user, c.password, u, err, c.want)
					}
				})
			}
			wg.Wait()
			names, silent, err := a.Users(t.Context())
			if got := strings.Join(names, " "); err != nil || silent != nil || got != "ann@example.org ben@example.org twice@example.org star*(x)\\@example.org" {
				t.Errorf("%q, %q, %v", got, silent, err)
			}
		})
	}
}

// A directory finds one entry by many spellings of its name. One user is one user: with one
// mailbox, one quota, and one count of failures.
func TestDirectoryHasOneSpellingOfAName(t *testing.T) {
	s := directory(t)
	opt := options(t, s)
	opt.Filter, opt.Attributes = "(|(uid=%u)(mail=%u))", nil
	a := asking(t, opt)
	if u, err := a.Login(t.Context(), "ann", "secret", imap); err != nil || u.Name != "ann" {
		t.Fatal(u, err)
	}
	var wg sync.WaitGroup
	for _, name := range []string{"ann ", " ann", "ann@example.org ", "\uff41nn", "\u00a0ann"} {
		wg.Go(func() {
			if u, err := a.Login(t.Context(), name, "secret", imap); !errors.Is(err, auth.ErrDenied) {
				t.Errorf("%q is let in as %q: %v", name, u.Name, err)
			}
		})
	}
	wg.Wait()
}

// A server of another name, or of an authority that is not ours, learns no password.
func TestDirectoryWithoutTrust(t *testing.T) {
	s := directory(t)
	for name, change := range map[string]func(*Options){
		"unknown authority": func(o *Options) { o.StartTLS = true },
		"other name": func(o *Options) {
			o.URLs, o.CA = []string{"ldaps://" + strings.Replace(s.TLSAddr, "localhost", "127.0.0.2", 1)}, s.CAFile
		},
		"service password": func(o *Options) { o.PasswordFile = s.CAFile },
		"no such base":     func(o *Options) { o.Base = "ou=nobody,dc=example,dc=org" },
	} {
		opt := options(t, s)
		change(&opt)
		_, err := asking(t, opt).Login(t.Context(), "ann@example.org", "secret", imap)
		var r *auth.Refusal
		if !errors.As(err, &r) || !errors.Is(r, auth.ErrUnavailable) || strings.Contains(r.Reason, "secret") {
			t.Errorf("%s: %v, %+v", name, err, r)
		}
	}
}

// A password of the service and an authority that changed are read again on Reload.
func TestDirectoryIsReadAgain(t *testing.T) {
	s := directory(t)
	opt := options(t, s)
	opt.StartTLS, opt.CA = true, filepath.Join(t.TempDir(), "ca.pem")
	put := func(path, from string) {
		t.Helper()
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(path, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put(opt.CA, s.CAFile)
	a := asking(t, opt)
	login := func(user string, want error) {
		t.Helper()
		if _, err := a.Login(t.Context(), user+"@example.org", "secret", imap); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", user, err, want)
		}
	}
	login("ann", nil)
	if err := os.WriteFile(opt.PasswordFile, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	login("ben", nil) // on the connection that is there
	if err := a.Reload(); err != nil {
		t.Error(err)
	}
	login("nobody", auth.ErrUnavailable)
	if err := os.WriteFile(opt.CA, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Reload(); err == nil {
		t.Error("an authority without a certificate is taken")
	}
	if err := os.WriteFile(opt.PasswordFile, []byte("servicesecret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	login("star*(x)\\", nil) // by the authority that was good
}

// While the first server is silent, away or stopped in the middle, the second answers;
// without any the login is refused for now, and all is well when one is back.
func TestDirectoryThatFails(t *testing.T) {
	s := directory(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections into its queue, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	var wg sync.WaitGroup
	for name, first := range map[string]string{
		"silent": "ldap://" + silent.Addr().String(), "silent TLS": "ldaps://" + silent.Addr().String(), "away": "ldapi:///nonexistent",
	} {
		opt := options(t, s)
		opt.URLs = []string{first, opt.URLs[0]}
		opt.Timeout = 16 * time.Second // half of it for the first
		a := asking(t, opt)
		wg.Go(func() {
			if _, err := a.Login(t.Context(), "ann@example.org", "secret", imap); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()
	opt := options(t, s)
	opt.Timeout = 500 * time.Millisecond
	hung := asking(t, opt)
	refused := func(a *auth.Auth, when string) {
		t.Helper()
		if _, err := a.Login(t.Context(), "ann@example.org", "other", imap); !errors.Is(err, auth.ErrUnavailable) {
			t.Errorf("%s: %v", when, err)
		}
	}
	if err := syscall.Kill(s.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		wg.Go(func() { refused(hung, "while it hangs") })
	}
	wg.Wait()
	if err := syscall.Kill(s.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	a := asking(t, options(t, s))
	for range 2 {
		if _, err := a.Login(t.Context(), "ann@example.org", "secret", imap); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		refused(a, "while it is away")
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Login(t.Context(), "ben@example.org", "secret", imap); err != nil {
			t.Error("after its restart:", err)
		}
	}
}

// What cannot be meant is told before anybody logs in.
func TestOptions(t *testing.T) {
	good := Options{URLs: []string{"ldap://127.0.0.1"}, Base: "dc=org", Filter: "(uid=%n)"}
	if _, err := Open(good); err != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(*Options){
		"filter":       func(o *Options) { o.Filter = "(uid=%n" },
		"needs":        func(o *Options) { o.Filter = "(uid=ann)" },
		"base":         func(o *Options) { o.Base = "no dn" },
		"field":        func(o *Options) { o.Attributes = []string{"x="} },
		"no such file": func(o *Options) { o.CA = "/nonexistent" },
	} {
		o := good
		change(&o)
		if _, err := Open(o); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
