package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// asChild names what a child of these tests does: what is taken away never comes back.
const asChild = "ROOST_TEST_CONFINED"

func TestMain(m *testing.M) {
	if what := os.Getenv(asChild); what != "" {
		if err := children[what](); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// inChild runs one of children in a directory of its own.
func inChild(t *testing.T, what string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), asChild+"="+what)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

var children = map[string]func() error{"landlock": landlocked, "again": landlockedAgain, "seccomp": filtered, "alone": alone}

func TestLandlock(t *testing.T) {
	if err := usable(); err != nil {
		t.Skip(err)
	}
	inChild(t, "landlock")
	inChild(t, "again")
}

func usable() error {
	if abi := LandlockABI(); abi < leastABI {
		return fmt.Errorf("kernel: needs Landlock of version 2 (Linux 5.19, lsm=landlock), this one has %d", abi)
	}
	return nil
}

func TestSeccomp(t *testing.T) {
	if !SeccompKnown {
		t.Skip("there is no filter for " + runtime.GOARCH)
	}
	inChild(t, "seccomp")
	inChild(t, "alone")
}

// everywhere runs f on many threads at once and gives the first error.
func everywhere(f func() error) error {
	const threads = 16
	var wg, all sync.WaitGroup
	all.Add(threads)
	errs := make([]error, threads)
	for i := range threads {
		wg.Go(func() {
			runtime.LockOSThread()
			all.Done()
			all.Wait() // each goroutine has a thread of its own
			errs[i] = f()
			runtime.UnlockOSThread()
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// refused reports an error unless err is that of a restriction.
func refused(what string, err error) error {
	// EXDEV: a link may not give more rights than there were.
	if !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EXDEV) {
		return fmt.Errorf("%s: %v, want it refused", what, err)
	}
	return nil
}

func layOut() error {
	err := errors.Join(os.MkdirAll("mail/a", 0o700), os.MkdirAll("mail/b", 0o700), os.Mkdir("etc", 0o700), os.Mkdir("other", 0o700),
		os.WriteFile("mail/a/1", []byte("mail"), 0o600), os.WriteFile("etc/conf", []byte("conf"), 0o600), os.WriteFile("one", []byte("file"), 0o600),
		os.WriteFile("other/shadow", []byte("secret"), 0o600), os.Symlink("../other", "mail/way"))
	return errors.Join(err, everywhere(func() error { _, err := os.ReadFile("other/shadow"); return err })) // threads that are there before
}

func landlocked() error {
	if err := layOut(); err != nil {
		return err
	}
	before, err := os.Open("other/shadow")
	if err != nil {
		return err
	}
	if err := Landlock(Paths{Read: []string{"etc", "one", "/usr", "/lib", "/lib64", "/bin"}, Write: []string{"mail", "none", "/dev/null"}}, false); err != nil {
		return err
	}
	if err := everywhere(func() error {
		var errs []error
		for _, name := range []string{"other/shadow", "mail/way/shadow", "mail/../other/shadow", "other", ".", "/etc/passwd"} {
			_, err := os.Open(name)
			errs = append(errs, refused("open "+name, err))
		}
		errs = append(errs, refused("make", os.WriteFile("other/new", nil, 0o600)), refused("write", os.WriteFile("etc/conf", nil, 0o600)),
			refused("out", os.Rename("mail/a/1", "other/1")), refused("link in", os.Link("other/shadow", "mail/a/shadow")),
			refused("remove", os.Remove("other/shadow")))
		_, err := os.ReadFile("etc/conf")
		_, err1 := os.ReadFile("one")
		return errors.Join(append(errs, err, err1)...)
	}); err != nil {
		return err
	}
	b := make([]byte, 6)
	if _, err := before.Read(b); err != nil || string(b) != "secret" {
		return fmt.Errorf("what was open: %q, %v", b, err)
	}
	// Between directories, which version 1 forbids.
	if err := errors.Join(os.Rename("mail/a/1", "mail/b/1"), os.Link("mail/b/1", "mail/a/2"), os.Mkdir("mail/c", 0o700), os.Rename("mail/c", "mail/b/c"),
		os.WriteFile("mail/b/c/3", nil, 0o600), os.Truncate("mail/b/1", 1), os.RemoveAll("mail/b"), os.Symlink("x", "mail/y")); err != nil {
		return err
	}
	// A program is confined too, and mail is no place to run one from.
	if out, err := exec.Command("/bin/sh", "-c", "cat other/shadow").CombinedOutput(); err == nil || !strings.Contains(string(out), "ermission") {
		return fmt.Errorf("a program: %s, %v", out, err)
	}
	if err := os.WriteFile("mail/evil", []byte("#!/bin/sh\n"), 0o700); err != nil {
		return err
	}
	if err := refused("run what was written", exec.Command("mail/evil").Run()); err != nil {
		return err
	}
	return refused("devices", unix.Mkfifo("mail/fifo", 0o600))
}

func landlockedAgain() error {
	if err := layOut(); err != nil {
		return err
	}
	if err := Landlock(Paths{Write: []string{"mail"}}, false); err != nil {
		return err
	}
	if err := Landlock(Paths{Write: []string{"mail/a", "other"}}, true); err != nil {
		return err
	}
	_, err := os.ReadFile("mail/a/1")
	_, other := os.ReadFile("other/shadow")
	_, b := os.ReadDir("mail/b")
	return errors.Join(err, refused("what the first took away", other), refused("what the second took away", b))
}

func filtered() error {
	if err := Seccomp(); err != nil {
		return err
	}
	return errors.Join(everywhere(forbidden), exec.Command("/bin/sh", "-c", "true && (true; true)").Run())
}

func forbidden() error {
	call := func(what string, n uintptr, args ...uintptr) error {
		args = append(args, 0, 0, 0)
		if _, _, errno := unix.Syscall(n, args[0], args[1], args[2]); errno != unix.EPERM {
			return fmt.Errorf("%s: %v, want EPERM", what, errno)
		}
		return nil
	}
	_, _, clone3 := unix.Syscall(unix.SYS_CLONE3, 0, 0, 0)
	if clone3 != unix.ENOSYS {
		return fmt.Errorf("clone3: %v", clone3)
	}
	nnp, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil || nnp != 1 {
		return fmt.Errorf("no_new_privs: %d, %v", nnp, err)
	}
	return errors.Join(
		// Each would fail in another way without the filter, also for root.
		call("ptrace", unix.SYS_PTRACE, unix.PTRACE_PEEKTEXT, uintptr(os.Getpid())),
		call("bpf", unix.SYS_BPF, 12345),
		call("io_uring_setup", unix.SYS_IO_URING_SETUP, 0, 0),
		call("mount", unix.SYS_MOUNT),
		call("unshare", unix.SYS_UNSHARE),
		call("clone", unix.SYS_CLONE, unix.CLONE_NEWUSER|unix.CLONE_FS),
		call("kexec_load", unix.SYS_KEXEC_LOAD, 0, 1<<20),
	)
}

func alone() error {
	if err := Seccomp(Programs, Sockets); err != nil {
		return err
	}
	_, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	_, raw := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	return errors.Join(everywhere(forbidden), refused("a socket", err), refused("a socket of the network", raw), refused("a program", exec.Command("/bin/true").Run()))
}

func TestCovers(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"live", "archive", "mail"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "archive/key1"), nil, 0o600), os.Symlink("../archive/key1", filepath.Join(dir, "live/key"))); err != nil {
		t.Fatal(err)
	}
	p := Paths{Read: []string{filepath.Join(dir, "live")}, Write: []string{filepath.Join(dir, "mail"), filepath.Join(dir, "gone")}}
	for _, tt := range []struct {
		path        string
		write, want bool
	}{
		{"live", false, true}, {"live/other", false, true}, {"live/other", true, false},
		{"live/key", false, false}, // it leads elsewhere
		{"mail", true, true}, {"mail/ann/Maildir/cur", true, true}, {"mail/ann", false, true},
		{"mailbox", true, false}, {"mail/../live/x", true, false}, {"", false, false}, {"gone/x", true, true},
	} {
		if got := p.Covers(filepath.Join(dir, tt.path), tt.write); got != tt.want {
			t.Errorf("%q, write %v: %v", tt.path, tt.write, got)
		}
	}
	if got := p.Missing(); !slices.Equal(got, []string{filepath.Join(dir, "gone")}) {
		t.Error(got)
	}
}
