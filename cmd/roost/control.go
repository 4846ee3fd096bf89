package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"roost/config"
	"roost/server"
	"roost/server/control"
	"roost/server/session"
	"roost/server/wire"
	"roost/unixsocket"
)

// prepareControl makes the directory of the control socket while there are rights to.
func (sv *service) prepareControl() {
	if path := sv.config.Control.Path(); path != "" {
		uid, gid, _, err := sv.owner()
		if err != nil || os.Geteuid() != 0 {
			uid, gid = -1, -1
		}
		control.Prepare(path, uid, gid)
	}
}

// openControl answers on the control socket from now on. Mail is served without it,
// where it cannot be had.
func (sv *service) openControl(listeners []server.Listener) {
	path := sv.config.Control.Path()
	if path == "" {
		return
	}
	about := control.Status{Version: version, PID: os.Getpid(), UID: os.Geteuid(), GID: os.Getegid(), Started: time.Now(), Config: absolute(sv.path)}
	for _, l := range listeners {
		about.Listen = append(about.Listen, l.String())
	}
	about.Read = sv.read
	sv.about.Store(&about)
	l, err := control.Listen(path)
	if err != nil {
		sv.log.Warn("roost who, kick, trace and doctor cannot ask this server: "+controlHint(path, err), "event", "control_failed", "err", err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ends with ctx; joined in closeControl
		defer close(done)
		if err := l.Serve(ctx, sv.server.Control(func() control.Status { return *sv.about.Load() })); err != nil {
			sv.log.Error("the control socket is lost", "event", "control_failed", "err", err)
		}
	}()
	sv.closeControl = func() {
		cancel()
		<-done
	}
}

// controlHint says what to do about a socket that cannot be made.
func controlHint(path string, err error) string {
	switch {
	case errors.Is(err, unixsocket.ErrTaken):
		return "another one listens there; give this one a path of its own, control.socket"
	case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		return fmt.Sprintf("install -d -o %d -m 0700 %s, or RuntimeDirectory= in its unit, makes the directory", os.Geteuid(), shellWord(filepath.Dir(path)))
	}
	return `control.socket names another path, or "off"`
}

// reread notes that the configuration was read again.
func (sv *service) reread(restart []string) {
	if old := sv.about.Load(); old != nil {
		about := *old
		about.Read, about.Restart = sv.read, restart
		sv.about.Store(&about)
	}
}

// notice and tap are how sessions reach the server that they belong to.
func (sv *service) notice(id string, doing session.Activity) { sv.server.Notice(id, doing) }
func (sv *service) tap(id string) *wire.Tap                  { return sv.server.Tap(id) }

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// A controlled verb asks the running server.
type controlled struct{ config, socket *string }

func controlFlags(fs *flag.FlagSet) controlled {
	return controlled{
		config: configFlag(fs),
		socket: fs.String("socket", "", "`path` of the control socket, instead of the configuration's"),
	}
}

// ask asks the server and calls each for every reply. It returns the last word.
func (c controlled) ask(ctx context.Context, q control.Request, each func(control.Reply) error) (string, error) {
	path, owners := *c.socket, []int(nil)
	if path == "" {
		// Only what it says counts here, not whether its files are there.
		conf, err := config.Load(*c.config)
		if err != nil {
			return "", exitWith(exitUsage, err)
		}
		if path = conf.Control.Path(); path == "" {
			return "", exitWith(exitUnreachable, fmt.Errorf("%s turns the control socket off (control.socket)", *c.config))
		}
		if uid, _, err := conf.Owner(); err == nil && uid > 0 {
			owners = append(owners, uid)
		}
	}
	done, err := control.Ask(ctx, path, q, each, owners...)
	switch {
	case errors.Is(err, control.ErrNobody):
		err = exitWith(exitUnreachable, fmt.Errorf("%w: is Roost running? `roost doctor` says more", err))
	case errors.Is(err, control.ErrDenied):
		err = exitWith(exitUnreachable, fmt.Errorf("%w: try with sudo", err))
	case errors.Is(err, control.ErrForeign):
		err = exitWith(exitUnreachable, fmt.Errorf("%w, and is not trusted: remove it, or name the right one", err))
	}
	return done, err
}

// ago is the time since t in one unit or two: "5s", "12m", "3h20m", "4d".
func ago(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := max(now.Sub(t), 0)
	switch {
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + "s"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + "m"
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return strconv.Itoa(int(d.Hours())/24) + "d"
}
