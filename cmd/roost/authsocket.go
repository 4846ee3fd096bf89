package main

import (
	"context"
	"fmt"
	"net"
	"os/user"
	"strconv"
	"sync"

	"roost/auth/dovecot"
	"roost/config"
	"roost/unixsocket"
)

// listenAuth opens the sockets on which other programs ask who may log in, while there are
// rights to. One that systemd passed (passed) is taken for the path it has; the rest of
// them is given back.
func listenAuth(ctx context.Context, c *config.Config, passed []net.Listener) (list, rest []net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range append(list, rest...) {
				l.Close()
			}
			list = nil
		}
	}()
	given := map[string]net.Listener{}
	for _, l := range passed {
		if l.Addr().Network() == "unix" {
			given[l.Addr().String()] = l
		} else {
			rest = append(rest, l)
		}
	}
	for _, s := range c.Auth.Listen {
		l := given[s.Path]
		switch delete(given, s.Path); {
		case l != nil:
		case s.Path != "":
			uid, gid := authOwner(s)
			if l, err = unixsocket.Listen(s.Path, s.FileMode(), uid, gid); err != nil {
				err = fmt.Errorf("authentication socket %s: %w", s.Path, err)
			}
		default:
			l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.Address)
		}
		if err != nil {
			return list, rest, err
		}
		list = append(list, l)
	}
	for _, l := range given { // nobody's: server.Listen says so
		rest = append(rest, l)
	}
	return list, rest, nil
}

// authOwner gives the owner of a socket; -1 for what is not said. Check has seen that they
// are there.
func authOwner(s config.AuthListen) (uid, gid int) {
	uid, gid = -1, -1
	if u, err := user.Lookup(s.User); s.User != "" && err == nil {
		uid, _ = strconv.Atoi(u.Uid)
		gid, _ = strconv.Atoi(u.Gid)
	}
	if g, err := user.LookupGroup(s.Group); s.Group != "" && err == nil {
		gid, _ = strconv.Atoi(g.Gid)
	}
	return uid, gid
}

// serveAuth answers on these sockets until closeAuth.
func (sv *service) serveAuth() {
	if len(sv.sockets) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	server := dovecot.NewServer(sv.auth, sv.log)
	var wg sync.WaitGroup
	for _, l := range sv.sockets {
		sv.log.Info("listening", "event", "listen", "on", l.Addr().String()+" authentication")
		wg.Go(func() { // ends with ctx; joined in closeAuth
			if err := server.Serve(ctx, l); err != nil {
				sv.log.Error("an authentication socket is lost", "event", "auth_socket", "on", l.Addr().String(), "err", err)
			}
		})
	}
	sv.closeAuth = func() {
		cancel()
		wg.Wait()
	}
}
