package session

import (
	"net/netip"
	"slices"
	"strings"
)

// ClientRule hides capabilities from the clients that it names, of which a mistake is
// known. A hidden one is not named anywhere and cannot be enabled; the commands that
// belong to it are still understood, for who sends them unasked relies on them, except
// UNAUTHENTICATE, which it must be possible to take away (RFC 8437 section 8). Who is
// meant: all conditions that are given hold, each when one of its values does. Patterns
// know "*" for any text, and no case.
type ClientRule struct {
	Name       string   // for the admin
	ID         []string // of the name and the version that ID tells, with a blank between
	User       []string // before the login it is nobody's
	Network    []netip.Prefix
	ServerName []string // asked for in TLS
	Hide       []string // capabilities: "THREAD" stands for THREAD=REFERENCES too
}

// Client is what is known of one client.
type Client struct {
	ID         string // what ClientName makes of ID; "" when none was sent
	User       string // "" before the login
	Addr       netip.Addr
	ServerName string
}

// ClientName gives name and version of what ID told, in pairs.
func ClientName(pairs []string) string {
	var name, version string
	for i := 0; i+1 < len(pairs); i += 2 {
		switch strings.ToLower(pairs[i]) {
		case "name":
			name = pairs[i+1]
		case "version":
			version = pairs[i+1]
		}
	}
	return strings.TrimSpace(name + " " + version)
}

func (r *ClientRule) means(c Client) bool {
	return (len(r.ID) == 0 || c.ID != "" && fitsAny(r.ID, c.ID)) &&
		(len(r.User) == 0 || c.User != "" && fitsAny(r.User, c.User)) &&
		(len(r.ServerName) == 0 || c.ServerName != "" && fitsAny(r.ServerName, c.ServerName)) &&
		(len(r.Network) == 0 || slices.ContainsFunc(r.Network, func(n netip.Prefix) bool {
			return n.Contains(c.Addr.Unmap().WithZone(""))
		}))
}

func fitsAny(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return fits(strings.ToLower(p), strings.ToLower(s)) })
}

// fits matches a pattern with "*", in time linear in s for each "*".
func fits(pattern, s string) bool {
	first, rest, wild := strings.Cut(pattern, "*")
	if !wild {
		return s == pattern
	}
	s, ok := strings.CutPrefix(s, first)
	for ok {
		first, rest, wild = strings.Cut(rest, "*")
		if !wild {
			return strings.HasSuffix(s, first)
		}
		_, s, ok = strings.Cut(s, first)
	}
	return false
}

// Hiding is what is hidden from a client, and the names of the rules that say so.
type Hiding struct {
	hide  []string
	Rules string
}

// HidingFrom is what rules hide from a client; nil when none means it.
func HidingFrom(rules []ClientRule, c Client) (h *Hiding) {
	for i := range rules {
		if r := &rules[i]; r.means(c) {
			if h == nil {
				h = new(Hiding)
			}
			h.hide = append(h.hide, r.Hide...)
			h.Rules = strings.TrimPrefix(h.Rules+", "+r.Name, ", ")
		}
	}
	return h
}

// hides reports whether a capability, as CAPABILITY names it, is hidden.
func (h *Hiding) hides(capability string) bool {
	return h != nil && slices.ContainsFunc(h.hide, func(s string) bool {
		return len(s) <= len(capability) && strings.EqualFold(s, capability[:len(s)]) &&
			(len(s) == len(capability) || capability[len(s)] == '=')
	})
}

// from leaves out of a list what is hidden.
func (h *Hiding) from(list []string) []string {
	if h == nil {
		return list
	}
	return slices.DeleteFunc(list, h.hides)
}

// know looks again who the client is, when that is told: more may be hidden from it now,
// or less. It reports whether the capabilities have changed by that.
func (s *session) know() bool {
	if len(s.opt.Clients) == 0 {
		return false
	}
	before := s.capabilities()
	s.hiding = HidingFrom(s.opt.Clients, Client{ID: s.login.Client, User: s.login.Who.User, Addr: s.login.Addr, ServerName: s.login.ServerName})
	return s.capabilities() != before
}
