package peers

import (
	"path/filepath"
	"testing"

	"roost/test/neighbour"
)

// Postfix delivers 200 messages while a client idles: each is pushed without the
// client asking for anything, and none is lost or doubled.
func TestPostfixDeliversToIdle(t *testing.T) {
	h := newHouse(t)
	p, err := neighbour.StartPostfix(filepath.Join(h.dir, "postfix"), h.mail, "ann")
	started(t, err)
	defer p.Close()
	neighbour.Compat(t, "delivery", "Postfix, virtual(8)", version("postfix"), "200 messages while a client idles")
	h.serve(t)
	h.deliverToIdle(t, 200, func(n int) error { return p.Send("ann", []byte(sample(n))) }, p.Log)
}
