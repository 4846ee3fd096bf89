package server

import (
	"net"
	"sync"
)

// registry knows the sockets that are open, so that they can be cut off. Who is
// logged in stands in places. The zero value is empty.
type registry struct {
	mu  sync.Mutex // guards all; a map operation at a time
	all map[net.Conn]struct{}
}

func (r *registry) add(nc net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[net.Conn]struct{}{}
	}
	r.all[nc] = struct{}{}
}

func (r *registry) remove(nc net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, nc)
}

// closeAll closes the sockets that are left, and counts them. Whoever serves them
// finds out at the next read or write.
func (r *registry) closeAll() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for nc := range r.all {
		nc.Close()
	}
	return len(r.all)
}
