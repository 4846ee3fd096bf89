package config

import (
	"net/netip"
	"testing"
)

// An address comes to us as IPv4 wherever it is IPv4: so must the networks.
func TestMappedNetworksMatchTheirAddresses(t *testing.T) {
	for s, in := range map[string]string{
		"192.0.2.7":            "192.0.2.7",
		"192.0.2.7/24":         "192.0.2.9",
		"::ffff:192.0.2.7":     "192.0.2.7",
		"::ffff:192.0.2.0/120": "192.0.2.9",
		"::ffff:0.0.0.0/96":    "198.51.100.1",
		"2001:db8::1":          "2001:db8::1",
		"2001:db8::1/32":       "2001:db8:7::1",
		"::/0":                 "2001:db8::1",
	} {
		p, err := ParseNetwork(s)
		if err != nil || !p.Contains(netip.MustParseAddr(in)) {
			t.Errorf("%s is %v, %v: %s is not in it", s, p, err, in)
		}
	}
	for _, s := range []string{"", "192.0.2.7/33", "::ffff:192.0.2.0/129", "mail.example.org", "192.0.2"} {
		if p, err := ParseNetwork(s); err == nil {
			t.Errorf("%q is taken for %v", s, p)
		}
	}
}
