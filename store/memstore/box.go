package memstore

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"roost/store"

	"github.com/emersion/go-imap/v2"
)

// box is one mailbox: what all its holds share. Guarded by Store.mu.
type box struct {
	s        *Store
	u        *user
	name     store.Name
	id       string
	validity uint32
	use      []imap.MailboxAttr
	dead     bool
	noModSeq bool
	forgot   store.ModSeq // Vanished knows nothing of before

	annotations []store.Annotation // but that of the special uses

	messages map[imap.UID]*message
	keywords []string  // in the spelling first seen
	versions []version // every version there ever was, the oldest is the empty one
	holds    map[*hold]struct{}
}

// version is a View, and what made it from the one before.
type version struct {
	store.View
	changed  []imap.UID // flags or keywords
	expunged bool
}

// message is one message with its bytes, line ends as CRLF.
type message struct {
	row    store.Row
	bytes  []byte
	recent bool // no hold was told so far
	notes  map[store.NoteKind][]byte
}

// newBox makes an empty mailbox of u.
func (s *Store) newBox(u *user, n store.Name) *box {
	s.lastID++
	now := s.clock()
	u.lastValidity = max(u.lastValidity+1, uint32(now.Unix()))
	return &box{
		s: s, u: u, name: n, id: fmt.Sprintf("F%032x", s.lastID), validity: u.lastValidity,
		messages: map[imap.UID]*message{},
		versions: []version{{View: store.View{UIDNext: 1, ModSeq: store.ModSeq(now.UnixMicro())}}},
		holds:    map[*hold]struct{}{},
	}
}

func (b *box) newest() store.View { return b.versions[len(b.versions)-1].View }

// uids lists all messages.
func (b *box) uids() []imap.UID {
	c := b.newest().UIDs
	return c.Slice(0, c.Len())
}

// next starts a version: a copy of the newest with a later MODSEQ.
func (b *box) next() version {
	v := b.newest()
	v.ModSeq = max(v.ModSeq+1, store.ModSeq(b.s.clock().UnixMicro()))
	return version{View: v}
}

// publish makes v the newest version and wakes all.
func (b *box) publish(v version) {
	b.versions = append(b.versions, v)
	b.wakeLocked()
}

func (b *box) wakeLocked() {
	b.u.touchedLocked(b.s)
	for h := range b.holds {
		if h.wake != nil {
			b.s.pending = append(b.s.pending, h.wake)
		}
	}
}

// at gives the index of the version whose cursor is m; -1 before the first.
func (b *box) at(m store.ModSeq) int {
	return sort.Search(len(b.versions), func(i int) bool { return b.versions[i].ModSeq > m }) - 1
}

// addLocked adds messages in order, all in one version, and says their UIDs.
func (b *box) addLocked(add []*message) []imap.UID {
	if len(add) == 0 {
		return nil
	}
	v := b.next()
	uids := make([]imap.UID, len(add))
	for i, m := range add {
		uids[i] = v.UIDNext
		v.UIDNext++
		m.row.UID, m.row.ModSeq = uids[i], v.ModSeq
		m.row.Keywords = b.spelled(m.row.Keywords.Names())
		m.recent = true
		b.messages[uids[i]] = m
		b.u.messages++
		b.u.bytes += m.row.Size
	}
	v.UIDs = v.UIDs.Append(uids...)
	b.publish(v)
	return uids
}

// copiesLocked are new messages with the content of uids, which must be there.
func (b *box) copiesLocked(uids []imap.UID) []*message {
	out := make([]*message, len(uids))
	for i, u := range uids {
		m := *b.messages[u]
		m.row.Saved = b.s.clock().Unix()
		out[i] = &m
	}
	return out
}

// expungeLocked removes uids, which must be there, and says in which version.
func (b *box) expungeLocked(uids []imap.UID) store.ModSeq {
	if len(uids) == 0 {
		return b.newest().ModSeq
	}
	v := b.next()
	v.UIDs = v.UIDs.Without(uids)
	v.Gen++
	v.expunged = true
	for _, u := range uids {
		b.u.messages--
		b.u.bytes -= b.messages[u].row.Size
		delete(b.messages, u)
	}
	b.publish(v)
	return v.ModSeq
}

// spelled gives keywords the spelling that the mailbox saw first, and keeps new ones.
func (b *box) spelled(names []string) store.Keywords {
	out := make([]string, len(names))
	for i, n := range names {
		k := slices.IndexFunc(b.keywords, func(s string) bool { return strings.EqualFold(s, n) })
		if k < 0 {
			k = len(b.keywords)
			b.keywords = append(b.keywords, n)
		}
		out[i] = b.keywords[k]
	}
	return store.KeywordsOf(out...)
}
