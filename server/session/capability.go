package session

import (
	"context"
	"slices"
	"strconv"
	"strings"
)

// BeforeLogin is what the capabilities depend on while nobody is logged in.
type BeforeLogin struct {
	StartTLS      bool     // STARTTLS would work now
	LoginDisabled bool     // LOGIN would be refused
	Mechanisms    []string // of AUTHENTICATE: "PLAIN", ...
	Hiding        *Hiding
}

// Capabilities is the list for that time, as CAPABILITY and the greeting have it.
// IDLE is in it because some clients look nowhere else.
func (b BeforeLogin) Capabilities() string {
	out := append(slices.Clone(versions), "LITERAL+", "SASL-IR", "ID", "ENABLE", "IDLE")
	if b.StartTLS {
		out = append(out, "STARTTLS")
	}
	if b.LoginDisabled {
		out = append(out, "LOGINDISABLED")
	}
	for _, m := range b.Mechanisms {
		out = append(out, "AUTH="+m)
	}
	return strings.Join(b.Hiding.from(out), " ")
}

// versions come first. IMAP4rev1 is always there: Outlook speaks another dialect to
// servers without it.
var versions = []string{"IMAP4rev1", "IMAP4rev2"}

// general are the capabilities that belong to no single command. LITERAL+ says all
// that LITERAL- says, and a server names only one of them (RFC 7888 section 5).
var general = []string{"LITERAL+", "INPROGRESS"}

// capabilities is the list after login: what the table holds.
func (s *session) capabilities() string {
	var out []string
	for _, name := range allCapabilities() {
		switch name {
		case "APPENDLIMIT":
			name += "=" + strconv.FormatInt(s.appendLimit(), 10)
		case "MESSAGELIMIT":
			if s.opt.Limits.Messages <= 0 {
				continue
			}
			name += "=" + strconv.Itoa(s.opt.Limits.Messages)
		case "SAVELIMIT": // RFC 9738 section 3: in place of the other
			if s.opt.Limits.Messages > 0 || s.opt.Limits.Saved <= 0 {
				continue
			}
			name += "=" + strconv.Itoa(s.opt.Limits.Saved)
		}
		out = append(out, name)
	}
	return strings.Join(s.hiding.from(out), " ")
}

// Capabilities are the names of all that can be said, before a login or after, but for
// the mechanisms of AUTHENTICATE and the numbers behind the limits.
func Capabilities() []string {
	all := strings.Fields(BeforeLogin{StartTLS: true, LoginDisabled: true}.Capabilities())
	for _, name := range allCapabilities() {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

func allCapabilities() []string {
	out := slices.Concat(versions, general)
	for _, c := range commands() {
		for _, name := range strings.Fields(c.caps) {
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

// appendLimit is the size of the largest message that APPEND takes, in bytes.
// RFC 7889 section 4 has it in 32 bits.
func (s *session) appendLimit() int64 {
	limit := s.opt.Limits.AppendBytes
	if own := s.login.Who.Quota.MessageBytes; own > 0 {
		limit = min(limit, own)
	}
	return min(limit, 1<<32-1)
}

// capability lists what works. RFC 9051 section 6.1.1.
func (s *session) capability(_ context.Context, _ call) (string, error) {
	if err := s.end(); err != nil {
		return "", err
	}
	s.enc.Line("CAPABILITY " + s.capabilities())
	return "", nil
}
