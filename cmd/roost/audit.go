package main

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	"roost/server/session"
	"roost/server/workers"
)

// auditLog says who did what to mail. The zero value says nothing. Safe for concurrent use.
type auditLog struct {
	path string // "" for no file of its own

	mu     sync.Mutex // guards all below, and is held while a line is written
	log    *slog.Logger
	file   *os.File
	failed bool // the last line could not be written
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

// on reports whether anything is written down.
func (a *auditLog) on() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.log != nil
}

// write writes a line. The error is the first after a line that could be written.
func (a *auditLog) write(who workers.Session, client string, d session.Brief) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.log == nil || !a.log.Enabled(context.Background(), slog.LevelInfo) {
		return nil
	}
	args := []any{"event", "mail_" + d.What, "sess", who.ID, "user", who.User, "addr", who.Addr.String(), "client", client, "mailbox", d.Mailbox}
	if who.Login != who.User {
		args = append(args, "login", who.Login)
	}
	if d.To != "" {
		args = append(args, "to", d.To)
	}
	if d.UIDs != "" {
		args = append(args, "messages", d.Messages, "uids", d.UIDs)
	}
	if d.What == "flags" {
		args = append(args, "op", d.Op, "flags", d.Flags)
	}
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "mail was changed", 0)
	r.Add(args...)
	err := a.log.Handler().Handle(context.Background(), r)
	told := a.failed
	if a.failed = err != nil; told {
		return nil
	}
	return err
}
