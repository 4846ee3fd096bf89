package maildir

import (
	"cmp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	gomaildir "github.com/emersion/go-maildir"

	"roost/store"
)

// The name of a message's file says nearly all that is known of the message:
//
//	1795464818.M371232P56.mail.example.org,S=674,W=691:2,FSac,ext
//	|---- unique: who it is, for ever ----||-- sizes --|  |  |  |
//	|------------------- base -------------------------|  |  |  more: not ours, kept
//	                                        flags, capitals  |
//	                                   keywords, letters of dovecot-keywords
//
// The base ends at the first ':' and is the message's identity. The flags are
// looked for behind the last ':', and only after "2,". Letters that mean nothing
// here, and everything behind a further comma, keep their place when flags change.

const infoMark = ":2,"

// flagLetters pairs each system flag with its letter, in the order of the letters.
var flagLetters = [...]struct {
	letter byte
	flag   store.Flags
}{
	{byte(gomaildir.FlagDraft), store.FlagDraft},
	{byte(gomaildir.FlagFlagged), store.FlagFlagged},
	{byte(gomaildir.FlagReplied), store.FlagAnswered},
	{byte(gomaildir.FlagSeen), store.FlagSeen},
	{byte(gomaildir.FlagTrashed), store.FlagDeleted},
}

// letterSet is a set of keyword letters: bit 0 is 'a', bit 25 is 'z'.
type letterSet uint32

func (s letterSet) has(i int) bool { return s>>i&1 != 0 }

// isMessageName reports whether an entry of cur/ or new/ can be a message. Names
// that start with a dot are other programs' business, and one with a line end
// could not be written to the uidlist.
func isMessageName(name string) bool {
	if name == "" || name[0] == '.' {
		return false
	}
	for i := range len(name) { // of 100,000 names at once
		if c := name[i]; c <= '\r' && (c == '\r' || c == '\n' || c == 0) || c == '/' {
			return false
		}
	}
	return true
}

// baseOf is the part of a file name that never changes. It is empty for a name
// that starts with ':', which cannot be listed and needs a new one.
func baseOf(name string) string {
	base, _, _ := strings.Cut(name, ":")
	return base
}

// maxBase is how long a base may be so that the system flags fit behind it.
const maxBase = maxComponent - len(infoMark) - len(flagLetters)

// needsName reports whether a file can only be a message like others under another
// name: there is none to list it by, or none with flags. (Once it was given a UID by
// its name, it keeps that.)
func needsName(base string) (why string, yes bool) {
	switch {
	case base == "":
		return "its name has no base", true
	case len(base) > maxBase:
		return "its name has no room for flags", true
	}
	return "", false
}

// splitInfo parts a name behind which flags can be written from the flags and what
// follows them. ok is false when there is no such info.
func splitInfo(name string) (head, flags, more string, ok bool) {
	i := strings.LastIndexByte(name, ':')
	if i < 0 {
		return name, "", "", false
	}
	if !strings.HasPrefix(name[i:], infoMark) {
		return name[:i], "", "", false
	}
	flags = name[i+len(infoMark):]
	if j := strings.IndexByte(flags, ','); j >= 0 {
		flags, more = flags[:j], flags[j:]
	}
	return name[:i], flags, more, true
}

// flagsOf reads the flags and keyword letters of a file name, in any order, doubles too.
func flagsOf(name string) (sys store.Flags, letters letterSet) {
	_, info, _, _ := splitInfo(name)
next:
	for i := range len(info) {
		c := info[i]
		if 'a' <= c && c <= 'z' {
			letters |= 1 << (c - 'a')
			continue
		}
		for _, f := range flagLetters {
			if f.letter == c {
				sys |= f.flag
				continue next
			}
		}
	}
	return sys, letters
}

// withFlags is the name that the file gets in cur/ with these flags and letters.
// It is name itself where nothing would change, so that a rename can be spared.
func withFlags(name string, sys store.Flags, letters letterSet) string {
	head, info, more, ok := splitInfo(name)
	if oldSys, oldLetters := flagsOf(name); ok && oldSys == sys && oldLetters == letters {
		return name
	}
	var known [len(flagLetters) + 26]byte
	want := known[:0] // ascending
	for _, f := range flagLetters {
		if sys&f.flag != 0 {
			want = append(want, f.letter)
		}
	}
	for i := range 26 {
		if letters.has(i) {
			want = append(want, 'a'+byte(i))
		}
	}
	out := make([]byte, 0, len(name)+len(infoMark)+len(want))
	out = append(out, head...)
	out = append(out, infoMark...)
	for i := range len(info) {
		c := info[i]
		if isKnownLetter(c) {
			continue
		}
		for len(want) > 0 && want[0] < c {
			out, want = append(out, want[0]), want[1:]
		}
		out = append(out, c)
	}
	out = append(out, want...)
	return string(append(out, more...))
}

