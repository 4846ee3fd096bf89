package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"roost/config"
)

// prepareState makes the state directory while there are rights to: for the user that
// root becomes, or where the configuration names another than the usual one.
func (sv *service) prepareState() {
	dir := sv.config.State()
	uid, gid, _, err := sv.owner()
	becomes := os.Geteuid() == 0 && err == nil && uid > 0
	if dir == "" || !becomes && dir == config.Default().StateDir {
		return
	}
	made := os.Mkdir(dir, 0o700) == nil
	if becomes && (made || emptyOfRoot(dir)) {
		os.Lchown(dir, uid, gid)
	}
}

// emptyOfRoot reports whether nothing is in a directory of root's.
func emptyOfRoot(dir string) bool {
	fi, err := os.Lstat(dir)
	if err != nil || !fi.IsDir() || fi.Sys().(*syscall.Stat_t).Uid != 0 {
		return false
	}
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

// openState takes up what was remembered before. Mail is served without it.
func (sv *service) openState() {
	dir := sv.config.State()
	if dir == "" {
		return
	}
	f, err := os.Open(dir)
	if err == nil {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			err = errors.Join(sv.auth.OpenState(dir), sv.events.Open(dir))
		}
		if err != nil {
			f.Close()
		}
	}
	if err == nil {
		sv.state = f
		return
	}
	hint := fmt.Sprintf("install -d -o %d -m 0700 %s, or StateDirectory= in its unit, makes the directory", os.Geteuid(), shellWord(dir))
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		hint = "another server uses it; give this one a directory of its own, state_dir"
	case errors.Is(err, fs.ErrNotExist) && dir == config.Default().StateDir:
		sv.log.Info("failed logins are forgotten with a restart: "+hint, "event", "state_none", "path", dir)
		return
	}
	sv.log.Warn("failed logins are forgotten with a restart: "+hint, "event", "state_failed", "path", dir, "err", err)
}
