package store

import (
	"runtime"
	"slices"
	"strings"
	"sync"
	"weak"
)

// Keywords is an interned set of keywords, so that a message costs eight bytes for
// it. The zero value is the empty set. Names compare without case (RFC 9051 section
// 2.3.2), but sets are equal values only where they are spelled alike: a mailbox
// keeps the spelling it met first. Safe for concurrent use.
type Keywords struct{ set *keywordSet }

type keywordSet struct{ names []string }

// interned finds every set that somebody holds. It lets go of the others: a client that
// tries all subsets of some keywords on one message would fill the memory.
var interned = struct {
	mu   sync.RWMutex // guards sets
	sets map[string]weak.Pointer[keywordSet]
}{sets: map[string]weak.Pointer[keywordSet]{}}

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
	known := interned.sets[key].Value()
	interned.mu.RUnlock()
	if known != nil {
		return Keywords{known}
	}
	interned.mu.Lock()
	defer interned.mu.Unlock()
	if known = interned.sets[key].Value(); known == nil {
		known = &keywordSet{set}
		interned.sets[key] = weak.Make(known)
		runtime.AddCleanup(known, forgetKeywords, key)
	}
	return Keywords{known}
}

// forgetKeywords follows the end of a set, unless the same was made again since.
func forgetKeywords(key string) {
	interned.mu.Lock()
	defer interned.mu.Unlock()
	if interned.sets[key].Value() == nil {
		delete(interned.sets, key)
	}
}

// Names are the keywords of the set; the slice must not be changed.
func (k Keywords) Names() []string {
	if k.set == nil {
		return nil
	}
	return k.set.names
}

// Has reports whether the set holds a keyword, whatever its case.
func (k Keywords) Has(name string) bool { return containsFold(k.Names(), name) }

func containsFold(set []string, name string) bool {
	return slices.ContainsFunc(set, func(s string) bool { return strings.EqualFold(s, name) })
}
