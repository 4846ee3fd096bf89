package server

import (
	"net/netip"
	"strings"
)

// A webmail or proxy says in ID (RFC 2971) whose connection it passes on, in the fields
// that Dovecot knows: x-originating-ip, x-connected-ip (where the client connected to) and
// x-proxy-ttl, which a proxy counts down; there is none behind Roost, so it means nothing
// here. They count from trusted networks, before the login.

// introduction is what was said in one ID.
type introduction struct {
	origin    string
	connected string
}

// field takes one pair of ID.
func (i *introduction) field(key, value string) {
	switch strings.ToLower(key) {
	case "x-originating-ip":
		i.origin = cut(value, 64)
	case "x-connected-ip":
		i.connected = cut(value, 64)
	}
}

// introduced believes who may be believed: from now on the connection is one of the
// client's address. The error ends it: there is no room for that address.
func (d *door) introduced(i introduction) error {
	if i.origin == "" {
		return nil
	}
	addr, err := netip.ParseAddr(i.origin)
	addr = addr.Unmap()
	switch {
	case !within(d.gate.trusted, d.peer()):
		if !d.originRefused { // once: a client may say it often
			d.originRefused = true
			d.log.Warn("x-originating-ip is not believed: limits.trusted_networks does not have this address", "event", "origin_refused", "origin", i.origin)
		}
		return nil
	case err != nil || addr.Zone() != "":
		d.log.Warn("x-originating-ip is no address", "event", "origin_refused", "origin", i.origin)
		return nil
	case addr == d.addr:
		return nil
	}
	if err := d.seat.move(addr); err != nil {
		return err
	}
	d.log.Info("connection passed on", "event", "origin", "origin", addr.String(), "connected", i.connected)
	d.on.moved(addr, d.peer(), "")
	d.via, d.addr = d.peer(), addr
	d.log = d.logger(d.gate.log)
	return nil
}

// peer is who is at the other end of the transport, or what a proxy there said.
func (d *door) peer() netip.Addr {
	if d.via.IsValid() {
		return d.via
	}
	return d.addr
}
