package search

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"roost/store/memstore"
)

// mail makes a message: "id|references|subject", sent on a day of its own that follows
// from at. "-" is no Message-ID.
func mail(at int, text string) memstore.Seed {
	f := strings.Split(text, "|")
	var b strings.Builder
	if f[0] != "-" {
		fmt.Fprintf(&b, "Message-ID: <%s@x>\n", f[0])
	}
	if f[1] != "" {
		fmt.Fprintf(&b, "References: <%s@x>\n", strings.ReplaceAll(f[1], " ", "@x> <"))
	}
	fmt.Fprintf(&b, "Subject: %s\nDate: 1 Jan 2001 %02d:%02d:00 +0000\n\n", f[2], at/60%24, at%60)
	return memstore.Seed{Message: b.String()}
}

func mails(texts ...string) []memstore.Seed {
	var out []memstore.Seed
	for i, text := range texts {
		out = append(out, mail(i, text))
	}
	return out
}

// show writes threads as the protocol does, by sequence numbers.
func show(f *Threads) string {
	var b strings.Builder
	for at := range f.Walk() {
		switch at {
		case ThreadOpen:
			b.WriteByte('(')
		case ThreadClose:
			b.WriteByte(')')
		default:
			fmt.Fprintf(&b, " %d", at+1)
		}
	}
	return strings.ReplaceAll(b.String(), "( ", "(")
}

func foundAll(t testing.TB, src Source) *Found {
	t.Helper()
	p, err := NewPlan(Query{keys: []Key{{Op: All}}})
	if err != nil {
		t.Fatal(err)
	}
	found, err := p.run(t.Context(), src, all, 0)
	if err != nil {
		t.Fatal(err)
	}
	return &found
}

