package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"roost/unixsocket"
)

// start serves a handler at a socket of its own, and gives its path and what ends it.
func start(t *testing.T, handle Handler) (path string, stop func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "control")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Serve(ctx, handle) }() // joined in stop
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return path, stop
}

// echo answers with as many lines as it is asked for.
func echo(_ context.Context, q Request, send func(Reply) error) (string, error) {
	if q.Do == "fail" {
		return "", errors.New("that cannot be")
	}
	for i := range q.Lines {
		if err := send(Reply{Line: &Line{Text: fmt.Sprint(q.User, i, " for ", q.By)}}); err != nil {
			return "", err
		}
	}
	return "", nil
}

func TestAsk(t *testing.T) {
	path, stop := start(t, echo)
	var got []string
	each := func(r Reply) error {
		got = append(got, r.Line.Text)
		return nil
	}
	done, err := Ask(t.Context(), path, Request{Do: "echo", User: "ann", Lines: 2}, each)
	if want := fmt.Sprintf("[ann0 for %d ann1 for %[1]d]", os.Getuid()); err != nil || done != "done" || fmt.Sprint(got) != want {
		t.Errorf("%q, %q, %v", got, done, err)
	}
	if _, err := Ask(t.Context(), path, Request{Do: "fail"}, each); err == nil || err.Error() != "that cannot be" {
		t.Error(err)
	}
	enough := errors.New("enough")
	if _, err := Ask(t.Context(), path, Request{Lines: 1000}, func(Reply) error { return enough }); !errors.Is(err, enough) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Ask(ctx, path, Request{Lines: 1 << 30}, func(Reply) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	stop()
	if _, err := Ask(t.Context(), path, Request{}, each); !errors.Is(err, ErrNobody) {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("the socket is still there:", err)
	}
}

// The protocol as somebody types it: each question has one answer, whatever it is.
func TestQuestions(t *testing.T) {
	path, _ := start(t, echo)
	for _, tt := range []struct{ say, want string }{
		{`{"do":"x","user":"u","lines":1}` + "\n", `{"line":{"time":"0001-01-01T00:00:00Z","session":"","from":"","text":"u0 for `},
		{"who\n", `{"error":"this is no question: `},
		{`{"do":5}` + "\n", `{"error":"this is no question: `},
		{strings.Repeat("x", questionSize+1), `{"error":"a question is at most 4096 bytes"}`},
		{`{"do":"x"}`, `{"error":"no question came: `},
	} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, tt.say)
		c.(*net.UnixConn).CloseWrite()
		got, err := io.ReadAll(c)
		if err != nil && !errors.Is(err, syscall.ECONNRESET) || !strings.HasPrefix(string(got), tt.want) {
			t.Errorf("%.40q: %q, %v", tt.say, got, err)
		}
		c.Close()
	}
}

// An answer ends when its asker goes, and when the server does.
func TestAnswersEnd(t *testing.T) {
	began, ended := make(chan struct{}, 20), make(chan struct{}, 20)
	handle := func(ctx context.Context, _ Request, _ func(Reply) error) (string, error) {
		began <- struct{}{}
		<-ctx.Done()
		ended <- struct{}{}
		return "", ctx.Err()
	}
	path, stop := start(t, handle)
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error, 20)
	ask := func(ctx context.Context) {
		_, err := Ask(ctx, path, Request{}, nil)
		asked <- err
	}
	go ask(ctx)
	<-began
	cancel()
	<-ended
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	stop()
	path, stop = start(t, handle)
	for range questions {
		go ask(t.Context())
		<-began
	}
	if _, err := Ask(t.Context(), path, Request{}, nil); err == nil || !strings.Contains(err.Error(), "8 others ask already") {
		t.Error(err)
	}
	stop()
	for range questions {
		<-ended
		if err := <-asked; err == nil {
			t.Error("no error")
		}
	}
}

// An asker who does not read holds up nobody else.
func TestAskerWhoDoesNotRead(t *testing.T) {
	path, _ := start(t, echo)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	json.NewEncoder(c).Encode(Request{Lines: 1 << 30})
	for range 3 {
		if _, err := Ask(t.Context(), path, Request{}, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSocketOfADeadServerIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if _, err := Listen(path); !errors.Is(err, unixsocket.ErrTaken) || !strings.Contains(err.Error(), path) {
		t.Errorf("the socket of a living server: %v", err)
	}
	dead.Close()
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode() != os.ModeSocket|0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	// What is there by the time of Close is another's.
	os.Remove(path)
	os.WriteFile(path, nil, 0o600)
	l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Error("Close removed a file that is not its own")
	}
	os.Remove(path)
	if l, err = Listen(path); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("Close left its socket:", err)
	}
}

