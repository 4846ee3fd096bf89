package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unicode"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// What an edit cannot do; wrapped with the user's name.
var (
	ErrNoUser     = errors.New("no such user")
	ErrUserExists = errors.New("user already exists")
)

// A Listing is one user of a password file.
type Listing struct {
	Line   int
	Name   string
	Scheme string // "" where there is no hash
	State  string // "active", "disabled", "refused"
	Reason string // why it is refused
}

// A PasswordFile is one in the hands of Edit. Lines that are not named stay as they
// are, with their comments, order, ends and foreign fields.
type PasswordFile struct {
	path  string
	lower bool
	lines []string // each with its end
}

// Edit changes the password file path by fn, under a lock that other runs of Edit
// honour. The new version takes the place of the old one at once, with its mode and
// owner, and is on disk on return; nothing is written when fn fails or changes
// nothing. With create a file that is not there is made, readable by its owner and
// group. keepCase as in Options.
func Edit(path string, create, keepCase bool, fn func(*PasswordFile) error) error {
	return editLines(path, create, func(_ *os.File, lines []string) ([]string, error) {
		f := &PasswordFile{path: path, lower: !keepCase, lines: lines}
		err := fn(f)
		return f.lines, err
	})
}

// editLines is Edit of any file of lines. fn is given the old file, and its lines with their ends.
func editLines(path string, create bool, fn func(f *os.File, lines []string) ([]string, error)) error {
	// The file behind a symlink is replaced, not the symlink.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	lock, created, err := lockFile(path, create)
	if err != nil {
		return err
	}
	defer lock.Close() // and with it the lock
	before, err := readLines(path)
	if err != nil {
		return err
	}
	after, err := fn(lock, slices.Clone(before))
	if err != nil {
		if created {
			err = errors.Join(err, os.Remove(path))
		}
		return err
	}
	if slices.Equal(after, before) {
		return nil
	}
	text := strings.Join(after, "")
	if text == "" {
		text = "# no users\n" // an empty file looks damaged to a server that reads it
	}
	return replace(path, lock, text)
}

func readLines(path string) ([]string, error) {
	b, _, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return slices.Collect(strings.Lines(string(b))), nil
}

func openPasswordFile(path string, keepCase bool) (*PasswordFile, error) {
	lines, err := readLines(path)
	if err != nil {
		return nil, err
	}
	return &PasswordFile{path: path, lower: !keepCase, lines: lines}, nil
}

// lockFile opens path and locks it. Whoever held the lock before may have put another
// file there; then that one is locked.
func lockFile(path string, create bool) (f *os.File, created bool, err error) {
	for {
		f, err = os.OpenFile(path, os.O_RDWR, 0)
		if created = create && errors.Is(err, fs.ErrNotExist); created {
			if f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640); errors.Is(err, fs.ErrExist) { // #nosec G302 -- the group is who reads it; others cannot
				continue // somebody else made it meanwhile
			}
		}
		if err != nil {
			return nil, false, err
		}
		if err := flock(f); err != nil {
			f.Close()
			return nil, false, fmt.Errorf("lock %s: %w", path, err)
		}
		mine, err1 := f.Stat()
		now, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, now) {
			return f, created, nil
		}
		f.Close()
		if err := errors.Join(err1, err2); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, false, err
		}
	}
}

func flock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != unix.EINTR {
			return err
		}
	}
}

// replace puts text in the place of the old file, whole or not at all.
func replace(path string, old *os.File, text string) error {
	fi, err := old.Stat()
	if err != nil {
		return err
	}
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(fi.Mode().Perm()))
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if sys, ok := fi.Sys().(*syscall.Stat_t); ok {
		// Who may not give it away may still be its owner already.
		if err := f.Chown(int(sys.Uid), int(sys.Gid)); err != nil {
			return fmt.Errorf("%s belongs to uid %d, gid %d, which cannot be kept; run this as root: %w", path, sys.Uid, sys.Gid, err)
		}
		if err := f.Chmod(fi.Mode().Perm()); err != nil {
			return err
		}
	}
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Bare reports whether passwords stand in this file without {SCHEME}, because it is a
// credentials table of OpenSMTPD: so it is when the line of user is one, or for a new
// user when all lines are.
func (f *PasswordFile) Bare(user string) bool {
	if i := f.find(user); i >= 0 {
		_, _, _, credentials := splitLine(f.text(i))
		return credentials
	}
	bare := false
	for i := range f.lines {
		if line := f.text(i); !skipped(line) {
			_, _, _, credentials := splitLine(line)
			if !credentials {
				return false
			}
			bare = true
		}
	}
	return bare
}

