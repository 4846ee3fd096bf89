package auth

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/xdg-go/scram"
)

// The exchanges of RFC 5802 section 5 and RFC 7677 section 3.
func TestScramVectors(t *testing.T) {
	for _, v := range []struct{ mech, salt, nonce, c1, s1, c2, s2 string }{
		{
			"SCRAM-SHA-1", "QSXCR+Q6sek8bf92", "3rfcNHYJY1ZVvWVs7j",
			"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
			"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
			"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
			"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
		},
		{
			"SCRAM-SHA-256", "W22ZaJ0SNY7soEsUEjb6gQ==", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
			"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
			"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
			"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
			"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
		},
	} {
		t.Run(v.mech, func(t *testing.T) {
			salt, _ := base64.StdEncoding.DecodeString(v.salt)
			keys, err := makeScramKeys(scramHash(v.mech), "pencil", salt, 4096)
			if err != nil {
				t.Fatal(err)
			}
			enc := base64.StdEncoding.EncodeToString
			a := newTestAuth(t, Options{File: writeFile(t, fmt.Sprintf("user:{%s}4096,%s,%s,%s\n", v.mech, v.salt, enc(keys.stored), enc(keys.server)))})
			ex, err := a.Start(v.mech, home)
			if err != nil {
				t.Fatal(err)
			}
			ex.(*scramExchange).fresh = func() string { return v.nonce }
			for i, step := range [][2]string{{v.c1, v.s1}, {v.c2, v.s2}} {
				out, done, err := ex.Next(t.Context(), []byte(step[0]))
				if string(out) != step[1] || done || err != nil {
					t.Fatalf("step %d: %q, %v, %v", i+1, out, done, err)
				}
			}
			if _, done, err := ex.Next(t.Context(), []byte{}); !done || err != nil || ex.User().Name != "user" {
				t.Errorf("the end: %v, %v, %+v", done, err, ex.User())
			}
		})
	}
}

// converse lets a client of another library speak with a mechanism.
func converse(t *testing.T, a *Auth, mech string, at Attempt, c *scram.ClientConversation) (User, error) {
	t.Helper()
	ex, err := a.Start(mech, at)
	if err != nil {
		return User{}, err
	}
	var challenge []byte
	for range 4 {
		say, err := c.Step(string(challenge))
		if err != nil {
			return User{}, fmt.Errorf("the client: %w", err)
		}
		var done bool
		if challenge, done, err = ex.Next(t.Context(), []byte(say)); err != nil {
			return User{}, err
		}
		if done {
			if !c.Valid() {
				t.Error("the client is not content with the server")
			}
			return ex.User(), nil
		}
	}
	return User{}, errors.New("no end")
}

var scramClients = map[string]scram.HashGeneratorFcn{"SCRAM-SHA-1": scram.SHA1, "SCRAM-SHA-256": scram.SHA256}

