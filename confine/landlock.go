package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	"github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// ErrLandlock: this kernel has no Landlock, or one that is too old.
var ErrLandlock = errors.New("the kernel has no Landlock")

// leastABI is what is needed: older ones forbid all renames and links between directories,
// which is how mail is moved.
const leastABI = 2

// LandlockABI is the version of the kernel's Landlock; 0 for none, or where it is not
// switched on (lsm= on the kernel's command line).
func LandlockABI() int {
	n, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// Paths are the files that a process needs. What stands in none of them cannot be opened,
// listed, made, renamed or removed; what is open stays open. Directories mean all below
// them. Paths that are not there are passed over: Missing names them.
type Paths struct {
	Read  []string // is read, and programs there are run
	Write []string // is read and written; files and directories are made, moved about and removed; nothing is run
}

// rights of Paths.Write; devices, fifos and execution are not among them.
const (
	writeFile = syscall.AccessFSReadFile | syscall.AccessFSWriteFile | syscall.AccessFSTruncate
	writeDir  = writeFile | syscall.AccessFSReadDir | syscall.AccessFSRemoveDir | syscall.AccessFSRemoveFile |
		syscall.AccessFSMakeDir | syscall.AccessFSMakeReg | syscall.AccessFSMakeSock | syscall.AccessFSMakeSym | syscall.AccessFSRefer
)

// Landlock confines all threads of the process to paths, and sets no_new_privs: programs
// that it starts are confined too, and setuid does nothing for them. With alone, what the
// kernel knows how to forbid of the rest goes too: TCP sockets that connect or listen,
// abstract unix sockets of others, signals to others. It may be called again, and then only
// takes away. ErrLandlock where the kernel cannot; then nothing has changed.
func Landlock(p Paths, alone bool) error {
	switch abi := LandlockABI(); {
	case abi == 0:
		return ErrLandlock
	case abi < leastABI:
		return fmt.Errorf("%w that can be used: version %d forbids renames between directories; Linux 5.19 has the next", ErrLandlock, abi)
	}
	readDirs, readFiles, err := kinds(p.Read)
	if err != nil {
		return err
	}
	writeDirs, writeFiles, err := kinds(p.Write)
	if err != nil {
		return err
	}
	rules := []landlock.Rule{
		landlock.RODirs(readDirs...).IgnoreIfMissing(),
		landlock.ROFiles(readFiles...).IgnoreIfMissing(),
		landlock.PathAccess(writeDir, writeDirs...).IgnoreIfMissing(),
		landlock.PathAccess(writeFile, writeFiles...).IgnoreIfMissing(),
	}
	if alone {
		err = landlock.V6.BestEffort().Restrict(rules...)
	} else {
		// What Roost listens on and asks is the configuration's to say.
		err = landlock.V5.BestEffort().RestrictPaths(rules...)
	}
	if err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	return nil
}

// kinds parts directories from files; what is not there is in neither.
func kinds(paths []string) (dirs, files []string, err error) {
	for _, path := range paths {
		switch fi, err := os.Stat(path); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, nil, err
		case fi.IsDir():
			dirs = append(dirs, path)
		default:
			files = append(files, path)
		}
	}
	return dirs, files, nil
}

// Missing names the paths that are not there. Landlock gave no right to them.
func (p Paths) Missing() (list []string) {
	for _, path := range slices.Concat(p.Read, p.Write) {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			list = append(list, path)
		}
	}
	return list
}

// Covers reports whether path may be read, or with write written, by Paths. Symbolic links
// are followed as far as they exist: what counts is where a path leads.
func (p Paths) Covers(path string, write bool) bool {
	list := p.Write
	if !write {
		list = slices.Concat(p.Read, p.Write)
	}
	path = resolve(path)
	return slices.ContainsFunc(list, func(dir string) bool { return Below(resolve(dir), path) })
}

// Below reports whether path is dir, or in it. Both are clean.
func Below(dir, path string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// resolve follows the links of what is there of a path.
func resolve(path string) string {
	path = filepath.Clean(path)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	if dir := filepath.Dir(path); dir != path {
		return filepath.Join(resolve(dir), filepath.Base(path))
	}
	return path
}
