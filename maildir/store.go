package maildir

import (
	"context"
	"log/slog"
	"os"
	"time"

	"roost/maildir/fsys"
	"roost/store"
)

// Options are what a Store is made with. Each zero value is a sensible default.
type Options struct {
	FS    fsys.FS     // fsys.OS
	Clock store.Clock // time.Now
	Host  string      // in the names of new files and in locks; the kernel's host name
	PID   int         // os.Getpid()
	Boot  string      // tells one boot of the machine from the next; read from the kernel
	Log   *slog.Logger

	// Linger is how long a mailbox stays open after its last session; 0 is 5 minutes.
	Linger time.Duration
	// MaxOpen bounds the mailboxes that linger; 0 follows from RLIMIT_NOFILE.
	MaxOpen int
	// Poll turns events off: every mailbox is looked at instead, as on a network
	// filesystem. PollEvery is how often; 0 is 10 seconds.
	Poll      bool
	PollEvery time.Duration
}

// New makes the store of the Maildirs of this machine.
func New(opt Options) (*Store, error) {
	if opt.FS == nil {
		opt.FS = fsys.OS
	}
	if opt.Clock == nil {
		opt.Clock = time.Now
	}
	if opt.Host == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, err
		}
		opt.Host = host
	}
	if opt.PID == 0 {
		opt.PID = os.Getpid()
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Linger == 0 {
		opt.Linger = 5 * time.Minute
	}
	if opt.PollEvery == 0 {
		opt.PollEvery = 10 * time.Second
	}
	return &Store{opt: opt, names: newNamer(opt.Host, opt.PID)}, nil
}

// Store serves Maildir trees: store.Store. Safe for concurrent use.
type Store struct {
	opt   Options
	names *namer
}

// hold opens a mailbox for one session; see store.Account.Hold. resolve finds the
// place of another mailbox of the account, for Copy and Move.
func (s *Store) hold(ctx context.Context, p place, write bool, wake func(), resolve func(store.Name) (place, error)) (store.Mailbox, error) {
	return nil, store.ErrUnavailable
}

// batch begins to add messages to a mailbox; see store.Account.Batch.
func (s *Store) batch(ctx context.Context, p place, limits store.Limits) (store.Batch, error) {
	return nil, store.ErrUnavailable
}

// status counts a mailbox; see store.Account.Status.
func (s *Store) status(ctx context.Context, p place, exact bool) (store.Status, error) {
	return store.Status{}, store.ErrUnavailable
}

// replaced ends all holds of a mailbox with store.ErrReplaced: it was deleted.
func (s *Store) replaced(key placeKey) {}

// moved tells that a mailbox directory has another path now, with all in it: its
// holds live on, its watches are set anew.
func (s *Store) moved(key placeKey, path string) {}

// moveAll moves every message of one mailbox to another, as RENAME of INBOX does.
func (s *Store) moveAll(ctx context.Context, from, to place) error { return store.ErrUnavailable }
