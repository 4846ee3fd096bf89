package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"roost/auth"
	"roost/server/session"
	"roost/server/wire"
	"roost/store"
	"roost/store/memstore"
)

// syncBuffer is a log that goroutines write and the test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// testServer is a server on sockets of this machine, with users ann and ben.
type testServer struct {
	*Server
	opt       Options
	listeners []Listener
	log       syncBuffer
	stop      func()     // as SIGTERM does
	done      chan error // what Serve returned
}

func startServer(t *testing.T, change func(*Options), specs ...Spec) *testServer {
	t.Helper()
	return startServerOn(t, change, func([]Listener) {}, specs...)
}

// startServerOn is startServer with listeners that are changed.
func startServerOn(t *testing.T, change func(*Options), listen func([]Listener), specs ...Spec) *testServer {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "passwd"), []byte("ann:{PLAIN}secret\nben:{PLAIN}s3cretword\n"))
	writePair(t, dir+"/cert.pem", dir+"/key.pem", "localhost")
	s := &testServer{done: make(chan error, 1)}
	log := slog.New(slog.NewTextHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	a, err := auth.New(auth.Options{File: filepath.Join(dir, "passwd"), NoWatch: true, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	certs, err := OpenCertificates(CertOptions{Pairs: []KeyPair{{dir + "/cert.pem", dir + "/key.pem"}}, Min: tls.VersionTLS12}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { certs.Close() })
	s.opt = Options{
		Hostname: "mail.example.org",
		Auth:     a,
		TLS:      certs.Config(),
		Log:      log,
		Runner: &Local{Store: memstore.New(time.Now), Options: session.Options{
			Log:    log,
			Notice: func(id string, doing session.Activity) { s.Notice(id, doing) },
			Tap:    func(id string) *wire.Tap { return s.Tap(id) },
		}},
		Identity: func(u auth.User) (store.Identity, error) {
			return store.Identity{User: u.Name, Login: u.Login, Roots: []store.Root{{}}}, nil
		},
	}
	if change != nil {
		change(&s.opt)
	}
	s.Server = New(s.opt)
	if s.listeners, err = Listen(t.Context(), specs, nil); err != nil {
		t.Fatal(err)
	}
	listen(s.listeners)
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	go func() { s.done <- s.Serve(ctx, s.listeners...) }() // joined in the cleanup
	t.Cleanup(func() {
		cancel()
		s.done <- <-s.done
	})
	return s
}

// wait gives what Serve returned.
func (s *testServer) wait() error {
	err := <-s.done
	s.done <- err // for the cleanup
	return err
}

// client speaks the protocol line by line.
type client struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

// dial connects to listener n, with TLS where it starts with it, and reads the greeting.
func (s *testServer) dial(t *testing.T, n int) *client {
	t.Helper()
	l := s.listeners[n]
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	c := &client{nc, t, bufio.NewReader(nc)}
	if l.Mode == Implicit {
		c.tls()
	}
	c.want("* OK ")
	return c
}

func (c *client) tls() {
	c.Conn = tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
	c.r = bufio.NewReader(c.Conn)
}

func (c *client) line() string {
	c.t.Helper()
	s, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("read: %v", err)
	}
	return strings.TrimSuffix(s, "\r\n")
}

// want reads up to a line that begins with prefix.
func (c *client) want(prefix string) string {
	c.t.Helper()
	for {
		if l := c.line(); strings.HasPrefix(l, prefix) {
			return l
		} else if !strings.HasPrefix(l, "* ") {
			c.t.Fatalf("got %q, want %q", l, prefix)
		}
	}
}

// do sends a command and reads its answer, which must be OK.
func (c *client) do(command string) {
	c.t.Helper()
	fmt.Fprintf(c, "x %s\r\n", command)
	c.want("x OK")
}

// end makes sure that the connection is over.
func (c *client) end() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
		c.t.Errorf("after BYE: %q, %v", rest, err)
	}
}

