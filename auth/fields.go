package auth

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"roost/config"
)

// splitFields parts the eighth field of a line: blanks separate, the first = ends the key.
// A value that begins with " goes to the next " and may have blanks: Dovecot, which does
// not know that, takes the words behind for fields that say nothing.
func splitFields(s string) map[string]string {
	out := map[string]string{}
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		f := s
		if end := strings.IndexAny(s, " \t"); end >= 0 {
			f = s[:end]
		}
		key, value, _ := strings.Cut(f, "=")
		rest := s[len(f):]
		if strings.HasPrefix(value, `"`) {
			if text, after, ok := strings.Cut(s[len(key)+2:], `"`); ok {
				value, rest = text, after
			}
		}
		s = rest
		if _, twice := out[key]; !twice {
			out[key] = value
		}
	}
	return out
}

// Rules are the fields of an account that decide whether one who knows the password may
// log in. The zero value lets everybody in.
type Rules struct {
	nets       []netip.Prefix
	local      bool // allow_nets names "local": connections without an address
	restricted bool // there is an allow_nets
	nologin    bool
	reason     string // what to tell with nologin
	proxy      bool
	after      time.Time // delay_until
	alias      string    // user=

	services []string          // that the user may use; nil: all
	denied   map[string]string // services that the user may not use, with what to tell; "" is our own words

	quotaBytes, quotaMessages int64
}

// known fields have a meaning here or need none: the bare fields of a line end up in
// User.Fields whatever they are.
var knownFields = []string{
	"nopassword", "allow_nets", "nologin", "reason", "user", "delay_until",
	"userdb_mail", "userdb_home", "userdb_uid", "userdb_gid", "userdb_acl_groups",
	"userdb_quota_storage_size", "userdb_quota_message_count",
}

// proxyFields belong to proxying. proxy itself refuses the login, the others say nothing more.
var proxyFields = []string{"proxy", "proxy_maybe", "host", "hostip", "port", "destuser", "pass", "ssl", "starttls", "source_ip"}

func parseRules(fields map[string]string, problems []lineProblem) (Rules, []lineProblem) {
	var r Rules
	add := func(field, format string, args ...any) {
		problems = append(problems, lineProblem{Problem{What: fmt.Sprintf(format, args...)}, field})
	}
	// In order, so that one file gives one report.
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		value := fields[key]
		switch {
		case key == "allow_nets":
			r.restricted = true
			for _, s := range strings.Split(value, ",") {
				if s == "local" {
					r.local = true
				} else if p, err := parseNet(s); err == nil {
					r.nets = append(r.nets, p)
				} else {
					// A network that cannot be read lets nobody in.
					problems = append(problems, lineProblem{problem: Problem{What: err.Error(), Do: "mend it: it lets nobody in"}})
				}
			}
		case key == "nologin":
			r.nologin = true
		case key == "reason":
			r.reason = toldText(value)
		case key == "allow_services":
			r.services = strings.Split(value, ",")
		case strings.HasPrefix(key, "deny_"):
			if r.denied == nil {
				r.denied = map[string]string{}
			}
			r.denied[strings.TrimPrefix(key, "deny_")] = toldText(value)
		case key == "user":
			r.alias = value
		case key == "proxy" || key == "proxy_maybe":
			r.proxy = true
			add(key, "%s: the mail is on another server, logins are refused", key)
		case key == "delay_until":
			digits, _, _ := strings.Cut(value, "+") // + is Dovecot's random part
			if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
				r.after = time.Unix(n, 0)
			} else {
				add("", "delay_until=%.20s is no time in seconds and is ignored", value)
			}
		case key == "userdb_quota_storage_size":
			if n, ok := parseBytes(value); ok {
				r.quotaBytes = n
			} else {
				add("", "%s=%.20s is no size and is ignored", key, value)
			}
		case key == "userdb_quota_message_count":
			if n, err := strconv.ParseInt(value, 10, 64); err == nil && n >= 0 {
				r.quotaMessages = n
			} else {
				add("", "%s=%.20s is no number and is ignored", key, value)
			}
		case strings.HasPrefix(key, "userdb_quota_rule"):
			if !r.quota(value) {
				add("", "%s=%.40s cannot be read and is ignored", key, value)
			}
		case slices.Contains(knownFields, key) || slices.Contains(proxyFields, key):
		default:
			add(key, "the field %.40q is ignored", key)
		}
	}
	return r, problems
}

