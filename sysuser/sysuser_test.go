package sysuser

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A getent of our own answers as one of a directory service would.
func fake(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "getent"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/bin:/usr/bin")
}

func TestFind(t *testing.T) {
	u, err := Find(t.Context(), "root")
	if err != nil || u.UID != 0 || u.Home == "" || u.Groups[0] != 0 {
		t.Errorf("%+v, %v", u, err)
	}
	fake(t, `case "$1 $2" in
"passwd ann") echo "ann:*:61234:61000:Ann:/home/ann:/bin/sh";;
"initgroups ann") echo "ann 61000 27 61005";;
"passwd 61234") echo "ann:*:61234:61000:Ann:/home/ann:/bin/sh";;
"passwd odd") echo "what";;
"passwd down") echo "nss is down" >&2; exit 1;;
*) exit 2;;
esac`)
	u, err = Find(t.Context(), "ann")
	if err != nil || u.UID != 61234 || u.GID != 61000 || u.Home != "/home/ann" || !slices.Equal(u.Groups, []uint32{61000, 27, 61005}) {
		t.Errorf("%+v, %v", u, err)
	}
	// A number is no name, and a name no option.
	for _, name := range []string{"61234", "nobody else", "-h", "", "a:b", "../x"} {
		if u, err := Find(t.Context(), name); !errors.Is(err, ErrUnknown) {
			t.Errorf("%q: %+v, %v", name, u, err)
		}
	}
	for _, name := range []string{"odd", "down"} {
		if u, err := Find(t.Context(), name); err == nil || errors.Is(err, ErrUnknown) {
			t.Errorf("%q: %+v, %v", name, u, err)
		}
	}
	var c Cache
	if _, err := c.Find(t.Context(), "ann"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Find(t.Context(), "nobody-else"); !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
	fake(t, "exit 1")
	if _, err := c.Find(t.Context(), "nobody-else"); !errors.Is(err, ErrUnknown) {
		t.Errorf("who was not there a moment ago: %v", err)
	}
	if _, err := c.Find(t.Context(), "ann"); err != nil {
		t.Errorf("what was known a moment ago: %v", err)
	}
}

func TestWithoutGetent(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	u, err := Find(t.Context(), "root")
	if err != nil || u.UID != 0 || u.Groups[0] != 0 {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := Find(t.Context(), "nobody-of-that-name"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}
