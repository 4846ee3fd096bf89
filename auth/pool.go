package auth

import (
	"context"
	"net/netip"
	"slices"
	"sync"
)

// pool bounds how many hashes are computed at one time. Those who must wait are let in
// turn by turn among their addresses, so that a flood from one delays only itself.
type pool struct {
	mu     sync.Mutex // guards all below
	free   int
	queues map[netip.Addr][]chan struct{} // who waits, by address, oldest first; never an empty one
	turn   []netip.Addr                   // the keys of queues, whose turn is next first
}

func newPool(n int) *pool {
	return &pool{free: n, queues: map[netip.Addr][]chan struct{}{}}
}

// do runs fn in the caller's goroutine when it is addr's turn, of IPv6 that of its /64. The error is that of
// ctx, which ended while it waited; fn itself is not interrupted.
func (p *pool) do(ctx context.Context, addr netip.Addr, fn func()) error {
	if err := p.enter(ctx, around(addr.Unmap().WithZone(""), ofAddress, 0).Addr()); err != nil {
		return err
	}
	defer p.leave()
	fn()
	return nil
}

func (p *pool) enter(ctx context.Context, addr netip.Addr) error {
	p.mu.Lock()
	if p.free > 0 {
		p.free--
		p.mu.Unlock()
		return nil
	}
	ready := make(chan struct{})
	if p.queues[addr] == nil {
		p.turn = append(p.turn, addr)
	}
	p.queues[addr] = append(p.queues[addr], ready)
	p.mu.Unlock()

	select {
	case <-ready:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	queue := p.queues[addr]
	i := slices.Index(queue, ready)
	if i >= 0 {
		p.setLocked(addr, slices.Delete(queue, i, i+1))
	}
	p.mu.Unlock()
	if i < 0 {
		p.leave() // the turn came at the same instant: hand it on
	}
	return ctx.Err()
}

// leave gives the place to the next who waits.
func (p *pool) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.turn) == 0 {
		p.free++
		return
	}
	addr := p.turn[0]
	queue := p.queues[addr]
	close(queue[0])
	p.turn = append(p.turn[1:], addr)
	p.setLocked(addr, queue[1:])
}

// setLocked puts what is left of an address's queue.
func (p *pool) setLocked(addr netip.Addr, queue []chan struct{}) {
	if len(queue) > 0 {
		p.queues[addr] = queue
		return
	}
	delete(p.queues, addr)
	if i := slices.Index(p.turn, addr); i >= 0 {
		p.turn = slices.Delete(p.turn, i, i+1)
	}
}
