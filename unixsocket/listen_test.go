package unixsocket

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// dead leaves a socket that nobody listens on.
func dead(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	for _, mode := range []fs.FileMode{0o600, 0o660, 0o666} { // each in place of the one before
		l, err := Listen(path, mode, -1, -1)
		if err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Lstat(path); err != nil || fi.Mode() != fs.ModeSocket|mode {
			t.Errorf("%v, %v, want mode %v", fi.Mode(), err, mode)
		}
		if _, err := Listen(path, mode, -1, -1); !errors.Is(err, ErrTaken) {
			t.Errorf("beside a living one: %v", err)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal("the living one is gone:", err)
		}
		c.Close()
		l.Close()
		if _, err := os.Lstat(path); err != nil {
			t.Error("Close removed the file:", err)
		}
	}
}

func TestListenForAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give a socket away")
	}
	for _, c := range []struct{ uid, gid, wantUID, wantGID int }{{1, 2, 1, 2}, {-1, 2, 0, 2}, {1, -1, 1, 0}} {
		path := filepath.Join(t.TempDir(), "socket")
		l, err := Listen(path, 0o660, c.uid, c.gid)
		if err != nil {
			t.Fatal(err)
		}
		fi, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st := fi.Sys().(*syscall.Stat_t); int(st.Uid) != c.wantUID || int(st.Gid) != c.wantGID || fi.Mode().Perm() != 0o660 {
			t.Errorf("%d:%d gave %d:%d, %v", c.uid, c.gid, st.Uid, st.Gid, fi.Mode())
		}
		l.Close()
	}
}

func TestListenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	dead(t, filepath.Join(dir, "dead"))
	if err := os.Symlink("dead", link); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		file:                               ErrNoSocket,
		link:                               ErrNoSocket,
		filepath.Join(dir, "none", "sock"): fs.ErrNotExist,
		filepath.Join(file, "sock"):        syscall.ENOTDIR,
		filepath.Join(fifo, "sock"):        syscall.ENOTDIR,
	} {
		_, err := Listen(path, 0o600, -1, -1)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		} else if strings.Contains(err.Error(), dir) {
			t.Errorf("%s is repeated in %q", path, err)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "kept" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := Listen("/"+strings.Repeat("x", MaxPath), 0o600, -1, -1); err == nil || !strings.Contains(err.Error(), "107 bytes") {
		t.Errorf("a long path: %v", err)
	}
}

// A listener that has more callers than it takes lives.
func TestBusySocketIsNotDead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for {
		c, err := net.Dial("unix", path)
		if errors.Is(err, syscall.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if _, err := Listen(path, 0o600, -1, -1); !errors.Is(err, ErrTaken) {
		t.Errorf("%v, want %v", err, ErrTaken)
	}
}

// A link that is put in the place of a socket that was just made leads to no other file.
func TestGiveFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "shadow"), filepath.Join(dir, "socket")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink(file, link)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, file} {
		if err := give(path, 0o666, os.Getuid(), os.Getgid()); !errors.Is(err, ErrNoSocket) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if fi, err := os.Stat(file); err != nil || fi.Mode() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}

// Of servers that start at once over a dead socket one listens, and is reached.
func TestServersThatStartAtOnce(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), "socket")
		dead(t, path)
		var wg sync.WaitGroup
		var mu sync.Mutex
		var won []net.Listener
		for range 8 {
			wg.Go(func() {
				l, err := Listen(path, 0o660, -1, -1)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won = append(won, l)
				} else if !errors.Is(err, ErrTaken) && !errors.Is(err, errLocked) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("%d servers listen", len(won))
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		won[0].Close()
	}
}
