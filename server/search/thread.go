package search

import (
	"bytes"
	"cmp"
	"context"
	"iter"
	"slices"

	"roost/store"
)

// Threads are messages as trees. Nodes below n are messages, by their index in what was
// found; the others are dummies, which stand for messages that are not among them.
type Threads struct {
	n        int
	roots    []int32
	children []int32 // of all nodes, those of one behind those of the one before
	ends     []int32 // where those of each node end
}

// childrenOf are the nodes below one.
func (f *Threads) childrenOf(node int32) []int32 {
	from := int32(0)
	if node > 0 {
		from = f.ends[node-1]
	}
	return f.children[from:f.ends[node]]
}

// threaded is what THREAD compares of the messages found.
type threaded struct {
	ids      []msgID
	refs     [][]byte
	subjects [][]byte
	replies  []bool
	order    []int32 // the messages by sent date
	rank     []int32 // their places in it
}

func loadThreaded(ctx context.Context, src Source, found *Found, refs bool) (*threaded, error) {
	n := len(found.UIDs)
	t := &threaded{subjects: make([][]byte, n), replies: make([]bool, n), order: make([]int32, n), rank: make([]int32, n)}
	if refs {
		t.ids, t.refs = make([]msgID, n), make([][]byte, n)
	}
	sent := make([]int64, n)
	var heap arena
	l := loader{ctx: ctx, src: src, found: found, headers: true, dates: true}
	l.visit = func(i int, _ store.Row, k keys) {
		sent[i], t.replies[i] = k.sent, k.reply
		t.subjects[i] = heap.keep(k.strings[keySubject])
		if refs {
			t.ids[i], t.refs[i] = k.id, heap.keep(k.refs)
		}
	}
	if err := l.load(); err != nil {
		return nil, err
	}
	for i := range t.order {
		t.order[i] = int32(i)
	}
	slices.SortFunc(t.order, func(a, b int32) int { // ties: RFC 5256 section 2.2
		return cmp.Or(cmp.Compare(sent[a], sent[b]), cmp.Compare(a, b))
	})
	for place, i := range t.order {
		t.rank[i] = int32(place)
	}
	return t, nil
}

// OrderedSubject threads found by base subject alone: RFC 5256 section 3. It fails as
// Search does.
func OrderedSubject(ctx context.Context, src Source, found *Found) (*Threads, error) {
	t, err := loadThreaded(ctx, src, found, false)
	if err != nil {
		return nil, err
	}
	bySubject := slices.Clone(t.order)
	slices.SortStableFunc(bySubject, func(a, b int32) int { return bytes.Compare(t.subjects[a], t.subjects[b]) })
	parents := make([]int32, len(found.UIDs))
	first := int32(-1)
	for _, i := range bySubject {
		if first >= 0 && bytes.Equal(t.subjects[first], t.subjects[i]) {
			parents[i] = first
		} else {
			parents[i], first = -1, i
		}
	}
	return t.grow(parents, len(parents)), nil
}

// References threads found by the references of the messages, and by base subject
// where these say nothing: RFC 5256 section 3. It fails as Search does.
func References(ctx context.Context, src Source, found *Found) (*Threads, error) {
	t, err := loadThreaded(ctx, src, found, true)
	if err != nil {
		return nil, err
	}
	return t.byReferences(), nil
}

// Refs threads found by the references of the messages alone, and puts the threads in the
// order of their newest messages by sent date: what Dovecot calls REFS, by the draft
// draft-ietf-morg-inthread. It fails as Search does.
func Refs(ctx context.Context, src Source, found *Found) (*Threads, error) {
	t, err := loadThreaded(ctx, src, found, true)
	if err != nil {
		return nil, err
	}
	return t.byNewest(), nil
}

// byNewest goes the first three steps, and sorts. It costs what byReferences does.
func (t *threaded) byNewest() *Threads {
	parents, size := t.prune(t.link())
	f := t.grow(parents, size)
	newest := make([]int32, size) // of each root, the place of its newest message
	tops := make([]int32, len(parents))
	for i := range tops {
		tops[i] = -1
	}
	var way []int32
	for i := range int32(len(parents)) {
		top := i
		for way = way[:0]; top < int32(len(parents)) && tops[top] < 0 && parents[top] >= 0; top = parents[top] {
			way = append(way, top)
		}
		if top < int32(len(parents)) && tops[top] >= 0 {
			top = tops[top]
		}
		for _, w := range way {
			tops[w] = top
		}
		newest[top] = max(newest[top], t.rank[i])
	}
	slices.SortFunc(f.roots, func(a, b int32) int { return cmp.Compare(newest[a], newest[b]) })
	return f
}

// byReferences goes the six steps. It costs O(n log n) in messages and references.
func (t *threaded) byReferences() *Threads {
	parents, size := t.prune(t.link())
	return t.merge(parents, size)
}

