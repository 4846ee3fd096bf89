package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// What an edit of app passwords cannot do; wrapped with user and name.
var (
	ErrNoApp     = errors.New("no such app password")
	ErrAppExists = errors.New("there is an app password of this name")
)

// An AppFile is a file of app passwords in the hands of EditApps. Lines that are not named
// stay as they are.
type AppFile struct {
	lines []string // each with its end
	table *appTable
	now   func() time.Time
}

// EditApps changes the file of app passwords at path by fn, as Edit does that of users.
// beside is the password file: one that is not there yet is made with its owner and mode.
func EditApps(path, beside string, fn func(*AppFile) error) error {
	fresh := false
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		fresh = true
	}
	return editLines(path, true, func(f *os.File, lines []string) ([]string, error) {
		table, err := parseApps(path, []byte(strings.Join(lines, "")))
		if err != nil {
			return nil, err
		}
		if fi, err := os.Stat(beside); fresh && err == nil {
			if sys, ok := fi.Sys().(*syscall.Stat_t); ok {
				if err := f.Chown(int(sys.Uid), int(sys.Gid)); err != nil && os.Geteuid() == 0 {
					return nil, err
				}
			}
			if err := f.Chmod(fi.Mode().Perm()); err != nil {
				return nil, err
			}
		}
		e := &AppFile{lines: lines, table: table, now: time.Now}
		if err := fn(e); err != nil {
			return nil, err
		}
		return e.lines, nil
	})
}

// ReadApps reads a file of app passwords; without one there are none.
func ReadApps(path string) ([]AppPassword, error) {
	b, _, err := readFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	t, err := parseApps(path, b)
	var list []AppPassword
	for _, u := range t.users {
		for _, p := range u.list {
			list = append(list, *p)
		}
	}
	slices.SortFunc(list, func(a, b AppPassword) int { return a.Line - b.Line })
	return list, err
}

// Add makes a password for p.User and p.Name and gives it back: it is stored nowhere in the
// clear. main is what stands for the user's main password, whose salt it shares where that
// is SCRAM-SHA-256. p.Created is set to now.
func (f *AppFile) Add(p AppPassword, main string) (password string, err error) {
	if _, err := foldName(p.User, false); err != nil {
		return "", err
	}
	if strings.ContainsRune(p.User, ':') || p.User[0] == '#' {
		return "", fmt.Errorf("user %q: a name in this file has no colon and does not start with #", p.User)
	}
	if err := checkAppName(p.Name); err != nil {
		return "", err
	}
	if f.table.of(p.User).named(p.Name) != nil {
		return "", fmt.Errorf("%w: %s %s", ErrAppExists, p.User, p.Name)
	}
	password = newAppPassword()
	keys := scramKeys{salt: random(saltSize), iterations: scramIterations}
	if h, err := ParseHash(main); err == nil && h.Scheme == "SCRAM-SHA-256" && h.scram != nil {
		keys = *h.scram
	} else if u := f.table.of(p.User); u != nil {
		for _, other := range u.list {
			if other.hash.Scheme == "SCRAM-SHA-256" {
				keys = *other.hash.scram
			}
		}
	}
	if keys, err = makeScramKeys(sha256.New, password, keys.salt, keys.iterations); err != nil {
		return "", err
	}
	enc := base64.StdEncoding.EncodeToString
	p.stored = fmt.Sprintf("{SCRAM-SHA-256}%d,%s,%s,%s", keys.iterations, enc(keys.salt), enc(keys.stored), enc(keys.server))
	p.Created = f.now()
	if n := len(f.lines); n > 0 && !strings.HasSuffix(f.lines[n-1], "\n") {
		f.lines[n-1] += "\n"
	}
	f.lines = append(f.lines, p.String()+"\n")
	return password, nil
}

// Revoke makes one useless, and keeps its line so that its use is noticed. It is no error
// to do it twice.
func (f *AppFile) Revoke(user, name string) error {
	p := f.table.of(user).named(name)
	if p == nil {
		return fmt.Errorf("%w: %s %s", ErrNoApp, user, name)
	}
	if p.Revoked.IsZero() {
		revoked := *p
		revoked.Revoked = f.now()
		f.lines[p.Line-1] = revoked.String() + "\n"
	}
	return nil
}

// Remove takes the line of one away, or with an empty name all of a user.
func (f *AppFile) Remove(user, name string) error {
	removed := 0
	if u := f.table.of(user); u != nil {
		for _, p := range slices.Backward(u.list) {
			if name == "" || p.Name == name {
				f.lines[p.Line-1] = ""
				removed++
			}
		}
	}
	if removed == 0 && name != "" {
		return fmt.Errorf("%w: %s %s", ErrNoApp, user, name)
	}
	f.lines = slices.DeleteFunc(f.lines, func(l string) bool { return l == "" })
	return nil
}

// appLetters are those that no font and no voice confuses; 20 of them are 90 bits.
const appLetters = "abcdefghjkmnpqrstuvwxyz"

// newAppPassword makes one that is easy to type: "kxqdm-tzjwb-pnhsc-vgarf".
func newAppPassword() string {
	var b strings.Builder
	for i := range 20 {
		if i > 0 && i%5 == 0 {
			b.WriteByte('-')
		}
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(appLetters))))
		if err != nil {
			panic(err) // crypto/rand never fails
		}
		b.WriteByte(appLetters[n.Int64()])
	}
	return b.String()
}
