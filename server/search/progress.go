package search

import "sync/atomic"

// Progress is how far a search is, for those who ask from another goroutine. A nil
// Progress takes no notice.
type Progress struct {
	done, goal atomic.Int64 // done is one more than what was counted; 0: nothing was yet
}

// At tells that n messages were looked at. Less than was told before is passed over.
// Several goroutines may tell.
func (p *Progress) At(n int) {
	if p == nil {
		return
	}
	for {
		was := p.done.Load()
		if was > int64(n) || p.done.CompareAndSwap(was, int64(n)+1) {
			return
		}
	}
}

// add counts one more.
func (p *Progress) add() {
	if p != nil {
		p.done.Add(1)
	}
}

// Of tells how many messages there are to look at, when that is known. Called before At.
func (p *Progress) Of(n int) {
	if p != nil {
		p.goal.Store(int64(n))
	}
}

// Now gives what was counted, and of how many, 0 where that is not known. counts is
// false before the first message.
func (p *Progress) Now() (done, goal int, counts bool) {
	n := p.done.Load()
	return int(max(n-1, 0)), int(p.goal.Load()), n > 0
}