func isKnownLetter(c byte) bool {
	if 'a' <= c && c <= 'z' {
		return true
	}
	for _, f := range flagLetters {
		if f.letter == c {
			return true
		}
	}
	return false
}

// sizeHints reads ",S=" (bytes of the file) and ",W=" (bytes with CRLF) from a name;
// -1 where there is none. They are what somebody once wrote, not what is true.
func sizeHints(name string) (s, w int64) {
	base := baseOf(name)
	return sizeHint(base, ",S="), sizeHint(base, ",W=")
}

func sizeHint(base, key string) int64 {
	i := strings.Index(base, key)
	if i < 0 {
		return -1
	}
	digits, _, _ := strings.Cut(base[i+len(key):], ",")
	if digits == "" || digits[0] < '0' || digits[0] > '9' { // ParseInt takes signs
		return -1
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// deliverySeconds is the time at the start of a name, in unix seconds, by which
// SAVEDATE is known. It is believed between 1990 and a day after now.
func deliverySeconds(name string, now time.Time) (int64, bool) {
	sec, rest := leadingNumber(name)
	const year1990 = 631152000
	if !strings.HasPrefix(rest, ".") || sec < year1990 || sec > uint64(now.Unix())+86400 {
		return 0, false
	}
	return int64(sec), true
}

// compareNew orders messages that have no UID yet by their names: by delivery
// second, then by the microseconds, then by bytes, as Dovecot does, so that both
// give the same UIDs. (Without microseconds it is 0, where Dovecot compares bytes: its
// order of three such names can be a circle.)
func compareNew(a, b string) int { return orderOf(a).compare(orderOf(b)) }

// order is what compareNew compares, for those who sort many.
type order struct {
	sec, usec  uint64
	rest, name string
}

func orderOf(name string) order {
	sec, rest := leadingNumber(name)
	return order{sec, microseconds(rest), rest, name}
}

func (a order) compare(b order) int {
	switch {
	case a.sec != b.sec:
		return cmp.Compare(a.sec, b.sec)
	case a.usec != b.usec:
		return cmp.Compare(a.usec, b.usec)
	}
	return cmp.Or(strings.Compare(a.rest, b.rest), strings.Compare(a.name, b.name)) // "01.x" and "1.x"
}

// microseconds reads the number behind the first 'M' that has one, in the delivery
// identifier: ".M740664P56.host", and ".Vfe00Ia10612M740664.host" of Postfix.
func microseconds(rest string) uint64 {
	if !strings.HasPrefix(rest, ".") {
		return 0
	}
	id, _, _ := strings.Cut(rest[1:], ".")
	for {
		_, after, ok := strings.Cut(id, "M")
		if !ok {
			return 0
		}
		if n, tail := leadingNumber(after); len(tail) < len(after) {
			return n
		}
		id = after
	}
}

// leadingNumber reads the digits at the start; more than 64 bits is the largest number.
func leadingNumber(s string) (n uint64, rest string) {
	i := 0
	for i < len(s) && '0' <= s[i] && s[i] <= '9' {
		i++
	}
	n, err := strconv.ParseUint(s[:i], 10, 64)
	if err != nil && i > 0 {
		n = 1<<64 - 1
	}
	return n, s[i:]
}

// A namer makes the base names of new messages, each once and in rising order as
// compareNew has it. Safe for concurrent use.
type namer struct {
	tail    string // ".host", escaped
	pid     int
	counter atomic.Uint64
	last    atomic.Int64 // the latest microsecond given out
}

func newNamer(host string, pid int) *namer {
	return &namer{tail: "." + hostEscapes.Replace(host), pid: pid}
}

// hostEscapes writes what a host name may not have in a file name, by Maildir's
// convention. A comma would look like the start of the sizes.
var hostEscapes = strings.NewReplacer("/", `\057`, ":", `\072`, ",", `\054`, "\n", `\012`, "\r", `\015`, "\x00", `\000`)

// next gives an unused name without sizes, for tmp/. When the clock stands still or
// goes back, it goes on from the last name by a microsecond.
func (n *namer) next(now time.Time) string {
	usec := now.UnixMicro()
	for {
		last := n.last.Load()
		if usec <= last {
			usec = last + 1
		}
		if n.last.CompareAndSwap(last, usec) {
			break
		}
	}
	out := make([]byte, 0, 64)
	out = strconv.AppendInt(out, usec/1e6, 10)
	out = append(out, ".M"...)
	out = strconv.AppendInt(out, usec%1e6, 10)
	out = append(out, 'P')
	out = strconv.AppendInt(out, int64(n.pid), 10)
	out = append(out, 'Q')
	out = strconv.AppendUint(out, n.counter.Add(1), 10)
	return string(append(out, n.tail...))
}

// withSizes adds the true sizes to a name of next.
func withSizes(base string, size, sizeCRLF int64) string {
	return base + ",S=" + strconv.FormatInt(size, 10) + ",W=" + strconv.FormatInt(sizeCRLF, 10)
}
