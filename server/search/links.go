package search

// links are parents of nodes, with a quick answer to whether a link would close a
// loop, however deep the trees are: a link-cut tree (Sleator and Tarjan, 1983), in which
// each step costs O(log n) over many. Trees are kept as paths, each path as a splay tree
// by depth, whose root points to the node above the path.
type links struct {
	parent []int32 // of each node; -1 none
	splay  []splayNode
}

type splayNode struct {
	up   int32    // in the splay tree, or of its root: the node above the path; -1 none
	kids [2]int32 // nearer to the root of the tree, and farther; -1 none
}

// add makes a node that stands alone.
func (l *links) add() int32 {
	l.parent = append(l.parent, -1)
	l.splay = append(l.splay, splayNode{-1, [2]int32{-1, -1}})
	return int32(len(l.parent) - 1)
}

// link makes child, which has no parent, a child of parent unless it stands above it.
func (l *links) link(parent, child int32) bool {
	if parent == child || l.root(parent) == child {
		return false
	}
	l.access(child)
	l.splay[child].up = parent
	l.parent[child] = parent
	return true
}

// cut takes child from its parent.
func (l *links) cut(child int32) {
	l.access(child)
	above := l.splay[child].kids[0]
	l.splay[child].kids[0] = -1
	l.splay[above].up = -1
	l.parent[child] = -1
}

// root gives the root of the tree in which v is.
func (l *links) root(v int32) int32 {
	l.access(v)
	for l.splay[v].kids[0] >= 0 {
		v = l.splay[v].kids[0]
	}
	l.toTop(v) // what was deep is paid for
	return v
}

// access makes the way from the root to v one path, which ends in v and has v on top.
func (l *links) access(v int32) {
	below := int32(-1)
	for w := v; w >= 0; w = l.splay[w].up {
		l.toTop(w)
		l.splay[w].kids[1] = below
		below = w
	}
	l.toTop(v)
}

// top tells whether v is the root of its splay tree.
func (l *links) top(v int32) bool {
	up := l.splay[v].up
	return up < 0 || l.splay[up].kids[0] != v && l.splay[up].kids[1] != v
}

func (l *links) side(v int32) int {
	if l.splay[l.splay[v].up].kids[1] == v {
		return 1
	}
	return 0
}

func (l *links) toTop(v int32) {
	for !l.top(v) {
		if up := l.splay[v].up; !l.top(up) {
			if l.side(v) == l.side(up) {
				l.rotate(up)
			} else {
				l.rotate(v)
			}
		}
		l.rotate(v)
	}
}

// rotate puts v in the place of the node above it.
func (l *links) rotate(v int32) {
	up := l.splay[v].up
	over := l.splay[up].up
	side := l.side(v)
	if !l.top(up) {
		l.splay[over].kids[l.side(up)] = v
	}
	inner := l.splay[v].kids[1-side]
	l.splay[up].kids[side] = inner
	if inner >= 0 {
		l.splay[inner].up = up
	}
	l.splay[v].kids[1-side] = up
	l.splay[up].up = v
	l.splay[v].up = over
}
