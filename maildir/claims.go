package maildir

import (
	"maps"
	"slices"

	"github.com/emersion/go-imap/v2"
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

// claimed puts those first to which another program gave UIDs already, and adds those of
// its messages that no event told of yet. lost is true when there may be more: then
// only a look tells.
func (m *mailbox) claimed(list []newcomer) (all []newcomer, lost bool) {
	if len(m.list.claims) == 0 {
		return list, false
	}
	floor := m.nextKnown()
	here := map[string]bool{}
	for i := range list {
		here[list[i].baseName] = true
		if uid := m.list.claims[list[i].baseName]; uid >= floor {
			list[i].uid = uid
		}
	}
	for base, uid := range m.list.claims {
		if uid < floor || here[base] {
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

// claimMissing reports whether a file that another program gave a UID is not among those
// that were found: it is gone, or readdir missed it while it was renamed.
func (m *mailbox) claimMissing(found []newcomer) bool {
	if len(m.list.claims) == 0 {
		return false
	}
	missing := maps.Clone(m.list.claims)
	for i := range found {
		delete(missing, found[i].baseName)
	}
	floor := m.nextKnown()
	for _, uid := range missing {
		if uid >= floor {
			return true
		}
	}
	return false
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