func TestReferences(t *testing.T) {
	for _, c := range []struct {
		name  string
		mails []string
		want  string
	}{
		{"none", nil, ""},
		{"alone", []string{"a||x", "b||y"}, "(1)(2)"},
		{"a chain", []string{"a||x", "b|a|Re: x", "c|a b|Re: x"}, "(1 2 3)"},
		{"siblings", []string{"a||x", "b|a|Re: x", "c|a|Re: x"}, "(1(2)(3))"},
		{"the answer came first", []string{"b|a|Re: x", "a||x"}, "(2 1)"},
		{"a parent that is missing, of one", []string{"b|a|x"}, "(1)"},
		{"a parent that is missing, of two", []string{"b|a|x", "c|a|y"}, "((1)(2))"},
		{"a grandparent that is missing", []string{"c|a b|x", "d|a b|y", "e|a|z"}, "((1)(2)(3))"},
		{"one that is missing in between", []string{"a||x", "c|a b|y", "d|a b|z"}, "(1(2)(3))"},
		{"a chain of missing ones", []string{"e|a b c d|x"}, "(1)"},
		{"an id twice: the first has it", []string{"a||x", "a||y", "b|a|z"}, "(1 3)(2)"},
		{"no id", []string{"-||x", "-||y"}, "(1)(2)"},
		{"itself", []string{"a|a|x"}, "(1)"},
		{"a loop of two", []string{"a|b|x", "b|a|y"}, "(2 1)"},
		{"a loop of three", []string{"a|c|x", "b|a|y", "c|b|z"}, "(3 1 2)"},
		{"a loop among the references", []string{"c|a b a|x"}, "(1)"},
		{"truncated references", []string{"a||x", "b|a|x2", "c|b|x3", "d|a c|x4"}, "(1 2 3 4)"},
		{"the own references win over another's", []string{"c|a b|u", "b|z|v", "a||w"}, "(2 1)(3)"},
		{"no references win too", []string{"c|a b|u", "b||v", "a||w"}, "(2 1)(3)"},
		// Step 5
		{"one subject", []string{"a||x", "b||x"}, "((1)(2))"},
		{"three of a subject", []string{"a||x", "b||x", "c||X"}, "((1)(2)(3))"},
		{"an answer without references", []string{"a||x", "b||Re: x"}, "(1 2)"},
		{"it came before", []string{"a||Re: x", "b||x"}, "(2 1)"},
		{"two answers and what they answer", []string{"a||Re: x", "b||Re: [l] x", "c||x"}, "(3(1)(2))"},
		{"two answers alone", []string{"a||Re: x", "b||Fwd: x"}, "((1)(2))"},
		{"no subject is none", []string{"a||", "b||Re:"}, "(1)(2)"},
		{"a thread joins a dummy's", []string{"a|z|x", "b|z|y", "c||Re: x"}, "((1)(2)(3))"},
		{"two dummies", []string{"a|z|x", "b|z|y", "c|w|x", "d|w|u"}, "((1)(2)(3)(4))"},
		{"a dummy takes the place of a message", []string{"c||x", "a|z|x", "b|z|y"}, "((1)(2)(3))"},
		{"an answer with children", []string{"a||x", "b||Re: x", "c|b|y"}, "(1 2 3)"},
		{"its thread moves as a whole", []string{"a||x", "b|a|y", "c||Re: x", "d|c|z"}, "(1(2)(3 4))"},
		{"the subject of a child does not join", []string{"a||x", "b|a|y", "c||y"}, "(1 2)(3)"},
	} {
		f, err := References(t.Context(), open(t, mails(c.mails...)...), foundAll(t, open(t, mails(c.mails...)...)))
		if err != nil {
			t.Fatal(err)
		}
		if got := show(f); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestRefs(t *testing.T) {
	for _, c := range []struct {
		mails []string
		want  string
	}{
		{nil, ""},
		{[]string{"a||x", "b||x", "c||Re: x"}, "(1)(2)(3)"},
		{[]string{"a||x", "b||y", "c|a|z", "d|b|z", "e|c|z"}, "(2 4)(1 3 5)"},
		{[]string{"a|z|x", "b||x", "c|z|x"}, "(2)((1)(3))"},
		{[]string{"a|z|x", "b||x"}, "(1)(2)"},
	} {
		src := open(t, mails(c.mails...)...)
		f, err := Refs(t.Context(), src, foundAll(t, src))
		if err != nil {
			t.Fatal(err)
		}
		if got := show(f); got != c.want {
			t.Errorf("%q: %s, want %s", c.mails, got, c.want)
		}
	}
}

// Where there is no References field, the first id of In-Reply-To is the parent, and what
// follows, often an address, is not.
func TestInReplyTo(t *testing.T) {
	src := open(t,
		memstore.Seed{Message: "Message-ID: <a@x>\nSubject: u\nDate: 1 Jan 2001 00:00 +0000\n\n"},
		memstore.Seed{Message: "Message-ID: <b@x>\nSubject: v\nIn-Reply-To: Your mail <\"a\"@x> of <c@x>\nDate: 1 Jan 2001 00:01 +0000\n\n"},
		memstore.Seed{Message: "Message-ID: <c@x>\nSubject: w\nReferences: none\nIn-Reply-To: <b@x>\nDate: 1 Jan 2001 00:02 +0000\n\n"},
		memstore.Seed{Message: "Message-ID: <d@x>\nSubject: z\nReferences: <c@x>\nIn-Reply-To: <a@x>\nDate: 1 Jan 2001 00:03 +0000\n\n"})
	f, err := References(t.Context(), src, foundAll(t, src))
	if err != nil {
		t.Fatal(err)
	}
	if got := show(f); got != "(1 2 3 4)" {
		t.Error(got)
	}
}

func TestOrderedSubject(t *testing.T) {
	seeds := []memstore.Seed{mail(9, "a||b"), mail(2, "b||Re: a"), mail(3, "c||A"), mail(1, "d||[l] a"), mail(4, "e||b (fwd)"), mail(5, "f||c")}
	src := open(t, seeds...)
	f, err := OrderedSubject(t.Context(), src, foundAll(t, src))
	if err != nil {
		t.Fatal(err)
	}
	if got := show(f); got != "(4(2)(3))(5 1)(6)" {
		t.Error(got)
	}
}

// slowThreads is the algorithm of RFC 5256 section 3 as it is written there.
type slowThreads struct {
	t      *threaded
	parent map[int]int // root is -1, no parent is missing
	kids   map[int][]int
	dummy  int
}

func (s *slowThreads) above(a, b int) bool { // a is an ancestor of b, or b
	for {
		if a == b {
			return true
		}
		p, ok := s.parent[b]
		if !ok {
			return false
		}
		b = p
	}
}

func (s *slowThreads) drop(child int) {
	if p, ok := s.parent[child]; ok {
		s.kids[p] = slices.DeleteFunc(s.kids[p], func(k int) bool { return k == child })
		delete(s.parent, child)
	}
}

func (s *slowThreads) put(parent, child int) {
	s.drop(child)
	s.parent[child] = parent
	s.kids[parent] = append(s.kids[parent], child)
}

func (s *slowThreads) first(node int) int {
	for node >= len(s.t.ids) {
		s.sort(node)
		node = s.kids[node][0]
	}
	return node
}

func (s *slowThreads) sort(node int) {
	slices.SortFunc(s.kids[node], func(a, b int) int { return int(s.t.rank[s.first(a)]) - int(s.t.rank[s.first(b)]) })
}

func (s *slowThreads) prune(node int) {
	for _, k := range slices.Clone(s.kids[node]) {
		s.prune(k)
		if k < len(s.t.ids) || node == -1 && len(s.kids[k]) > 1 {
			continue
		}
		for _, g := range slices.Clone(s.kids[k]) {
			s.put(node, g)
		}
		s.drop(k)
	}
}

func (s *slowThreads) show(node int) string {
	s.sort(node)
	var b strings.Builder
	for _, k := range s.kids[node] {
		b.WriteString("(" + s.list(k) + ")")
	}
	return b.String()
}

func (s *slowThreads) list(node int) string {
	out := ""
	if node < len(s.t.ids) {
		out = fmt.Sprint(node + 1)
	}
	if kids := s.kids[node]; len(kids) == 1 {
		if out != "" {
			out += " "
		}
		return out + s.list(kids[0])
	}
	return out + s.show(node)
}

func slowReferences(t *threaded) string {
	s := &slowThreads{t: t, parent: map[int]int{}, kids: map[int][]int{}, dummy: len(t.ids)}
	nodes := map[msgID]int{}
	for i, id := range t.ids {
		if _, ok := nodes[id]; id != 0 && !ok {
			nodes[id] = i
		}
	}
	for i := range t.ids {
		last := -2
		for id := range ids(t.refs[i]) {
			if _, ok := nodes[id]; !ok {
				nodes[id] = s.dummy
				s.dummy++
			}
			node := nodes[id]
			if _, has := s.parent[node]; last != -2 && !has && !s.above(node, last) {
				s.put(last, node)
			}
			last = node
		}
		s.drop(i)
		if last != -2 && !s.above(i, last) {
			s.put(last, i)
		}
	}
	for i := range s.dummy {
		if _, ok := s.parent[i]; !ok {
			s.put(-1, i)
		}
	}
	s.prune(-1)
	s.sort(-1)
	table := map[string]int{}
	reply := func(n int) bool { return n < len(t.ids) && t.replies[n] }
	for _, k := range s.kids[-1] {
		sub := string(t.subjects[s.first(k)])
		if sub == "" {
			continue
		}
		held, ok := table[sub]
		if !ok || held < len(t.ids) && (k >= len(t.ids) || reply(held) && !reply(k)) {
			table[sub] = k
		}
	}
	for _, k := range slices.Clone(s.kids[-1]) {
		if s.parent[k] != -1 {
			continue
		}
		sub := string(t.subjects[s.first(k)])
		held := table[sub]
		switch {
		case sub == "" || held == k:
		case held >= len(t.ids) && k >= len(t.ids):
			for _, g := range slices.Clone(s.kids[k]) {
				s.put(held, g)
			}
			s.drop(k)
		case held >= len(t.ids), reply(k) && !reply(held):
			s.put(held, k)
		default:
			s.put(-1, s.dummy)
			s.put(s.dummy, held)
			s.put(s.dummy, k)
			table[sub] = s.dummy
			s.dummy++
		}
	}
	return s.show(-1)
}

// What is fast gives what the RFC's own steps give, for references of every kind.
func TestRandomThreads(t *testing.T) {
	for seed := range uint64(20_000) {
		r := rand.New(rand.NewPCG(seed, 1))
		n := 1 + r.IntN(12)
		th := &threaded{}
		for i := range n {
			th.ids = append(th.ids, msgID(r.IntN(n+3))) // 0: none; some twice
			var refs []byte
			for range r.IntN(5) {
				refs = appendID(refs, msgID(1+r.IntN(n+3)))
			}
			th.refs = append(th.refs, refs)
			th.subjects = append(th.subjects, []byte([]string{"", "a", "b", "c", fmt.Sprint(i)}[r.IntN(5)]))
			th.replies = append(th.replies, r.IntN(2) == 0)
		}
		for _, i := range r.Perm(n) {
			th.order = append(th.order, int32(i))
		}
		th.rank = make([]int32, n)
		for place, i := range th.order {
			th.rank[i] = int32(place)
		}
		got := strings.ReplaceAll(show(th.byReferences()), " (", "(")
		if want := slowReferences(th); got != want {
			t.Fatalf("seed %d: %s, want %s", seed, got, want)
		}
	}
}

// One thread of 100,000 messages, each the answer to the one before, in orders that make
// each look for a loop go a long way.
func TestDeepThreads(t *testing.T) {
	const n = 100_000
	orders := map[string]func(i int) int{
		"forwards":  func(i int) int { return i },
		"backwards": func(i int) int { return n - 1 - i },
		"halves":    func(i int) int { return i%2*n/2 + i/2 },
		"shuffled":  func(i int) int { return i * 61_729 % n }, // has no divisor in common with n
	}
	for name, order := range orders {
		th := &threaded{ids: make([]msgID, n), refs: make([][]byte, n), subjects: make([][]byte, n), replies: make([]bool, n)}
		for i := range n {
			at := order(i)
			th.ids[i] = msgID(at + 1)
			if at > 0 {
				th.refs[i] = appendID(nil, msgID(at))
			}
			th.order = append(th.order, int32(i))
			th.rank = append(th.rank, int32(i))
		}
		deep := 0
		for _, f := range []*Threads{th.byReferences(), th.byNewest()} {
			deep = 0
			for at := range f.Walk() {
				if at >= 0 {
					if order(at) != deep {
						t.Fatalf("%s: message %d stands at depth %d", name, order(at), deep)
					}
					deep++
				}
			}
			if deep != n {
				t.Errorf("%s: %d messages", name, deep)
			}
		}
	}
}

// Nesting, too, costs no stack: a tree that forks at every step.
func TestDeepNesting(t *testing.T) {
	const n = 100_000
	parents := make([]int32, n)
	th := &threaded{}
	for i := range int32(n) {
		parents[i] = (i - 1) / 2 * 2 // 0; of 1 and 2: 0; of 3 and 4: 2; ...
		if i == 0 {
			parents[i] = -1
		}
		th.order = append(th.order, i)
	}
	depth, deepest, messages := 0, 0, 0
	for at := range th.grow(parents, n).Walk() {
		switch at {
		case ThreadOpen:
			depth++
		case ThreadClose:
			depth--
		default:
			messages++
		}
		deepest = max(deepest, depth)
	}
	if depth != 0 || messages != n || deepest != n/2 {
		t.Errorf("%d messages, %d deep, %d left open", messages, deepest, depth)
	}
}

// links against parents that are walked.
func TestLinks(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		var l links
		var parent []int32
		n := int32(2 + r.IntN(30))
		for range n {
			l.add()
			parent = append(parent, -1)
		}
		for range 200 {
			a, b := r.Int32N(n), r.Int32N(n)
			root := a
			for parent[root] >= 0 {
				root = parent[root]
			}
			if got := l.root(a); got != root {
				t.Fatalf("seed %d: root of %d is %d, want %d", seed, a, got, root)
			}
			switch {
			case parent[b] >= 0 && r.IntN(3) == 0:
				l.cut(b)
				parent[b] = -1
			case parent[b] < 0:
				linked := l.link(a, b)
				if linked != (root != b) {
					t.Fatalf("seed %d: %d under %d: %v", seed, b, a, linked)
				}
				if linked {
					parent[b] = a
				}
			}
			if !slices.Equal(parent, l.parent) {
				t.Fatalf("seed %d: %v, want %v", seed, l.parent, parent)
			}
		}
	}
}

func BenchmarkReferences100k(b *testing.B) {
	const n = 100_000
	r := rand.New(rand.NewPCG(1, 1))
	th := &threaded{}
	for i := range n {
		th.ids = append(th.ids, msgID(i+1))
		var refs []byte
		for range r.IntN(6) {
			refs = appendID(refs, msgID(1+max(0, i-r.IntN(50))))
		}
		th.refs = append(th.refs, refs)
		th.subjects = append(th.subjects, fmt.Appendf(nil, "subject %d", i/4))
		th.replies = append(th.replies, len(refs) > 0)
		th.order = append(th.order, int32(i))
		th.rank = append(th.rank, int32(i))
	}
	b.ReportAllocs()
	for b.Loop() {
		for range th.byReferences().Walk() {
		}
	}
}
