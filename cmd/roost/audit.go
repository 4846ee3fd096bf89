package main

import (
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/emersion/go-imap/v2"

	"roost/server/session"
)

// auditLog says who did what to mail. The zero value says nothing. Safe for concurrent use.
type auditLog struct {
	path string // "" for no file of its own

	mu   sync.Mutex // guards all below, and is held while a line is written
	log  *slog.Logger
	file *os.File
}

// reopen opens the file anew: what was there may have been moved away.
func (a *auditLog) reopen() error {
	if a.path == "" {
		return nil
	}
	f, err := os.OpenFile(a.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	a.close()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.file, a.log = f, slog.New(slog.NewTextHandler(f, nil))
	return nil
}

func (a *auditLog) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file != nil {
		a.file.Close()
		a.file, a.log = nil, nil
	}
}

func (a *auditLog) write(in *session.Login, client string, d session.Deed) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.log == nil {
		return
	}
	args := []any{"event", "mail_" + d.What, "sess", in.ID, "user", in.Who.User, "addr", in.Addr.String(), "client", client, "mailbox", string(d.Mailbox)}
	if in.Who.Login != in.Who.User {
		args = append(args, "login", in.Who.Login)
	}
	if d.To != "" {
		args = append(args, "to", string(d.To))
	}
	if len(d.UIDs) > 0 {
		args = append(args, "messages", len(d.UIDs), "uids", uidText(d.UIDs))
	}
	if d.What == "flags" {
		var flags []string
		for _, f := range d.Flags {
			flags = append(flags, string(f))
		}
		args = append(args, "op", d.Op, "flags", strings.Join(flags, " "))
	}
	a.log.Info("mail was changed", args...)
}

// uidText writes UIDs as a set, which ends in "..." where it would be long.
func uidText(uids []imap.UID) string {
	const most = 1000
	s := imap.UIDSetNum(uids...).String()
	if len(s) <= most {
		return s
	}
	return s[:strings.LastIndexByte(s[:most], ',')] + ",..."
}
