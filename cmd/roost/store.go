package main

import (
	"log/slog"

	"roost/maildir"
	"roost/store"
)

// openStore opens the mail of this machine.
func openStore(log *slog.Logger) (store.Store, error) { return maildir.New(maildir.Options{Log: log}) }
