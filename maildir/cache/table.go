package cache

import "slices"

func keyOf(uid uint32, kind uint16) uint64 { return uint64(uid)<<16 | uint64(kind) }

// freshMost is how many notes wait to be sorted in.
const freshMost = 4096

// A table says where each note lies: sorted slots, and a small map of those that
// came since.
type table struct {
	sorted []slot
	fresh  map[uint64]int64
}

type slot struct {
	key uint64
	at  int64
}

func (t *table) find(key uint64) (at int64, ok bool) {
	if at, ok = t.fresh[key]; ok {
		return at, true
	}
	if i, ok := t.search(key); ok {
		return t.sorted[i].at, true
	}
	return 0, false
}

// findFrom is find for a key above that of the search before, which gave hint; the first
// one's is 0. Where keys come in order it looks near that.
func (t *table) findFrom(hint int, key uint64) (at int64, next int, ok bool) {
	step := 1
	for hint+step < len(t.sorted) && t.sorted[hint+step].key < key {
		hint += step
		step *= 2
	}
	for end := min(hint+step, len(t.sorted)); hint < end; {
		mid := int(uint(hint+end) / 2)
		if t.sorted[mid].key < key {
			hint = mid + 1
		} else {
			end = mid
		}
	}
	if at, ok := t.fresh[key]; ok {
		return at, hint, true
	}
	if hint < len(t.sorted) && t.sorted[hint].key == key {
		return t.sorted[hint].at, hint, true
	}
	return 0, hint, false
}

func (t *table) search(key uint64) (int, bool) {
	return slices.BinarySearchFunc(t.sorted, key, func(s slot, k uint64) int {
		switch {
		case s.key < k:
			return -1
		case s.key > k:
			return 1
		}
		return 0
	})
}

func (t *table) put(key uint64, at int64) {
	if n := len(t.sorted); len(t.fresh) == 0 && (n == 0 || t.sorted[n-1].key < key) {
		t.sorted = append(t.sorted, slot{key, at}) // as when loading a compacted file
		return
	}
	if i, ok := t.search(key); ok {
		t.sorted[i].at = at
		return
	}
	if t.fresh == nil {
		t.fresh = map[uint64]int64{}
	}
	t.fresh[key] = at
	if len(t.fresh) >= max(freshMost, len(t.sorted)/8) {
		t.merge()
	}
}

// remove takes away all keys of a UID, and counts them.
func (t *table) remove(uid uint32) (n int) {
	from, _ := t.search(keyOf(uid, 0))
	to := from
	for to < len(t.sorted) && t.sorted[to].key>>16 == uint64(uid) {
		to++
	}
	n = to - from
	t.sorted = slices.Delete(t.sorted, from, to)
	for k := range t.fresh {
		if k>>16 == uint64(uid) {
			delete(t.fresh, k)
			n++
		}
	}
	return n
}

func (t *table) merge() {
	for k, at := range t.fresh {
		t.sorted = append(t.sorted, slot{k, at})
	}
	t.fresh = nil
	slices.SortFunc(t.sorted, func(a, b slot) int {
		if a.key < b.key {
			return -1
		}
		return 1
	})
}

// all yields keys and places; the sorted ones first.
func (t *table) all(yield func(uint64, int64) bool) {
	for _, s := range t.sorted {
		if !yield(s.key, s.at) {
			return
		}
	}
	for k, at := range t.fresh {
		if !yield(k, at) {
			return
		}
	}
}
