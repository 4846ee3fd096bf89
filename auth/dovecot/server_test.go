package dovecot

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xdg-go/scram"

	"roost/auth"
	"roost/unixsocket"
)

// serving answers one end of a pipe from a password file, inside of a bubble.
type serving struct {
	t   *testing.T
	net net.Conn
	r   *bufio.Reader
	log *buffer
}

type buffer struct {
	mu sync.Mutex // guards b
	b  strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

const users = "plain:{PLAIN}secret\nclosed:{PLAIN}secret::::::nologin reason=closed\nalias:{PLAIN}secret::::::user=plain\n"

func newAuth(t *testing.T, log *slog.Logger) *auth.Auth {
	t.Helper()
	file := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(file, []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := auth.New(auth.Options{File: file, NoWatch: true, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func serve(t *testing.T) *serving {
	t.Helper()
	log := &buffer{}
	return serveWith(t, newAuth(t, slog.New(slog.NewTextHandler(log, nil))), log)
}

func serveWith(t *testing.T, a *auth.Auth, log *buffer) *serving {
	t.Helper()
	server := NewServer(a, slog.New(slog.NewTextHandler(log, nil)))
	client, end := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { // ends with the connection; joined below
		defer close(done)
		server.serve(ctx, end)
	}()
	s := &serving{t, client, bufio.NewReader(client), log}
	t.Cleanup(func() {
		cancel()
		client.Close()
		<-done
	})
	return s
}

func (s *serving) send(lines ...string) {
	s.t.Helper()
	for _, l := range lines {
		if _, err := io.WriteString(s.net, strings.ReplaceAll(l, " ", "\t")+"\n"); err != nil {
			s.t.Fatal(l, err)
		}
	}
}

// line reads one; "" at the end of the connection. Tabs are shown as blanks.
func (s *serving) line() string {
	text, _ := s.r.ReadString('\n')
	return strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\t", " ")
}

// greeted reads up to DONE and answers.
func (s *serving) greeted() (greeting []string) {
	s.t.Helper()
	for {
		text := s.line()
		if text == "" {
			s.t.Fatal("the greeting has no end")
		}
		greeting = append(greeting, text)
		if text == "DONE" {
			s.send("VERSION 1 2", "CPID 4711")
			return greeting
		}
	}
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// What Dovecot 2.3 answers, Roost answers.
func TestTranscript(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		greeting := strings.Join(s.greeted(), "\n")
		for _, want := range []string{"VERSION 1 2\nMECH ", "MECH SCRAM-SHA-256 mutual-auth\n", "MECH PLAIN plaintext\nMECH LOGIN plaintext\nSPID ", "\nCUID 1\nCOOKIE ", "\nDONE"} {
			if !strings.Contains(greeting, want) {
				t.Errorf("the greeting has no %q:\n%s", want, greeting)
			}
		}
		if strings.Contains(greeting, "PLUS") || strings.Contains(greeting, "EXTERNAL") {
			t.Errorf("mechanisms that cannot be used here:\n%s", greeting)
		}
		const local = "service=smtp nologin lip=127.0.0.1 rip=192.0.2.7 secured"
		for _, c := range []struct{ say, want string }{
			{"AUTH 1 PLAIN " + local + " resp=" + b64("\x00plain\x00secret"), "OK 1 user=plain"},
			{"AUTH 2 PLAIN " + local + " resp=" + b64("\x00plain\x00wrong"), "FAIL 2 user=plain"},
			{"AUTH 3 PLAIN service=smtp", "CONT 3 "},
			{"CONT 3 " + b64("\x00plain\x00secret"), "OK 3 user=plain"},
			{"AUTH 4 LOGIN service=smtp", "CONT 4 VXNlcm5hbWU6"},
			{"CONT 4 cGxhaW4=", "CONT 4 UGFzc3dvcmQ6"},
			{"CONT 4 c2VjcmV0", "OK 4 user=plain"},
			{"AUTH 5 login service=smtp resp=cGxhaW4=", "CONT 5 UGFzc3dvcmQ6"},
			{"CONT 5 c2VjcmV0", "OK 5 user=plain"},
			{"AUTH 8 PLAIN service=smtp resp=***", "FAIL 8 code=invalid_base64 reason=Invalid base64 data in initial response"},
			{"AUTH 9 PLAIN service=smtp resp=", "FAIL 9 reason=PLAIN wants authzid NUL authcid NUL password, in UTF-8"},
			{"AUTH 10 NTLM service=smtp", "FAIL 10 reason=Unsupported authentication mechanism"},
			{"AUTH 11 PLAIN service=smtp resp=" + b64("other\x00plain\x00secret"), "FAIL 11 user=plain code=authzfailed authz"},
			{"AUTH 12 PLAIN service=smtp resp=" + b64("\x00closed\x00secret"), "FAIL 12 user=closed code=user_disabled user_disabled reason=closed"},
			{"AUTH 13 PLAIN service=smtp resp=" + b64("\x00alias\x00secret"), "OK 13 user=plain original_user=alias"},
			{"CONT 9 AAAA", "FAIL 9 reason=Unexpected continuation"},
			{"NONSENSE 1\nAUTH 14 PLAIN service=smtp unknown=x resp=" + b64("\x00plain\x00secret"), "OK 14 user=plain"},
			{"AUTH 15 LOGIN service=smtp\nCANCEL 15\nCANCEL 99\nAUTH 15 PLAIN service=smtp resp=" + b64("\x00plain\x00secret"), ""},
		} {
			s.send(strings.Split(c.say, "\n")...)
			got := s.line()
			if c.want == "" { // whether the cancelled one had asked for the name is chance
				if strings.HasPrefix(got, "CONT 15 ") {
					got = s.line()
				}
				c.want = "OK 15 user=plain"
			}
			if got != c.want {
				t.Fatalf("%s\n got %q\nwant %q", c.say, got, c.want)
			}
		}
		synctest.Wait() // lines of the log come behind the answers
		for _, want := range []string{
			`level=WARN msg="login refused" sess=`, ` addr=192.0.2.7 event=login_refused user=plain method=PLAIN reason="wrong password" service=smtp`,
			` addr=192.0.2.7 event=login user=plain login=plain method=PLAIN service=smtp`,
		} {
			if !strings.Contains(s.log.String(), want) {
				t.Errorf("the log has no %q:\n%s", want, s.log.String())
			}
		}
		if strings.Contains(s.log.String(), "secret") {
			t.Error("the log has the password")
		}
	})
}

// tokens are never good; "old" was.
type tokens struct{}

func (tokens) Verify(_ context.Context, token string, _ func(string, ...any)) (auth.Token, error) {
	if token == "old" {
		return auth.Token{}, &auth.TokenError{Kind: auth.TokenExpired, Claim: "exp", Reason: "it has expired"}
	}
	return auth.Token{}, &auth.TokenError{Claim: "aud", Reason: "it is for the wiki"}
}
func (tokens) Hint() auth.TokenHint { return auth.TokenHint{Scope: "smtp"} }
func (tokens) Close() error         { return nil }

// A token that does not do is answered by what would, and then by FAIL whatever the client
// says: RFC 7628 section 4.4. It is logged though the client says nothing.
func TestRefusedTokenIsToldWhatWouldDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &buffer{}
		l := slog.New(slog.NewTextHandler(log, nil))
		a, err := auth.New(auth.Options{Tokens: tokens{}, TokenDomains: []string{"*"}, NoWatch: true, Log: l})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { a.Close() })
		s := serveWith(t, a, log)
		if greeting := strings.Join(s.greeted(), "\n"); !strings.Contains(greeting, "MECH OAUTHBEARER plaintext\nMECH XOAUTH2 plaintext\n") {
			t.Error(greeting)
		}
		const from = " service=smtp rip=192.0.2.7 resp="
		hint := b64(`{"status":"401","schemes":"bearer","scope":"smtp"}`)
		for _, c := range []struct{ say, want string }{
			{"AUTH 1 XOAUTH2" + from + b64("user=ann\x01auth=Bearer wiki\x01\x01"), "CONT 1 " + hint},
			{"CONT 1 ", "FAIL 1 user=ann"},
			{"AUTH 2 OAUTHBEARER" + from + b64("n,a=ann,\x01auth=Bearer old\x01\x01"), "CONT 2 " + b64(`{"status":"invalid_token","scope":"smtp"}`)},
			{"CONT 2 AQ==", "FAIL 2 user=ann code=pass_expired reason=the token has expired"},
			{"AUTH 3 XOAUTH2" + from + b64("user=ann\x01auth=Bearer wiki\x01\x01"), "CONT 3 " + hint},
		} {
			s.send(c.say)
			if got := s.line(); got != c.want {
				t.Errorf("%s\n got %s\nwant %s", c.say, got, c.want)
			}
		}
		synctest.Wait()
		if text := log.String(); strings.Count(text, "event=login_refused") != 2 || strings.Count(text, "event=token_expired") != 1 {
			t.Error(text)
		}
	})
}

