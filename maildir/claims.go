package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// A claim is a UID that another program gave a file which we have not seen yet. UIDs
// are shown in order, so nothing above a claim is shown before its file was found, or
// was looked for and is not there.

// adoptClaimed shows the messages that another program gave UIDs, so that what comes
// next may have higher ones. Called with the dotlock held.
func (m *mailbox) adoptClaimed() error {
	if len(m.list.claims) == 0 {
		return nil
	}
	return m.adopt(nil)
}

// claimed is the UID that another program gave a file that we have not seen yet.
func (m *mailbox) claimed(base string) (imap.UID, bool) {
	uid := m.list.claims[base]
	return uid, uid != 0 && uid >= m.nextKnown()
}

// withClaimed puts those first to which another program gave UIDs already, and adds those
// of its messages that no event told of yet. lost is true when there may be more: then
// only a look tells.
func (m *mailbox) withClaimed(list []newcomer) (all []newcomer, lost bool) {
	if len(m.list.claims) == 0 {
		return list, false
	}
	here := map[string]bool{}
	for i := range list {
		here[list[i].baseName] = true
		if uid, ok := m.claimed(list[i].baseName); ok {
			list[i].uid = uid
		}
	}
	for base := range m.list.claims {
		uid, ok := m.claimed(base)
		if !ok || here[base] {
			continue
		}
		n, ok := m.guess(base)
		if ok {
			n.uid = uid
			list = append(list, n)
		}
		lost = lost || !ok
	}
	slices.SortStableFunc(list, func(a, b newcomer) int {
		switch {
		case a.uid == b.uid:
			return 0
		case b.uid == 0 || a.uid != 0 && a.uid < b.uid:
			return -1
		}
		return 1
	})
	return list, lost
}

// claims are the files of other programs' messages as the passes of one look saw them. A
// file that is renamed all the time may be missed by the last pass, and was found by
// another; or its name was seen, and was another when it was asked for.
type claims struct {
	found    map[string]newcomer
	glimpsed map[string]bool
}

// note takes what came of asking for a file whose name was seen.
func (c *claims) note(base string, n newcomer, err error) {
	switch {
	case err == nil:
		if c.found == nil {
			c.found = map[string]newcomer{}
		}
		c.found[base] = n
		delete(c.glimpsed, base)
	case errors.Is(err, fs.ErrNotExist) && c.found[base].baseName == "":
		if c.glimpsed == nil {
			c.glimpsed = map[string]bool{}
		}
		c.glimpsed[base] = true
	}
}

// missing reports whether a file was not found yet: it is gone, or readdir missed it while
// it was renamed.
func (c *claims) missing(m *mailbox) bool {
	for base := range m.list.claims {
		if _, yes := m.claimed(base); yes && c.found[base].baseName == "" {
			return true
		}
	}
	return false
}

// join adds what earlier passes found; more reports that there was any. The error is
// ErrInUse where a file is there that could not be caught. One of which no pass saw a name
// is not there.
func (c *claims) join(list []newcomer) (all []newcomer, more bool, err error) {
	if len(c.glimpsed) > 0 {
		return nil, true, fmt.Errorf("%w: another program renames a message all the time", store.ErrInUse)
	}
	for i := range list {
		delete(c.found, list[i].baseName)
	}
	return slices.AppendSeq(list, maps.Values(c.found)), len(c.found) > 0, nil
}

// guess finds a file where a delivery or a mail reader has most likely put it.
func (m *mailbox) guess(base string) (newcomer, bool) {
	for _, s := range []sighting{{base, true}, {base + infoMark, false}, {base, false}, {base + infoMark + "S", false}} {
		if n, err := m.newcomer(s); err == nil {
			return n, true
		}
	}
	return newcomer{}, false
}

// claim notes what another program's line says.
func (m *mailbox) claim(base string, uid imap.UID) {
	if m.list.claims == nil {
		m.list.claims = map[string]imap.UID{}
	}
	m.list.claims[base] = uid
}
