package auth

import (
	"cmp"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Cost is one way in which passwords of a file are kept, with what it costs.
type Cost struct {
	Scheme string   // "BLF-CRYPT"
	Class  string   // of hashes that cost about the same: the scheme, mostly with its rounds
	Users  []string // who has such a hash, in the order of the file

	// Weak: whoever gets the file has the passwords, or finds them quickly.
	Weak bool

	hash Hash
}

// weak are schemes without any work in them, or without enough of it.
var weak = []string{
	"PLAIN", "CLEAR", "CLEARTEXT", "PLAIN-TRUNC", "MD5-CRYPT", "MD5", "APR1", "SUN-MD5", "SHA", "SHA1", "SHA256", "SHA512",
	"SSHA", "SSHA256", "SSHA512", "SMD5", "LDAP-MD5", "PLAIN-MD5", "PLAIN-MD4", "CRAM-MD5", "HMAC-MD5", "DIGEST-MD5",
}

// Costs reads a password file and gives the ways in which its passwords are kept, by
// class. Disabled users do not count.
func Costs(path string, keepCase bool) ([]Cost, error) {
	b, _, err := readFile(path)
	if err != nil {
		return nil, err
	}
	t := parseTable(path, b, !keepCase, systemIDs)
	entries := make([]*entry, 0, len(t.entries))
	for _, e := range t.entries {
		if !e.hash.Locked && e.refused == "" {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b *entry) int { return cmp.Compare(a.line, b.line) })
	var list []Cost
	for _, e := range entries {
		i := slices.IndexFunc(list, func(c Cost) bool { return c.Class == e.hash.class })
		if i < 0 {
			i = len(list)
			list = append(list, Cost{Scheme: e.hash.Scheme, Class: e.hash.class, Weak: slices.Contains(weak, e.hash.Scheme), hash: e.hash})
		}
		list[i].Users = append(list[i].Users, e.name)
	}
	slices.SortFunc(list, func(a, b Cost) int { return cmp.Compare(a.Class, b.Class) })
	return list, nil
}

// Measure verifies a wrong password against one of the hashes, and gives the time that
// this takes where nobody else wants the processor: the least of three, by the clock, or by
// that of the process, which stands still while others have the processor.
func (c Cost) Measure() time.Duration {
	least := time.Duration(1<<63 - 1)
	for range 3 {
		start, spent := time.Now(), processorTime()
		c.hash.Matches(c.Users[0], "not the password")
		least = min(least, time.Since(start))
		if now := processorTime(); now > spent { // a kernel that has no such clock says 0
			least = min(least, now-spent)
		}
	}
	return least
}

// processorTime is what the process has used so far; 0 when that is not known.
func processorTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
