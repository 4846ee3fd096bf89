package server

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
)

// ParseRoutes gives the private gateways of default routes as Linux tells them: /proc/net/route and
// /proc/net/ipv6_route. Lines that it does not know are passed over.
func ParseRoutes(v4, v6 string) (list []netip.Addr) {
	for line := range strings.Lines(v4) {
		// Iface Destination Gateway Flags ...: addresses as the machine keeps them
		f := strings.Fields(line)
		if len(f) < 3 || f[1] != "00000000" {
			continue
		}
		if b, err := hex.DecodeString(f[2]); err == nil && len(b) == 4 {
			slices.Reverse(b) // of the processors that Roost is built for
			list = append(list, netip.AddrFrom4([4]byte(b)))
		}
	}
	for line := range strings.Lines(v6) {
		// destination length source length next-hop ...
		f := strings.Fields(line)
		if len(f) < 5 || f[1] != "00" || strings.Trim(f[0], "0") != "" {
			continue
		}
		if b, err := hex.DecodeString(f[4]); err == nil && len(b) == 16 {
			list = append(list, netip.AddrFrom16([16]byte(b)))
		}
	}
	return slices.DeleteFunc(list, func(a netip.Addr) bool { return !a.IsPrivate() && !a.IsLinkLocalUnicast() })
}