// Add puts a new user behind the others. rest, fields for behind the password, is not
// for a credentials table.
func (f *PasswordFile) Add(user, stored string, rest ...string) error {
	if folded, err := foldName(user, f.lower); err != nil {
		return err
	} else if folded != user {
		return fmt.Errorf("login names are folded to lower case; add %q instead", folded)
	}
	if user[0] == '#' || strings.ContainsFunc(user, func(r rune) bool { return r == ':' || unicode.IsSpace(r) }) {
		return fmt.Errorf("user %q: a name in this file has no colon and no blank, and does not start with #", user)
	}
	if f.find(user) >= 0 {
		return fmt.Errorf("%w: %s", ErrUserExists, user)
	}
	line := user + ":" + stored
	switch {
	case f.Bare(user):
		if len(rest) > 0 {
			return errors.New("a credentials table has no further fields")
		}
		line = user + "\t" + stored
	case len(rest) > 0:
		line += ":" + strings.Join(rest, ":")
	}
	if n := len(f.lines); n > 0 && !strings.HasSuffix(f.lines[n-1], "\n") {
		f.lines[n-1] += "\n"
	}
	f.lines = append(f.lines, line+"\n")
	return nil
}

// SetPassword replaces what stands for the password of user.
func (f *PasswordFile) SetPassword(user, stored string) error {
	return f.change(user, func(string) (string, error) { return stored, nil })
}

// Disable makes that no password matches, in a way that Dovecot and crypt(3)
// understand and Enable takes back. It is no error to do it twice.
func (f *PasswordFile) Disable(user string) error {
	return f.change(user, func(stored string) (string, error) {
		if strings.HasPrefix(stored, "!") {
			return stored, nil
		}
		return "!" + stored, nil
	})
}

// Enable takes back what Disable did. It is no error to do it twice.
func (f *PasswordFile) Enable(user string) error {
	return f.change(user, func(stored string) (string, error) {
		stored = strings.TrimLeft(stored, "!")
		if stored == "" || stored == "*" || stored == "x" {
			return "", fmt.Errorf("user %s has no password to enable; set one with: roost passwd change --file %s %s", user, shellWord(f.path), shellWord(user))
		}
		return stored, nil
	})
}

// Remove takes the line of a user away, and all others of the same name.
func (f *PasswordFile) Remove(user string) error {
	if f.find(user) < 0 {
		return fmt.Errorf("%w: %s", ErrNoUser, user)
	}
	for i := f.find(user); i >= 0; i = f.find(user) {
		f.lines = slices.Delete(f.lines, i, i+1)
	}
	return nil
}

// Stored is what stands for the password of user.
func (f *PasswordFile) Stored(user string) (string, error) {
	i := f.find(user)
	if i < 0 {
		return "", fmt.Errorf("%w: %s", ErrNoUser, user)
	}
	_, stored, _, _ := splitLine(f.text(i))
	return stored, nil
}

// text is line i without its end.
func (f *PasswordFile) text(i int) string {
	return strings.TrimSuffix(strings.TrimSuffix(f.lines[i], "\n"), "\r")
}

// find gives the first line of user, which is the one that counts, or -1.
func (f *PasswordFile) find(user string) int {
	return slices.IndexFunc(f.lines, func(line string) bool {
		if skipped(strings.TrimRight(line, "\r\n")) {
			return false
		}
		name, _, _, _ := splitLine(strings.TrimRight(line, "\r\n"))
		return name == user
	})
}

// change replaces the password of a line, and leaves every other byte of it.
func (f *PasswordFile) change(user string, to func(stored string) (string, error)) error {
	i := f.find(user)
	if i < 0 {
		return fmt.Errorf("%w: %s", ErrNoUser, user)
	}
	line := f.text(i)
	_, stored, _, credentials := splitLine(line)
	changed, err := to(stored)
	if err != nil {
		return err
	}
	end := f.lines[i][len(line):]
	if credentials {
		at := strings.LastIndex(line, stored)
		f.lines[i] = line[:at] + changed + line[at+len(stored):] + end
		return nil
	}
	rest := line[len(user):]
	rest = strings.TrimPrefix(rest, ":")
	f.lines[i] = user + ":" + changed + rest[len(stored):] + end
	return nil
}

// List reads a password file and gives its users in order, and what is wrong with it.
func List(path string, keepCase bool) ([]Listing, []Problem, error) {
	b, _, err := readFile(path)
	if err != nil {
		return nil, nil, err
	}
	t := parseTable(path, b, !keepCase, systemIDs)
	out := make([]Listing, 0, len(t.entries))
	for _, e := range t.entries {
		l := Listing{Line: e.line, Name: e.name, Scheme: e.hash.Scheme, State: "active", Reason: e.refused}
		switch {
		case e.refused != "":
			l.State = "refused"
		case e.hash.Locked:
			l.State = "disabled"
			if h, err := ParseHash(strings.TrimLeft(storedOf(e.text), "!")); err == nil {
				l.Scheme = h.Scheme
			}
		case e.rules.nologin:
			l.State, l.Reason = "disabled", "nologin"
		}
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b Listing) int { return a.Line - b.Line })
	return out, t.problems, nil
}

// Stored reads what stands for the password of user in a file. ErrNoUser.
func Stored(path, user string) (string, error) {
	f, err := openPasswordFile(path, true)
	if err != nil {
		return "", err
	}
	return f.Stored(user)
}

func storedOf(line string) string {
	_, stored, _, _ := splitLine(line)
	return stored
}