// SCRAM goes by CONT to its end, without additional data in the success.
func TestScram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		s.greeted()
		client, err := scram.SHA256.NewClient("plain", "secret", "")
		if err != nil {
			t.Fatal(err)
		}
		conv := client.NewConversation()
		first, _ := conv.Step("")
		s.send("AUTH 1 SCRAM-SHA-256 service=smtp resp=" + b64(first))
		for range 2 {
			challenge, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s.line(), "CONT 1 "))
			if err != nil {
				t.Fatal(err)
			}
			answer, err := conv.Step(string(challenge))
			if err != nil {
				t.Fatal(err)
			}
			s.send("CONT 1 " + b64(answer))
		}
		if got := s.line(); got != "OK 1 user=plain" || !conv.Valid() {
			t.Errorf("%q, valid %v", got, conv.Valid())
		}
	})
}

// A wrong password delays its own answer only, and what the client waits for too long ends.
func TestOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		s.greeted()
		start := time.Now()
		s.send("AUTH 1 PLAIN service=smtp rip=192.0.2.7 resp="+b64("\x00plain\x00wrong"), "AUTH 2 PLAIN service=smtp rip=192.0.2.8 resp="+b64("\x00plain\x00secret"))
		if got := s.line(); got != "OK 2 user=plain" || time.Since(start) > 0 {
			t.Errorf("%q after %v", got, time.Since(start))
		}
		if got := s.line(); got != "FAIL 1 user=plain" || time.Since(start) < time.Second {
			t.Errorf("%q after %v", got, time.Since(start))
		}
		s.send("AUTH 3 LOGIN service=smtp")
		s.line()
		if got := s.line(); got != "FAIL 3 temp code=temp_fail reason=Authentication request timed out" {
			t.Errorf("without an answer: %q", got)
		}
	})
}