func TestListeners(t *testing.T) {
	specs := []Spec{{"127.0.0.1:0", Implicit}, {"127.0.0.1:0", STARTTLS}, {"127.0.0.1:0", Plaintext}}
	if l, err := net.Listen("tcp6", "[::1]:0"); err == nil {
		l.Close()
		specs = append(specs, Spec{"[::1]:0", Implicit})
	}
	s := startServer(t, nil, specs...)
	for i, spec := range specs {
		c := s.dial(t, i)
		if spec.Mode == STARTTLS {
			fmt.Fprint(c, "a LOGIN ann secret\r\n")
			if got := c.want("a "); !strings.HasPrefix(got, "a NO [PRIVACYREQUIRED]") {
				t.Errorf("LOGIN in the clear: %s", got)
			}
			c.do("STARTTLS")
			c.tls()
		}
		c.do("LOGIN ann secret")
		c.do("SELECT INBOX")
		fmt.Fprint(c, "b LOGOUT\r\n")
		c.want("b OK")
		c.end()
	}
}

// SIGTERM: whoever is there is told, whatever they are doing, and nobody is left.
func TestShutdownSaysBye(t *testing.T) {
	s := startServer(t, nil, Spec{"127.0.0.1:0", Implicit}, Spec{"127.0.0.1:0", STARTTLS})
	guest := s.dial(t, 1)
	user := s.dial(t, 0)
	user.do("LOGIN ann secret")
	idler := s.dial(t, 0)
	idler.do("LOGIN ann secret")
	idler.do("SELECT INBOX")
	fmt.Fprint(idler, "i IDLE\r\n")
	idler.want("+ ")
	mute, err := net.Dial("tcp", s.listeners[0].Addr().String()) // never shakes hands
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()

	s.stop()
	for _, c := range []*client{guest, user, idler} {
		c.want("* BYE ")
		c.end()
	}
	if err := s.wait(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	io.ReadAll(mute)
	if _, err := net.Dial("tcp", s.listeners[0].Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after the end a connection gives %v", err)
	}
}

// runnerFunc is a Runner of a test.
type runnerFunc func(ctx context.Context, stream net.Conn, in *session.Login) (*session.Outcome, error)

func (f runnerFunc) Run(ctx context.Context, stream net.Conn, in *session.Login) (*session.Outcome, error) {
	return f(ctx, stream, in)
}

// A session that does not end is cut off when the patience is over.
func TestShutdownCutsOff(t *testing.T) {
	s := startServer(t, func(o *Options) {
		o.Limits.Shutdown = 20 * time.Millisecond
		o.Runner = runnerFunc(func(_ context.Context, stream net.Conn, in *session.Login) (*session.Outcome, error) {
			fmt.Fprintf(stream, "%s OK in\r\n", in.Tag)
			_, err := io.ReadAll(stream) // whatever the context says
			return &session.Outcome{Reason: "cut off"}, err
		})
	}, Spec{"127.0.0.1:0", Implicit})
	c := s.dial(t, 0)
	c.do("LOGIN ann secret")
	s.stop()
	if err := s.wait(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if !strings.Contains(s.log.String(), "event=shutdown_cut connections=1") {
		t.Errorf("log:\n%s", s.log.String())
	}
}

// A panic ends its connection, and no other.
func TestPanicIsContained(t *testing.T) {
	var bugged atomic.Bool
	s := startServer(t, nil, Spec{"127.0.0.1:0", Implicit})
	opt := s.opt
	opt.Runner = runnerFunc(func(ctx context.Context, stream net.Conn, in *session.Login) (*session.Outcome, error) {
		if bugged.CompareAndSwap(false, true) {
			panic("a bug")
		}
		return s.opt.Runner.Run(ctx, stream, in)
	})
	s.Reconfigure(opt)
	c := s.dial(t, 0)
	fmt.Fprint(c, "a LOGIN ann secret\r\n")
	c.end()
	other := s.dial(t, 0)
	other.do("LOGIN ann secret")
	s.stop()
	s.wait() // the log of the panic follows the end of its connection
	if log := s.log.String(); !strings.Contains(log, "event=panic") || !strings.Contains(log, "a bug") || !strings.Contains(log, "server_test.go") {
		t.Errorf("log:\n%s", log)
	}
}

// New options are for new connections; the old ones live on.
func TestReconfigure(t *testing.T) {
	s := startServer(t, nil, Spec{"127.0.0.1:0", Plaintext})
	old := s.dial(t, 0)
	opt := s.opt
	opt.Hostname = "other.example.org"
	opt.Limits.PerAddress = 2
	s.Reconfigure(opt)
	nc, err := net.Dial("tcp", s.listeners[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	fresh := &client{nc, t, bufio.NewReader(nc)}
	if got := fresh.line(); !strings.Contains(got, "other.example.org") {
		t.Errorf("greeting is %q", got)
	}
	third, err := net.Dial("tcp", s.listeners[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	c := &client{third, t, bufio.NewReader(third)}
	if got := c.line(); !strings.HasPrefix(got, "* BYE [LIMIT] ") {
		t.Errorf("the third connection is greeted with %q", got)
	}
	c.end()
	old.do("LOGIN ann secret")
}

func TestBusyPort(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	// At an address of its own: others must not take the port meanwhile, by chance.
	free, err := net.Listen("tcp", fmt.Sprintf("127.77.%d.%d:0", os.Getpid()>>8&255, os.Getpid()&255))
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()

	_, err = Listen(t.Context(), []Spec{{address, Implicit}, {busy.Addr().String(), Implicit}}, nil)
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("error is %v", err)
	}
	_, port, _ := net.SplitHostPort(busy.Addr().String())
	want := fmt.Sprintf("cannot listen on 127.0.0.1:%s: another program does already; `ss -ltnp 'sport = :%s'` names it: address already in use", port, port)
	if err.Error() != want {
		t.Errorf("error is\n%v, want\n%s", err, want)
	}
	// The one that was had is given back.
	if again, err := net.Listen("tcp", address); err != nil {
		t.Error(err)
	} else {
		again.Close()
	}
}

func TestSameAddress(t *testing.T) {
	for _, tt := range []struct {
		spec string
		ip   string
		port int
		want bool
	}{
		{":993", "::", 993, true},
		{":993", "0.0.0.0", 993, true},
		{":imaps", "::", 993, true},
		{":993", "::", 143, false},
		{":993", "127.0.0.1", 993, false},
		{"127.0.0.1:993", "127.0.0.1", 993, true},
		{"127.0.0.1:993", "::ffff:127.0.0.1", 993, true},
		{"127.0.0.1:993", "0.0.0.0", 993, false},
		{"[::1]:993", "::1", 993, true},
		{"993", "::", 993, false},
		{"mail.example.org:993", "::", 993, false},
	} {
		if got := sameAddress(tt.spec, &net.TCPAddr{IP: net.ParseIP(tt.ip), Port: tt.port}); got != tt.want {
			t.Errorf("%s for %s port %d: %v", tt.spec, tt.ip, tt.port, got)
		}
	}
}

// A child process is passed a socket as systemd does it, and answers there.
func TestActivation(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, tt := range []struct{ spec, want string }{
		{l.Addr().String(), "starttls on " + l.Addr().String()},
		{"127.0.0.1:1", "no [[listen]] or [[auth.listen]] names"},
	} {
		// systemd sets LISTEN_PID between fork and exec; so does the shell.
		cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" -test.run='^TestActivatedChild$' -test.v`, os.Args[0])
		cmd.Env = append(os.Environ(), "ROOST_TEST_SPEC="+tt.spec)
		cmd.ExtraFiles = []*os.File{f}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), tt.want) {
			t.Errorf("%s: %v, %s", tt.spec, err, out)
		}
	}
}

// TestActivatedChild is the child of TestActivation.
func TestActivatedChild(t *testing.T) {
	spec := os.Getenv("ROOST_TEST_SPEC")
	if spec == "" {
		return
	}
	passed, err := Activated()
	if err != nil || len(passed) != 1 {
		t.Fatal(passed, err)
	}
	if os.Getenv("LISTEN_FDS") != "" {
		t.Error("LISTEN_FDS is left for children")
	}
	// Were the socket not taken, the address would be busy.
	list, err := Listen(t.Context(), []Spec{{spec, STARTTLS}}, passed)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("starttls on %s\n", list[0].Addr())
	list[0].Close()
}
