package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"roost/auth"
	"roost/store"
)

// offline is the mail of this machine, for a verb that works on it while no server
// has it. As a server does, it becomes the user that mail.user names.
type offline struct {
	names    []string // of the users that were asked for
	store    store.Store
	auth     *auth.Auth
	identity func(auth.User) (store.Identity, error)
}

// openOffline opens it for the users given, none for all whom the sources know. before is
// called while the process may still be root; nil: it is not.
func openOffline(path string, users []string, log *slog.Logger, before func(users []string) error) (*offline, error) {
	c, err := loadConfig(path)
	if err != nil {
		return nil, err
	}
	o := &offline{names: users}
	if o.identity, err = identities(c); err != nil {
		return nil, exitWith(exitUsage, err)
	}
	o.auth, err = openAuth(c, false, log)
	if err != nil {
		return nil, err
	}
	if len(users) == 0 {
		o.names, err = everybody(o.auth)
	}
	if uid, _, _, oerr := owner(c); err == nil && os.Geteuid() == 0 && oerr == nil && uid <= 0 {
		err = exitWith(exitUsage, errors.New("this would make root's files among the mail: set mail.user to its owner, or run this as the owner"))
	}
	if err == nil && before != nil {
		err = before(o.names)
	}
	sv := &service{path: path, config: c, log: log}
	if err == nil {
		err = sv.dropRights()
	}
	if err == nil {
		o.store, err = openStore(c, log)
	}
	if err != nil {
		o.auth.Close()
		return nil, err
	}
	return o, nil
}

// everybody is whom the sources know; who may not log in now has mail too.
func everybody(a *auth.Auth) ([]string, error) {
	names, silent, err := a.Users(context.Background())
	if err == nil && len(silent) > 0 {
		err = exitWith(exitUsage, fmt.Errorf("%s cannot tell whom it has: name the users", silent[0]))
	}
	return names, err
}

// close ends it. What was learned of the mailboxes is written.
func (o *offline) close() error {
	return errors.Join(o.store.Close(context.Background()), o.auth.Close())
}

// errNoMail is of a user who has no Maildir yet, which harms no verb.
var errNoMail = errors.New("no mail yet")

// account runs do on the account of one user. errNoMail.
func (o *offline) account(ctx context.Context, name string, do func(store.Account) error) error {
	u, ok := o.auth.Lookup(name, auth.Attempt{})
	if !ok {
		return fmt.Errorf("%[1]s: no such user, or one who cannot be used: roost auth test --no-password %[1]s", name)
	}
	who, err := o.identity(u)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for i := range who.Roots {
		who.Roots[i].Create = false // a verb that looks makes nothing
	}
	a, err := o.store.Account(ctx, who)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w: there is no %s", name, errNoMail, who.Roots[0].Mail)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer a.Close()
	if err := do(a); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// mailboxes runs do on each mailbox of an account that holds messages.
func mailboxes(ctx context.Context, a store.Account, write bool, do func(store.Mailbox) error) error {
	var names []store.Name
	for e, err := range a.List(ctx, store.ListQuery{Patterns: []string{"*"}}) {
		if err != nil {
			return err
		}
		names = append(names, e.Name)
	}
	for _, name := range names {
		box, err := a.Hold(ctx, name, write, nil)
		if errors.Is(err, store.ErrNoSelect) || errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		err = do(box)
		if err := errors.Join(err, box.Close()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