// Where no address is told, a connection guesses one password after the other: a hundred
// at once take as long as a hundred.
func TestGuessesWithoutAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		s.greeted()
		start := time.Now()
		for i := range 20 {
			s.send(fmt.Sprintf("AUTH %d PLAIN service=smtp resp=%s", i+1, b64(fmt.Sprintf("\x00user%d\x00guess", i))))
		}
		for range 20 {
			if got := s.line(); !strings.HasPrefix(got, "FAIL") {
				t.Fatal(got)
			}
		}
		if took := time.Since(start); took < 20*time.Second {
			t.Errorf("20 guesses took %v", took)
		}
	})
}

// A client that breaks the protocol loses its connection, with a line in the log, and
// nothing is answered that it could not have known.
func TestBrokenClients(t *testing.T) {
	good := "AUTH 1 PLAIN service=smtp resp=" + b64("\x00plain\x00secret")
	for name, lines := range map[string][]string{
		"no VERSION":        {good},
		"another VERSION":   {"VERSION 2 0", good},
		"no service":        {"VERSION 1 2", "AUTH 1 PLAIN resp=AAAA"},
		"field behind resp": {"VERSION 1 2", "AUTH 1 PLAIN service=smtp resp=AAAA rip=192.0.2.1"},
		"no number":         {"VERSION 1 2", "AUTH x PLAIN service=smtp"},
		"number too big":    {"VERSION 1 2", "AUTH 4294967296 PLAIN service=smtp"},
		"number in use":     {"VERSION 1 2", "AUTH 1 LOGIN service=smtp", "AUTH 1 LOGIN service=smtp"},
		"CONT alone":        {"VERSION 1 2", "CONT"},
		"endless line":      {"VERSION 1 2", "AUTH 1 PLAIN service=smtp resp=" + strings.Repeat("A", 40<<10)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serve(t)
				for s.line() != "DONE" {
				}
				go func() { // ends when the server closes the pipe
					for _, l := range lines {
						if _, err := io.WriteString(s.net, strings.ReplaceAll(l, " ", "\t")+"\n"); err != nil {
							return
						}
					}
				}()
				for {
					got := s.line()
					if strings.HasPrefix(got, "OK") {
						t.Errorf("answered %q", got)
					}
					if got == "" {
						break
					}
				}
				synctest.Wait()
				if !strings.Contains(s.log.String(), "event=auth_socket") {
					t.Errorf("the log says nothing:\n%s", s.log.String())
				}
			})
		})
	}
}

