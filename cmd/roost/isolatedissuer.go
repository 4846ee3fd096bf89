package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"roost/config"
	"roost/confine"
	"roost/server/acme"
	"roost/server/workers"
)

// challengeFD is the descriptor on which the issuer answers the authority.
const challengeFD = 4

// acmeDir is where keys and certificates of ACME are kept.
func acmeDir(c *config.Config) string { return filepath.Join(c.State(), "acme") }

// prepareACME makes that directory for whom the issuer becomes, below the state directory,
// which is the desk's.
func prepareACME(c *config.Config) error {
	(&service{config: c, role: workers.RoleDesk}).prepareState()
	uid, gid, err := c.ACMEOwner()
	if err != nil {
		return exitWith(exitUsage, err)
	}
	dir := acmeDir(c)
	if made := os.Mkdir(dir, 0o700) == nil; made || emptyOfRoot(dir) {
		os.Lchown(dir, uid, gid) // what is wrong the issuer tells
	}
	return nil
}

// serveIssuer is the process that asks an authority for certificates.
func serveIssuer(ctx context.Context, env *environment, path string, parent *os.File, orphaned func()) error {
	sv, err := isolatedService(env, workers.RoleIssuer, path)
	if err != nil {
		return err
	}
	l, err := listenerFrom(challengeFD, sv.config.TLS.ACME.Listen)
	if err != nil {
		return err
	}
	defer l.Close()
	front, err := workers.NewIssuer(parent, orphaned)
	if err != nil {
		return err
	}
	opt := acmeOptions(sv.config, sv.log)
	// The way to it leads through the state directory, which is another user's.
	dir := opt.Dir
	if err := os.Chdir(dir); err != nil {
		return fmt.Errorf("keys and certificates of tls.acme: %w", err)
	}
	opt.Dir, opt.Listener, opt.Issued = ".", l, front.Show
	issuer, err := acme.Open(opt) // reads tls.acme.roots
	if err != nil {
		return err
	}
	defer issuer.Close()
	if err := sv.dropRights(); err != nil {
		return err
	}
	if err := sv.confine(); err != nil {
		return err
	}
	for told := false; ; told = true {
		err := mine()
		if err == nil {
			break
		}
		if !told {
			sv.log.Error(fmt.Sprintf("no certificates are asked for until this directory is its own: see who made what is in it, then chown -R %s %s && chmod 700 %[2]s", sv.becomes(), shellWord(dir)), "event", "acme_failed", "path", dir, "err", err)
		}
		select {
		case <-time.After(time.Minute):
		case <-ctx.Done():
			return nil
		}
	}
	if err := issuer.Start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// mine reports whether nobody else can get at what is kept in the working directory. The
// one above is the desk's, which could have put another in its place.
func mine() error {
	var st unix.Stat_t
	if err := unix.Stat(".", &st); err != nil {
		return err
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		return fmt.Errorf("it belongs to uid %d and has mode %04o", st.Uid, st.Mode&0o7777)
	}
	return unix.Access(".", unix.R_OK|unix.W_OK|unix.X_OK)
}

// issuerNeeds is all that it opens: its own directory, and what it takes to find and to
// believe an authority.
func issuerNeeds() confine.Paths {
	return confine.Paths{
		Read:  tidy(append(append([]string{}, everyProgram.Read...), asking...)),
		Write: append([]string{"."}, everyProgram.Write...),
	}
}
