package store

import (
	"slices"
	"strings"
	"sync"
)

// Keywords is an interned set of keywords, so that a message costs four bytes for
// it. The zero value is the empty set. Names compare without case (RFC 9051 section
// 2.3.2), but sets are equal values only where they are spelled alike: a mailbox
// keeps the spelling it met first. Safe for concurrent use.
type Keywords struct{ id uint32 }

// interned holds every set ever made. It only grows, and stays small because
// mailboxes share their sets; implementations bound the keywords of a mailbox.
var interned = struct {
	mu   sync.RWMutex // guards both
	ids  map[string]uint32
	sets [][]string
}{ids: map[string]uint32{"": 0}, sets: [][]string{nil}}

// KeywordsOf gives the set of these names; doubles are dropped.
func KeywordsOf(names ...string) Keywords {
	if len(names) == 0 {
		return Keywords{}
	}
	set := make([]string, 0, len(names))
	for _, n := range names {
		if !containsFold(set, n) {
			set = append(set, n)
		}
	}
	slices.SortFunc(set, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	key := strings.Join(set, " ") // no keyword holds a space: it is an atom

	interned.mu.RLock()
	id, ok := interned.ids[key]
	interned.mu.RUnlock()
	if ok {
		return Keywords{id}
	}
	interned.mu.Lock()
	defer interned.mu.Unlock()
	if id, ok = interned.ids[key]; !ok {
		id = uint32(len(interned.sets))
		interned.sets = append(interned.sets, set)
		interned.ids[key] = id
	}
	return Keywords{id}
}

// Names are the keywords of the set; the slice must not be changed.
func (k Keywords) Names() []string {
	if k.id == 0 {
		return nil
	}
	interned.mu.RLock()
	defer interned.mu.RUnlock()
	return interned.sets[k.id]
}

// Has reports whether the set holds a keyword, whatever its case.
func (k Keywords) Has(name string) bool { return containsFold(k.Names(), name) }

func containsFold(set []string, name string) bool {
	return slices.ContainsFunc(set, func(s string) bool { return strings.EqualFold(s, name) })
}
