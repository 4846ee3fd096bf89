package main

import (
	"fmt"
	"time"
)

// bystander measures how long another session's NOOP takes while one searches the
// bodies of the whole mailbox for a word that is not there.
func (r *run) bystander() error {
	servers := r.servers()
	search := row{operation: fmt.Sprintf("SEARCH BODY in %d messages", r.messages)}
	noop := row{operation: "NOOP of another session meanwhile"}
	for _, server := range servers {
		if err := r.fill(server, r.messages); err != nil {
			return err
		}
		addr, _, stop, err := r.start(server)
		if err != nil {
			return err
		}
		took, noops, err := searchAndNoop(addr)
		stop()
		if err != nil {
			return fmt.Errorf("%s: %w", server, err)
		}
		if server == "roost" {
			search.roost, noop.roost = round(took).String(), noops.String()
		} else {
			search.dovecot, noop.dovecot = round(took).String(), noops.String()
		}
	}
	r.rows = append(r.rows, search, noop)
	return nil
}

func searchAndNoop(addr string) (time.Duration, spread, error) {
	busy, err := dial(addr, false)
	if err != nil {
		return 0, nil, err
	}
	defer busy.close()
	other, err := dial(addr, false)
	if err != nil {
		return 0, nil, err
	}
	defer other.close()
	for _, c := range []*client{busy, other} {
		if _, err := c.do("SELECT INBOX"); err != nil {
			return 0, nil, err
		}
	}
	done := make(chan error, 1)
	began := time.Now()
	var took time.Duration
	go func() { // ends with the search
		_, err := busy.do("SEARCH BODY xyzzyxyzzy")
		took = time.Since(began)
		done <- err
	}()
	var noops spread
	for {
		select {
		case err := <-done:
			return took, noops, err
		case <-time.After(time.Millisecond):
		}
		t := time.Now()
		if _, err := other.do("NOOP"); err != nil {
			return 0, nil, err
		}
		noops = append(noops, time.Since(t))
	}
}