// toldText is a text as a client may be told it: one line of a length that fits anywhere.
func toldText(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200])
	}
	return s
}

// quota reads Dovecot's `*:storage=10M:messages=100`. Rules for single mailboxes stay in
// User.Fields and are no error.
func (r *Rules) quota(rule string) bool {
	parts := strings.Split(rule, ":")
	if parts[0] != "*" {
		return len(parts) > 1
	}
	for _, p := range parts[1:] {
		key, value, _ := strings.Cut(p, "=")
		more := strings.HasPrefix(value, "+")
		value = strings.TrimPrefix(value, "+")
		unit := ""
		if key == "storage" {
			unit = "K" // Dovecot's unit where none is written
		}
		n, ok := parseBytesIn(value, unit)
		var to *int64
		switch key {
		case "storage", "bytes":
			to = &r.quotaBytes
		case "messages":
			to = &r.quotaMessages
		default:
			return false
		}
		if !ok {
			return false
		}
		if more {
			n += *to
		}
		*to = n
	}
	return len(parts) > 1
}

func parseBytes(s string) (int64, bool) { return parseBytesIn(s, "") }

// parseBytesIn reads a size such as 10M; unit counts where none is written.
func parseBytesIn(s, unit string) (int64, bool) {
	digits := strings.TrimRight(s, "BKMGTbkmgt")
	if digits != s {
		unit = strings.ToUpper(s[len(digits):])
		if len(unit) == 2 && unit != "BB" {
			unit = strings.TrimSuffix(unit, "B")
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	shift := map[string]int{"": 0, "B": 0, "K": 10, "M": 20, "G": 30, "T": 40}
	by, ok := shift[unit]
	if err != nil || !ok || n < 0 || n > 1<<62>>by {
		return 0, false
	}
	return n << by, true
}

// parseNet reads an address or a network.
func parseNet(s string) (netip.Prefix, error) {
	p, err := config.ParseNetwork(s)
	if err != nil {
		return p, fmt.Errorf("allow_nets: %.50q is neither address nor network", s)
	}
	return p, nil
}

// allows reports whether a login may come from addr.
func (r *Rules) allows(addr netip.Addr) bool {
	if !r.restricted {
		return true
	}
	if !addr.IsValid() {
		return r.local
	}
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(r.nets, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// expand puts the name of the user and where it comes from into a field. What it does
// not know stays as it is: paths are expanded again by those who know more.
func expand(s, name string, at Attempt) string {
	if !strings.Contains(s, "%") {
		return s
	}
	local, domain, _ := strings.Cut(name, "@")
	addr := ""
	if at.Addr.IsValid() {
		addr = at.Addr.Unmap().String()
	}
	values := map[string]string{"%": "%", "u": name, "n": local, "d": domain, "r": addr, "s": at.Protocol,
		"{user}": name, "{user|username}": local, "{user|domain}": domain,
		"{remote_ip}": addr, "{protocol}": at.Protocol, "{service}": at.Protocol}
	var b strings.Builder
	for s != "" {
		before, after, found := strings.Cut(s, "%")
		b.WriteString(before)
		if !found {
			break
		}
		key := after[:min(1, len(after))]
		if key == "{" {
			if end := strings.IndexByte(after, '}'); end > 0 {
				key = after[:end+1]
			}
		}
		if value, ok := values[strings.ReplaceAll(key, " ", "")]; ok {
			b.WriteString(value)
		} else {
			b.WriteString("%" + key)
		}
		s = after[len(key):]
	}
	return b.String()
}
