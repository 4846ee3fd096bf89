package store

import (
	"context"
	"errors"
	"strings"
	"time"
)

// A Store serves the mailboxes of many users. Safe for concurrent use.
type Store interface {
	// Account opens the door for one session. It fails with ErrUnavailable when the
	// user's roots cannot be opened.
	Account(ctx context.Context, who Identity) (Account, error)

	// Close writes what was only in memory and ends all watches. All accounts and
	// mailboxes must be closed before; no call may follow.
	Close(ctx context.Context) error
}

// Identity says for whom work is done. It is plain data: it crosses the process
// boundary as JSON.
type Identity struct {
	User   string   // whose mail
	Login  string   // who gave the password; differs from User for a master user
	Groups []string // for access rights
	Roots  []Root   // the personal namespace first; never empty
	Quota  Limits

	// Separator stands between the levels of the names that this user sees:
	// '/' or '.'; 0 is '/'.
	Separator byte
}

// Sep is the separator between the levels of a Name for this user.
func (i Identity) Sep() byte {
	if i.Separator == 0 {
		return '/'
	}
	return i.Separator
}

// A Root is one tree of mailboxes on disk, with every variable already expanded.
type Root struct {
	Prefix  string // before each name, with its separator; "" for none
	Layout  Layout
	Mail    string // absolute path of the tree
	Inbox   string // absolute path of INBOX where it is not the root itself; "" is the root
	Control string // where uidlist, keywords and subscriptions are kept; "" is Mail
	Index   string // where roost.* files are kept; "" is the mailbox itself

	// OldPrefix is a prefix that clients may still write in place of Prefix, from the
	// time of another server. The protocol sees to it: a Store never meets such names.
	OldPrefix string

	UTF8     bool   // folder names on disk are UTF-8 instead of modified UTF-7
	Escape   Escape // how characters that a folder name may not hold are written
	MailDir  string // LAYOUT=fs: the mail of A/B is in A/B/MailDir (Dovecot's DIRNAME); "" is A/B itself
	SubsFile string // name of the subscriptions file; "" is "subscriptions"

	Create  bool     // make what is missing when the account is opened
	Folders []Folder // special-use mailboxes: made with the root, shown with their use

	FollowLinks []string // directories under which a symlinked folder may end
}

// Folder is a special-use mailbox of the configuration (RFC 6154).
type Folder struct {
	Name      Name
	Use       string // `\Sent`, `\Drafts`, ...; several folders may have one use
	Create    bool   // make it with a new root
	Subscribe bool   // and subscribe to it
}

// Layout says how a tree of mailboxes lies on disk.
type Layout string

const (
	LayoutMaildirPP Layout = "maildir++" // A/B is the directory ".A.B" in the root
	LayoutFS        Layout = "fs"        // A/B is the directory "A/B" in the root
)

// Escape says how a part of a name is written on disk where it holds characters
// that have a meaning there.
type Escape string

const (
	EscapeNone      Escape = ""          // such names are refused with ErrCannot
	EscapeBackslash Escape = "backslash" // Dovecot's listescape: '.' is `\2e`
	EscapeCourier   Escape = "courier"   // as modified UTF-7: '.' is "&AC4-"
)

// Limits bound an account; 0 is no limit.
type Limits struct {
	Bytes, Messages int64
	MessageBytes    int64 // one message, as sent
}

// Name is a mailbox name as a client sees it: UTF-8, its levels joined by the
// account's separator, "INBOX" in capitals when it is the first level.
type Name string

// Inbox is the name that every account has (RFC 9051 section 5.1).
const Inbox Name = "INBOX"

// Canonical folds INBOX, which alone is case-insensitive, as the whole name or
// as its first level (RFC 9051 section 5.1).
func (n Name) Canonical(sep byte) Name {
	s := string(n)
	if len(s) >= 5 && strings.EqualFold(s[:5], "INBOX") && (len(s) == 5 || s[5] == sep) {
		return Name("INBOX" + s[5:])
	}
	return n
}

// Parent is the name one level up, and false for a name at the top.
func (n Name) Parent(sep byte) (Name, bool) {
	i := strings.LastIndexByte(string(n), sep)
	if i < 0 {
		return "", false
	}
	return n[:i], true
}

// ModSeq counts changes (RFC 7162): 63 bits, never 0 once shown.
type ModSeq uint64

// What callers decide on. Implementations wrap these with %w; the protocol maps
// each to the response code beside it (RFC 5530 section 3, RFC 9051 section 7.1).
var (
	ErrNotFound     = errors.New("no such mailbox")                    // NONEXISTENT; TRYCREATE for a target
	ErrExists       = errors.New("mailbox already exists")             // ALREADYEXISTS
	ErrNoPermission = errors.New("permission denied")                  // NOPERM
	ErrReadOnly     = errors.New("mailbox is read-only")               // NOPERM
	ErrOverQuota    = errors.New("no room left")                       // OVERQUOTA: quota, full disk
	ErrTooBig       = errors.New("message is too big")                 // TOOBIG
	ErrGone         = errors.New("message is gone")                    // EXPUNGEISSUED
	ErrReplaced     = errors.New("mailbox was deleted or replaced")    // the hold is dead: BYE
	ErrUnreadable   = errors.New("message cannot be read")             // SERVERBUG, UNAVAILABLE for this message only
	ErrDamaged      = errors.New("message is damaged")                 // CORRUPTION: with ErrUnreadable, for this message only
	ErrUnsupported  = errors.New("not supported")                      // CANNOT: encrypted messages
	ErrCannot       = errors.New("name is not possible")               // CANNOT
	ErrNoSelect     = errors.New("mailbox cannot be selected")         // NONEXISTENT: a level without mail
	ErrHasChildren  = errors.New("mailbox has children")               // HASCHILDREN
	ErrInUse        = errors.New("mailbox is in use")                  // INUSE: a lock that was not had in time
	ErrLimit        = errors.New("a limit was reached")                // LIMIT: keywords, descriptors
	ErrUnavailable  = errors.New("mailbox is temporarily unavailable") // UNAVAILABLE
)

// Explained is one of these errors with a sentence for the client, in place of the
// general one: what is wrong and what helps, without a path.
type Explained struct {
	Err  error
	Text string
}

func (e *Explained) Error() string { return e.Err.Error() + ": " + e.Text }
func (e *Explained) Unwrap() error { return e.Err }

// Clock gives the time; tests put their own in place of time.Now.
type Clock func() time.Time
