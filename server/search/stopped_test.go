package search

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/store/memstore"
)

// endsLater is a context that has ended once it was asked about it a few times.
type endsLater struct {
	context.Context
	left atomic.Int32
}

func (c *endsLater) Err() error {
	if c.left.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}

// A header of ten thousand fields and a search for as many texts in them are a minute of
// work on one message, which neither a client that was gone nor the server's end stopped.
func TestManyKeysInManyFieldsCanBeStopped(t *testing.T) {
	src := open(t, memstore.Seed{Message: strings.Repeat("Subject: a subject like others\n", 200) + "\nx\n"})
	var keys []Key
	for range 2000 {
		keys = append(keys, Key{Op: Header, Field: "Subject", Text: "nowhere"}, Key{Op: Not})
	}
	ctx := &endsLater{Context: t.Context()}
	ctx.left.Store(10)
	if _, err := plan(t, keys...).Search(ctx, src, imap.SearchOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("search went on to its end: %v", err)
	}
	if asked := 10 - ctx.left.Load(); asked < 11 {
		t.Errorf("it asked %d times", asked)
	}
}
