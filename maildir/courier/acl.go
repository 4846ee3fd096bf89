package courier

import "strings"

// ACLName is the file of a mailbox's rights; courierimaphieracl in the root has one
// such file for each name that is no mailbox but has some below it, named by Levels
// without INBOX.
//
//	owner aceilrstwx               identifier SP rights (RFC 4314 section 2.1) LF
//	user=bob@example.org lr
//	-group=staff w                 rights that these have not, whatever else they are given
const (
	ACLName      = "courierimapacl"
	HierarchyDir = "courierimaphieracl"
)

// A Grant is one line of an ACL.
type Grant struct {
	Negative bool   // rights are taken away
	ID       string // "owner", "anyone", "anonymous", "administrators", "user=NAME", "group=NAME"
	Rights   string // letters of RFC 4314, each once, in the order of the alphabet
}

// allRights are those that a mailbox of one's own has.
const allRights = "aceilrstwx"

// ParseACL reads a courierimapacl. bad counts the lines that are no grants.
func ParseACL(b []byte, limit Limits) (list []Grant, bad int) {
	for line := range lines(b, limit, &bad) {
		// An identifier may hold blanks, rights may not.
		i := strings.LastIndexByte(line, ' ')
		if i < 0 {
			bad++
			continue
		}
		var g Grant
		g.ID, g.Negative = strings.CutPrefix(line[:i], "-")
		if !isIdentifier(g.ID) || strings.Trim(line[i+1:], allRights) != "" {
			bad++
			continue
		}
		for _, r := range allRights {
			if strings.ContainsRune(line[i+1:], r) {
				g.Rights += string(r)
			}
		}
		list = append(list, g)
	}
	return list, bad
}

func isIdentifier(s string) bool {
	switch s {
	case "owner", "anyone", "anonymous", "administrators":
		return true
	}
	for _, prefix := range []string{"user=", "group="} {
		if name, ok := strings.CutPrefix(s, prefix); ok {
			return name != "" && !strings.ContainsAny(name, "\x00\r")
		}
	}
	return false
}

// Plain reports whether an ACL says nothing but what holds without one: the owner and
// the administrators have all rights.
func Plain(list []Grant) bool {
	for _, g := range list {
		if g.Negative || g.Rights != allRights || g.ID != "owner" && g.ID != "administrators" {
			return false
		}
	}
	return true
}