// asOther names the socket for a child of TestOthersAreSentAway, which asks there.
const asOther = "ROOST_TEST_ASK"

// asListener makes the child listen instead.
const asListener = "ROOST_TEST_LISTEN"

func listenUntilEOF(path string) {
	l, err := Listen(path)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // ends with the standard input
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	fmt.Println("it listens")
	l.Serve(ctx, echo)
}

func TestMain(m *testing.M) {
	if path := os.Getenv(asOther); path != "" {
		if os.Getenv(asListener) != "" {
			listenUntilEOF(path)
			return
		}
		_, err := Ask(context.Background(), path, Request{}, nil)
		fmt.Println(err)
		return
	}
	os.Exit(m.Run())
}

// The kernel's word counts, not the mode of the socket.
func TestOthersAreSentAway(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: another user asks")
	}
	dir, err := os.MkdirTemp("", "roost-control-") // not t.TempDir: another user has to get in
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o755)
	path := filepath.Join(dir, "control")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { // joined below
		done <- l.Serve(ctx, func(context.Context, Request, func(Reply) error) (string, error) {
			asked++
			return "", nil
		})
	}()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "other")
	if b, err := os.ReadFile(self); err != nil || os.WriteFile(exe, b, 0o755) != nil {
		t.Fatal(err)
	}
	other := func() string {
		cmd := exec.Command(exe)
		cmd.Dir = "/"
		cmd.Env = append(os.Environ(), asOther+"="+path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 5001, Gid: 5001}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if got := other(); !strings.Contains(got, ErrDenied.Error()) {
		t.Errorf("by the mode: %s", got)
	}
	os.Chmod(path, 0o666)
	if got := other(); !strings.Contains(got, "broke off") {
		t.Errorf("by the kernel: %s", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if asked != 0 {
		t.Errorf("%d questions of another user were answered", asked)
	}

	// Nor is a socket asked on which another user listens.
	os.Chmod(dir, 0o777)
	path = filepath.Join(dir, "foreign")
	cmd := exec.Command(exe)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), asOther+"="+path, asListener+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 5001, Gid: 5001}}
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // it listens
		t.Fatal(err)
	}
	if _, err := Ask(t.Context(), path, Request{}, nil); !errors.Is(err, ErrForeign) {
		t.Errorf("a foreign socket: %v", err)
	}
	if _, err := Ask(t.Context(), path, Request{}, nil, 5001); err != nil {
		t.Errorf("the mail's own user: %v", err)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(dir, 5001, 5001)); err != nil {
		t.Fatal(err)
	}
	if _, err := Ask(t.Context(), path, Request{}, nil); err != nil {
		t.Errorf("the one who alone can have put it there: %v", err)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// Prepare makes the directory of a socket, and nothing above it.
func TestPrepare(t *testing.T) {
	dir := t.TempDir()
	Prepare(filepath.Join(dir, "run", "control"), os.Getuid(), os.Getgid())
	if fi, err := os.Stat(filepath.Join(dir, "run")); err != nil || fi.Mode().Perm() != 0o700 {
		t.Error(fi, err)
	}
	Prepare(filepath.Join(dir, "a", "b", "control"), os.Getuid(), os.Getgid())
	if _, err := os.Stat(filepath.Join(dir, "a")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	// One that is there keeps its mode.
	os.Chmod(filepath.Join(dir, "run"), 0o755)
	Prepare(filepath.Join(dir, "run", "control"), 1, 1)
	if fi, err := os.Stat(filepath.Join(dir, "run")); err != nil || fi.Mode().Perm() != 0o755 || fi.Sys().(*syscall.Stat_t).Uid != uint32(os.Getuid()) {
		t.Error(fi, err)
	}
}

// A server that ran as root leaves its directory to the one that becomes another user.
func TestPrepareAfterRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: it gives a directory away")
	}
	dir := t.TempDir()
	owner := func(name string) uint32 {
		t.Helper()
		fi, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return fi.Sys().(*syscall.Stat_t).Uid
	}
	for name, tt := range map[string]struct {
		mode os.FileMode
		file string
		want uint32
	}{"empty": {0o700, "", 5001}, "dead": {0o700, "control", 5001}, "full": {0o700, "other", 0}, "open": {0o755, "", 0}} {
		path := filepath.Join(dir, name)
		err := errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, tt.mode))
		if tt.file != "" {
			err = errors.Join(err, os.WriteFile(filepath.Join(path, tt.file), nil, 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
		socket := filepath.Join(path, "control")
		if name == "dead" {
			os.Remove(socket)
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			l.Close()
		}
		Prepare(socket, 5001, 5001)
		if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the socket is still there: %v", name, err)
		}
		if got := owner(name); got != tt.want {
			t.Errorf("%s belongs to %d", name, got)
		}
	}
}