// Whatever way a password that SCRAM can use is stored, a client gets in with it and with
// no other; names and passwords of any language come through.
func TestScramWithAnotherLibrary(t *testing.T) {
	stored := func(scheme, password string) string {
		h, err := NewHash(scheme, password, false)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	text := strings.Join([]string{
		"ann:{PLAIN}secret", "a,b=c:{PLAIN}secret", "bjørn:{PLAIN}Ⅸ på", // SASLprep makes IX of the Roman number
		"hashed:" + stored("scram-sha-256", "Ⅸ på"), "off:!{PLAIN}secret", "away:{PLAIN}secret::::::nologin",
		"nets:{PLAIN}secret::::::allow_nets=10.0.0.0/8", "other:{PLAIN}secret::::::user=ann",
	}, "\n") + "\n"
	synctest.Test(t, func(t *testing.T) {
		for mech, hash := range scramClients {
			file := text
			if mech == "SCRAM-SHA-1" {
				file = strings.ReplaceAll(text, "hashed:{SCRAM-SHA-256}", "hashed:!{SCRAM-SHA-256}")
			}
			a := newTestAuth(t, Options{File: writeFile(t, file)})
			for _, c := range []struct {
				user, password, authzid string
				want                    error
			}{
				{"ann", "secret", "", nil},
				{"Ann", "secret", "ann", nil},
				{"ann", "wrong", "", ErrDenied},
				{"ann", "secret", "ben", ErrUnauthorized},
				{"a,b=c", "secret", "a,b=c", nil},
				{"bjørn", "IX på", "", nil},
				{"off", "secret", "", ErrDenied},
				{"away", "secret", "", ErrUnavailable},
				{"nets", "secret", "", ErrDenied},
				{"nobody", "secret", "", ErrDenied},
				{"../x", "secret", "", ErrDenied},
				{"other", "secret", "", nil},
			} {
				client, err := hash.NewClient(c.user, c.password, c.authzid)
				if err != nil {
					t.Fatal(err)
				}
				u, err := converse(t, a, mech, home, client.NewConversation())
				if !errors.Is(err, c.want) {
					t.Errorf("%s, %q with %q: %v, want %v", mech, c.user, c.password, err, c.want)
				}
				if c.user == "other" && (u.Name != "ann" || u.Login != "other") {
					t.Errorf("other is %+v", u)
				}
			}
			if mech == "SCRAM-SHA-256" {
				client, _ := hash.NewClient("hashed", "IX på", "")
				if _, err := converse(t, a, mech, home, client.NewConversation()); err != nil {
					t.Errorf("%s, stored keys: %v", mech, err)
				}
				if _, err := a.Login(t.Context(), "hashed", "Ⅸ på", home); err != nil {
					t.Errorf("the same password by LOGIN: %v", err)
				}
			}
		}
	})
}

// A user who is not there is answered with a salt like that of the others, the same each
// time, and one that others cannot compute.
func TestScramDoesNotTellWhoIsThere(t *testing.T) {
	a := newTestAuth(t, Options{File: writeFile(t, "ann:{PLAIN}secret\nben:{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n")})
	first := func(a *Auth, name string) (salt, rounds string) {
		ex, err := a.Start("SCRAM-SHA-256", home)
		if err != nil {
			t.Fatal(err)
		}
		out, _, err := ex.Next(t.Context(), []byte("n,,n="+name+",r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(string(out), ",")
		return parts[1], parts[2]
	}
	var salts []string
	for _, name := range []string{"ann", "ben", "zoe", "zed", "=2C"} {
		salt, rounds := first(a, name)
		if again, _ := first(a, name); again != salt {
			t.Errorf("%s: another salt each time", name)
		}
		if len(salt) != len("s=W22ZaJ0SNY7soEsUEjb6gQ==") || rounds != "i=4096" {
			t.Errorf("%s: %s, %s", name, salt, rounds)
		}
		for _, other := range salts {
			if other == salt {
				t.Errorf("%s: a salt twice", name)
			}
		}
		salts = append(salts, salt)
	}
	b := newTestAuth(t, Options{File: writeFile(t, "ann:{PLAIN}other\n")})
	if salt, _ := first(b, "zoe"); salt == salts[2] {
		t.Error("the salt of nobody is the same on another server")
	}
}

// What is no message of the mechanism is malformed, and a proof of another channel,
// nonce or header is refused.
func TestScramRefusesWhatIsNotWellFormed(t *testing.T) {
	synctest.Test(t, scramRefusesWhatIsNotWellFormed)
}

func scramRefusesWhatIsNotWellFormed(t *testing.T) {
	a := newTestAuth(t, Options{File: writeFile(t, "ann:{PLAIN}secret\n"), Trusted: everywhere})
	for _, first := range []string{
		"", "n", "n,", "n,,", "n,,n=ann", "n,,r=x,n=ann", "n,,m=x,n=ann,r=abc", "x,,n=ann,r=abc", "n,b=x,n=ann,r=abc",
		"n,a=,n=ann,r=abc", "n,a==,n=ann,r=abc", "n,,n=a=2,r=abc", "n,,n=,r=abc", "n,,n=ann,r=", "n,,n=ann,r=a b", "n,,n=ann,r=ä",
		"p=tls-exporter,,n=ann,r=abc", "p=,,n=ann,r=abc", "n,,n=a\x00,r=abc", "n,,n=\xff,r=abc",
	} {
		ex, _ := a.Start("SCRAM-SHA-256", home)
		if _, _, err := ex.Next(t.Context(), []byte(first)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", first, err)
		}
	}
	for final, want := range map[string]error{
		"": ErrMalformed, "c=biws,r=%s": ErrMalformed, "c=biws,r=%s,p=": ErrDenied, "c=biws,r=%s,p=!": ErrMalformed,
		"c=biws,r=%sx,p=AAAA": ErrMalformed, "r=%s,c=biws,p=AAAA": ErrMalformed, "c=!,r=%s,p=AAAA": ErrMalformed,
		"c=biws,r=%s,p=AAAA": ErrDenied, "c=biws,r=%s,p=" + strings.Repeat("A", 4000): ErrDenied,
	} {
		ex, _ := a.Start("SCRAM-SHA-256", home)
		out, _, err := ex.Next(t.Context(), []byte("n,,n=ann,r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		nonce, _, _ := strings.Cut(strings.TrimPrefix(string(out), "r="), ",")
		if _, done, err := ex.Next(t.Context(), []byte(strings.ReplaceAll(final, "%s", nonce))); !errors.Is(err, want) || done {
			t.Errorf("%.40q: %v", final, err)
		}
	}
}

// channel gives both ends of a TLS connection.
func channel(t *testing.T, server, client *tls.Config) (at Attempt, state *tls.ConnectionState) {
	t.Helper()
	a, b := net.Pipe()
	s, c := tls.Server(a, server), tls.Client(b, client)
	done := make(chan error, 1)
	go func() { done <- s.Handshake() }()
	if err := errors.Join(c.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	// They are only asked for what they agreed on.
	near, far := s.ConnectionState(), c.ConnectionState()
	t.Cleanup(func() { a.Close(); b.Close() })
	at = home
	at.TLS = &near
	return at, &far
}

// -PLUS binds to the connection: whoever stands in between, with a connection to each
// side, does not get in with what the client says.
func TestScramPlusBindsToTheConnection(t *testing.T) { synctest.Test(t, scramPlusBindsToTheConnection) }

func scramPlusBindsToTheConnection(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, "mail.example.org", nil)
	serverConfig := &tls.Config{Certificates: []tls.Certificate{cert}}
	clientConfig := &tls.Config{RootCAs: ca.pool(), ServerName: "mail.example.org"}
	a := newTestAuth(t, Options{File: writeFile(t, "ann:{PLAIN}secret\n"), Trusted: everywhere})
	if err := offered(a, home); strings.Contains(err, "PLUS") || !strings.Contains(err, "SCRAM-SHA-256 ") {
		t.Errorf("without TLS: %s", err)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		serverConfig.MaxVersion = version
		at, state := channel(t, serverConfig, clientConfig)
		other, otherState := channel(t, serverConfig, clientConfig)
		end, err := scram.NewTLSServerEndpointBinding(state)
		if err != nil {
			t.Fatal(err)
		}
		at.EndPoints = [][]byte{{1, 2, 3}, end.Data}
		other.EndPoints = at.EndPoints
		if got := offered(a, at); !strings.Contains(got, "SCRAM-SHA-256-PLUS ") || !strings.Contains(got, "SCRAM-SHA-1-PLUS ") {
			t.Errorf("with TLS: %s", got)
		}
		exporter, err := scram.NewTLSExporterBinding(state)
		if err != nil {
			t.Fatal(err)
		}
		foreign, err := scram.NewTLSExporterBinding(otherState)
		if err != nil {
			t.Fatal(err)
		}
		for mech, hash := range scramClients {
			client, _ := hash.NewClient("ann", "secret", "ann")
			for _, c := range []struct {
				name, mech string
				conv       *scram.ClientConversation
				want       error
			}{
				{"tls-exporter", mech + "-PLUS", client.NewConversationWithChannelBinding(exporter), nil},
				{"tls-server-end-point", mech + "-PLUS", client.NewConversationWithChannelBinding(end), nil},
				{"another connection", mech + "-PLUS", client.NewConversationWithChannelBinding(foreign), ErrDenied},
				{"another certificate", mech + "-PLUS", client.NewConversationWithChannelBinding(scram.ChannelBinding{Type: end.Type, Data: bytes.Repeat([]byte{7}, 32)}), ErrDenied},
				{"tls-unique", mech + "-PLUS", client.NewConversationWithChannelBinding(scram.NewTLSUniqueBinding([]byte("x"))), ErrMalformed},
				{"none", mech + "-PLUS", client.NewConversation(), ErrMalformed},
				{"bound without PLUS", mech, client.NewConversationWithChannelBinding(exporter), ErrMalformed},
				{"could bind, was not told", mech, client.NewConversationAdvertisingChannelBinding(), ErrDenied},
				{"cannot bind", mech, client.NewConversation(), nil},
			} {
				if _, err := converse(t, a, c.mech, at, c.conv); !errors.Is(err, c.want) {
					t.Errorf("%s, TLS %x, %s: %v, want %v", c.mech, version, c.name, err, c.want)
				}
			}
			// With PLUS switched off the server cannot bind, and a client may say that it could.
			plain := newTestAuth(t, Options{File: writeFile(t, "ann:{PLAIN}secret\n"), Mechanisms: []string{mech}})
			if _, err := converse(t, plain, mech, at, client.NewConversationAdvertisingChannelBinding()); err != nil {
				t.Errorf("%s alone: %v", mech, err)
			}
		}
	}
}

// A mechanism is offered only where all users can log in by it.
func TestMechanismsAreOfferedWhereTheyCanSucceed(t *testing.T) {
	sha256 := "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	for _, c := range []struct {
		text string
		opt  Options
		want string
	}{
		{"ann:{PLAIN}x\n", Options{}, "SCRAM-SHA-256 SCRAM-SHA-1 PLAIN LOGIN "},
		{"ann:{PLAIN}x\nben:" + sha256 + "\n", Options{}, "SCRAM-SHA-256 PLAIN LOGIN "},
		{"ann:{PLAIN}x\nben:$6$abcdefgh$U4pgEIulZKy0lQsRnAZP6jVochJ.6m1cIgtqABrewJ/CFcC3SCz6TfpkDuAa32YETvVmjCa/9wKp0IkFcnm1S0\n", Options{}, "PLAIN LOGIN "},
		{"ann:" + sha256 + "\nlocked:!$6$x\n", Options{}, "SCRAM-SHA-256 PLAIN LOGIN "},
		{"# nobody\n", Options{}, "PLAIN LOGIN "},
		{"ann:{PLAIN}x\n", Options{Sources: []Source{&asked{}}}, "PLAIN LOGIN "},
		{"ann:{PLAIN}x\n", Options{Mechanisms: []string{"LOGIN", "SCRAM-SHA-1"}}, "SCRAM-SHA-1 LOGIN "},
		{"ann:{PLAIN}x\n", Options{Mechanisms: []string{"EXTERNAL"}}, ""},
	} {
		c.opt.File = writeFile(t, c.text)
		a := newTestAuth(t, c.opt)
		if got := offered(a, home); got != c.want {
			t.Errorf("%q: %s, want %s", c.text, got, c.want)
		}
		if a.Passwords(home) != strings.Contains(c.want, "LOGIN") {
			t.Errorf("%q: passwords %v", c.text, a.Passwords(home))
		}
		for _, name := range AllMechanisms() {
			_, err := a.Start(name, home)
			if (err == nil) != strings.Contains(" "+c.want, " "+name+" ") {
				t.Errorf("%q: start of %s: %v", c.text, name, err)
			}
			if _, err := a.Start(name, Attempt{}); err == nil {
				t.Errorf("%s is taken in the clear", name)
			}
		}
	}
}

// offered lists the mechanisms, each with a blank behind it.
func offered(a *Auth, at Attempt) string {
	list := ""
	for _, name := range a.Mechanisms(at) {
		list += name + " "
	}
	return list
}

// Whatever a client sends, an exchange ends without a panic and lets nobody in.
func FuzzScram(f *testing.F) {
	f.Add("n,,n=ann,r=abc", "c=biws,r=abcxyz,p=AAAA")
	f.Add("y,a=ann,n=a=2Cb,r=x,e=1", "c=eSws,r=xxyz,ext=1,p=AAAA")
	f.Add("p=tls-exporter,,n=ann,r=x", ",p=")
	path := writeFile(f, "ann:{PLAIN}secret\n")
	a, err := New(Options{File: path, NoWatch: true, Trusted: everywhere})
	if err != nil {
		f.Fatal(err)
	}
	defer a.Close()
	f.Fuzz(func(t *testing.T, first, final string) {
		for _, mech := range []string{"SCRAM-SHA-1", "SCRAM-SHA-256"} {
			ex := &scramExchange{auth: a, mech: mech, newHash: scramHash(mech), fresh: func() string { return "xyz" }}
			if _, done, err := ex.Next(t.Context(), []byte(first)); err != nil || done {
				continue
			}
			ex.why = "the fuzzer" // no delay, whoever it is
			if _, _, err := ex.prove(expired(t), final); err == nil {
				t.Errorf("%q, %q let in", first, final)
			}
		}
	})
}
