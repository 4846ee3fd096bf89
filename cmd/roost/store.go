package main

import (
	"log/slog"

	"roost/config"
	"roost/maildir"
	"roost/store"
)

// openStore opens the mail of this machine.
func openStore(c *config.Config, log *slog.Logger) (store.Store, error) {
	return maildir.New(maildir.Options{Log: log, MaxUnpacked: int64(c.Limits.Unpacked), NoTextIndex: c.Search.Index == "off"})
}