// link is step 1. Message i has node i; the parents of others, the dummies, are behind.
func (t *threaded) link() []int32 {
	n := len(t.ids)
	var l links
	nodes := make(map[msgID]int32, n)
	for i, id := range t.ids {
		l.add()
		if _, ok := nodes[id]; id != 0 && !ok { // of several the first has it
			nodes[id] = int32(i)
		}
	}
	for i := range int32(n) {
		last := int32(-1)
		for id := range ids(t.refs[i]) { // (A)
			node, ok := nodes[id]
			if !ok {
				node = l.add()
				nodes[id] = node
			}
			if last >= 0 && l.parent[node] < 0 {
				l.link(last, node)
			}
			last = node
		}
		if l.parent[i] == last { // (B)
			continue
		}
		if l.parent[i] >= 0 {
			l.cut(i)
		}
		if last >= 0 {
			l.link(last, i)
		}
	}
	return l.parent
}

// prune is steps 2 and 3: of the dummies only those stay that stand above all and have
// more than one child. It gives the parents of the messages and how many nodes
// there are; the dummies have no parents.
func (t *threaded) prune(parents []int32) ([]int32, int) {
	n := int32(len(t.ids))
	// over is what comes to stand above the children of a dummy: a message, or the
	// dummy that stands above all; unknown 0, else node + 1.
	over := make([]int32, len(parents))
	var way []int32
	overOf := func(dummy int32) int32 {
		way = way[:0]
		at := dummy
		for at >= n && over[at] == 0 && parents[at] >= 0 {
			way = append(way, at)
			at = parents[at]
		}
		if at >= n && over[at] != 0 {
			at = over[at] - 1
		}
		for _, d := range way {
			over[d] = at + 1
		}
		return at
	}
	pruned := make([]int32, n)
	children := make([]int32, len(parents)) // of dummies
	for i := range n {
		pruned[i] = parents[i]
		if parents[i] >= n {
			pruned[i] = overOf(parents[i])
		}
		if pruned[i] >= n {
			children[pruned[i]]++
		}
	}
	for i := range n {
		if p := pruned[i]; p >= n && children[p] == 1 {
			pruned[i] = -1
		}
	}
	return pruned, len(parents)
}

// merge is steps 4 to 6.
func (t *threaded) merge(parents []int32, size int) *Threads {
	n := int32(len(parents))
	first := make(map[int32]int32) // children of dummies, the earliest
	var roots []int32
	for _, i := range t.order {
		p := parents[i]
		if p < 0 {
			roots = append(roots, i)
		} else if _, ok := first[p]; p >= n && !ok {
			// Its place among the roots is that of its first child, which is here.
			first[p] = i
			roots = append(roots, p)
		}
	}
	subject := func(node int32) string {
		if node >= n {
			node = first[node]
		}
		return string(t.subjects[node])
	}
	table := make(map[string]int32)
	for _, r := range roots {
		s := subject(r)
		if s == "" {
			continue
		}
		held, ok := table[s]
		if !ok || held < n && (r >= n || t.replies[held] && !t.replies[r]) {
			table[s] = r
		}
	}
	same := make(map[int32]int32) // dummies whose children went to another
	for _, r := range roots {
		s := subject(r)
		if s == "" || r < n && parents[r] >= 0 { // it was merged already
			continue
		}
		switch held := table[s]; {
		case held == r:
		case held >= n && r >= n:
			same[r] = held
		case held >= n:
			parents[r] = held
		case t.replies[r] && !t.replies[held]:
			parents[r] = held
		default:
			dummy := int32(size)
			size++
			parents[r], parents[held] = dummy, dummy
			table[s] = dummy
		}
	}
	for i, p := range parents {
		if to, ok := same[p]; ok {
			parents[i] = to
		}
	}
	return t.grow(parents, size)
}

// grow makes the trees, siblings by sent date, of the parents of the messages. Of nodes
// that are no message size counts those that may be.
func (t *threaded) grow(parents []int32, size int) *Threads {
	n := int32(len(parents))
	f := &Threads{n: int(n), ends: make([]int32, size)}
	for _, p := range parents {
		if p >= 0 {
			f.ends[p]++
		}
	}
	total := int32(0)
	for node, k := range f.ends {
		f.ends[node] = total // where they begin, for now
		total += k
	}
	f.children = make([]int32, total)
	begun := make([]bool, int32(size)-n) // of the nodes that are no message
	for _, i := range t.order {
		p := parents[i]
		if p < 0 {
			f.roots = append(f.roots, i)
			continue
		}
		if p >= n && !begun[p-n] {
			begun[p-n] = true
			f.roots = append(f.roots, p)
		}
		f.children[f.ends[p]] = i
		f.ends[p]++
	}
	return f
}

// The marks that Walk yields between messages.
const (
	ThreadOpen  = -1
	ThreadClose = -2
)

// Walk yields the trees as RFC 5256 section 4 writes them: the index of each message in
// what was found, ThreadOpen and ThreadClose.
func (f *Threads) Walk() iter.Seq[int] {
	return func(yield func(int) bool) {
		stack := [][]int32{f.roots} // siblings that are still to come
		for {
			top := len(stack) - 1
			if len(stack[top]) == 0 {
				if top == 0 || !yield(ThreadClose) {
					return
				}
				stack = stack[:top]
				continue
			}
			node := stack[top][0]
			stack[top] = stack[top][1:]
			if !yield(ThreadOpen) {
				return
			}
			for {
				if int(node) < f.n && !yield(int(node)) {
					return
				}
				below := f.childrenOf(node)
				if len(below) != 1 {
					break
				}
				node = below[0]
			}
			stack = append(stack, f.childrenOf(node))
		}
	}
}