// A client that asks without end and takes no answer holds little, and its connection ends.
func TestHostilePeerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		s.greeted()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		big := b64("\x00nobody\x00" + strings.Repeat("x", 20<<10))
		sent := 0
		for i := range 10_000 {
			if _, err := fmt.Fprintf(s.net, "AUTH\t%d\tPLAIN\tservice=smtp\trip=192.0.2.7\tresp=%s\n", i, big); err != nil {
				break
			}
			sent++
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if sent == 10_000 || sent < 2 {
			t.Errorf("%d requests were taken", sent)
		}
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
			t.Errorf("%d bytes are held", grown)
		}
	})
}

// More than a hundred exchanges at one time are refused for now.
func TestManyRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		s.greeted()
		for i := range maxRequests {
			s.send(fmt.Sprintf("AUTH %d LOGIN service=smtp", i))
			s.line()
		}
		s.send("AUTH 500 LOGIN service=smtp")
		if got := s.line(); got != "FAIL 500 temp code=temp_fail reason=Too many requests at one time" {
			t.Error(got)
		}
		s.send("CANCEL 0", "AUTH 501 LOGIN service=smtp")
		if got := s.line(); got != "CONT 501 VXNlcm5hbWU6" {
			t.Error(got)
		}
	})
}

// Serve ends with its context, whatever its clients do.
func TestServeEnds(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	l, err := unixsocket.Listen(filepath.Join(t.TempDir(), "auth"), 0o600, -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- NewServer(newAuth(t, log), log).Serve(ctx, l) }() // joined below
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for text := ""; text != "DONE\n"; {
		if text, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Fprintf(c, "VERSION\t1\t2\nAUTH\t1\tLOGIN\tservice=smtp\nAUTH\t2\tPLAIN\tservice=smtp\tresp=%s\n", b64("\x00plain\x00wrong"))
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Whatever a client sends: values come out as they went in, and the cost is linear.
func FuzzParseAuth(f *testing.F) {
	f.Add("1\tPLAIN\tservice=smtp\trip=192.0.2.7\tresp=AAAA")
	f.Add("1\tPLAIN\tservice=a\x01tb\tlip=\x011\x010")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseAuth(strings.Split(text, "\t"))
		if err != nil {
			return
		}
		again := []string{number(a.id), a.mech}
		for k, v := range a.params {
			if strings.Contains(k, "resp") {
				return
			}
			again = append(again, param(k, v))
		}
		b, err := parseAuth(strings.Split(strings.TrimSuffix(line(again...), "\n"), "\t"))
		if err != nil || len(b.params) != len(a.params) {
			t.Fatalf("%q: %v, %v, %v", text, a.params, b, err)
		}
		for k, v := range a.params {
			if b.params[k] != v {
				t.Errorf("%q became %q", v, b.params[k])
			}
		}
	})
}
