package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// checker collects what is wrong.
type checker struct {
	c        *Config
	problems Problems
	partly   bool
}

// wrong notes a problem with the value of path.
func (k *checker) wrong(path, format string, args ...any) {
	p := Problem{Text: fmt.Sprintf(format, args...)}
	if src := k.c.src; src != nil {
		p.File, p.Pos = src.name, src.at(path)
	}
	k.problems = append(k.problems, p)
}

// Protocol is what Check has to know of what is spoken.
type Protocol struct {
	Filter       func(name, search string) error // what is wrong with an [[imap.filter]]
	Capabilities []string                        // that [[client]] can hide
	Mechanisms   []string                        // of SASL

	// Partly: the process is one of several of a server, and a file that it may not read is
	// another's.
	Partly bool
}

// Check finds what only shows when keys stand side by side and on this machine's
// disk. The error is Problems, all of them. now judges certificates.
func (c *Config) Check(now time.Time, p Protocol) error {
	k := &checker{c: c, partly: p.Partly}
	k.listeners()
	k.certificates(now)
	k.acme()
	k.auth()
	k.authListeners()
	k.mechanisms(p.Mechanisms)
	k.oauth2()
	k.mail()
	k.folders()
	k.limits()
	k.filters(p.Filter)
	k.clients(p.Capabilities)
	k.control()
	k.state()
	k.throttle()
	k.events()
	k.isolation()
	if len(k.problems) > 0 {
		return k.problems.sorted()
	}
	return nil
}

// file reads a file that has to be there.
func (k *checker) file(path, name string) ([]byte, bool) {
	if !filepath.IsAbs(name) {
		k.wrong(path, "%s: write the whole path, from / on", quote(name))
		return nil, false
	}
	info, err := os.Stat(name)
	if err == nil && info.IsDir() {
		err = errors.New("it is a directory")
	}
	var b []byte
	if err == nil {
		b, err = os.ReadFile(name)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k.wrong(path, "there is no file %s: is the path right?", name)
	case errors.Is(err, fs.ErrPermission) && k.partly:
	case errors.Is(err, fs.ErrPermission):
		k.wrong(path, "%s may not be read by user %s: run this as root, or let that user's group read it (docs/postfix.md)", name, whoami())
	case err != nil:
		k.wrong(path, "%s cannot be read: %v", name, bottom(err))
	}
	return b, err == nil
}

// bottom is the error below a path error: the path is told already.
func bottom(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func whoami() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return strconv.Itoa(os.Getuid())
}

// sourceNeeds are the keys without which a source of a kind is nothing.
var sourceNeeds = map[string][]string{"passwd": {"file"}, "command": {"command"}, "dovecot": {"socket"}, "ldap": {"url", "base", "filter"}}

// each gives the errors that were joined.
func each(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

func (k *checker) mail() {
	m := k.c.Mail
	var wrong *keyError
	_, err := m.Locator()
	for _, err := range each(err) {
		if errors.As(err, &wrong) {
			k.wrong(wrong.key, "%v", wrong)
		}
	}
	k.prefix("mail.prefix", m.Prefix)
	k.prefix("mail.old_prefix", m.OldPrefix)
	if m.MailDir != "" && m.Layout != "fs" && !strings.HasPrefix(m.Location, "maildir:") {
		k.wrong("mail.mail_dir", `mail.mail_dir has a meaning with mail.layout = "fs" only`)
	}
	for _, f := range []struct{ key, name string }{{"mail.mail_dir", m.MailDir}, {"mail.subscriptions_file", m.SubsFile}} {
		if err := checkComponent(f.name); f.name != "" && err != nil {
			k.wrong(f.key, "%s: %v", f.key, err)
		}
	}
	for i, dir := range m.LinkTo {
		if !filepath.IsAbs(dir) {
			k.wrong(fmt.Sprintf("mail.follow_links[%d]", i), "%s: write the whole path, from / on", quote(dir))
		}
	}
	if _, _, err := m.Owner(); err != nil {
		at := "mail.user"
		if errors.As(err, &wrong) {
			at = wrong.key
		}
		k.wrong(at, "%v", err)
	}
}

// prefix checks what stands before the names of mailboxes: names behind it are parted by
// the same separator.
func (k *checker) prefix(key, value string) {
	sep := k.c.Mail.Separator
	switch {
	case value == "" || strings.HasSuffix(value, sep):
	case strings.HasSuffix(value, "/") || strings.HasSuffix(value, "."):
		k.wrong(key, "%s ends in another separator than mail.separator, which is %s: set mail.separator = %s", key, quote(sep), quote(value[len(value)-1:]))
	default:
		k.wrong(key, "%s has to end in the separator: write %s", key, quote(value+sep))
	}
}

// Owner gives the numbers of mail.user and mail.group; -1 for what is not set.
func (m Mail) Owner() (uid, gid int, err error) {
	uid, gid = -1, -1
	if m.User != "" {
		u, err := lookUpUser(m.User)
		if err != nil {
			u, err = lookUpUserID(m.User)
		}
		// A number needs no name: in a container mail often belongs to one that has none.
		if n, nerr := strconv.ParseUint(m.User, 10, 31); err != nil && nerr == nil && n > 0 {
			id := strconv.FormatUint(n, 10)
			u, err = &user.User{Uid: id, Gid: id}, nil
		}
		if err != nil {
			return -1, -1, &keyError{"mail.user", fmt.Errorf("is %s, and there is no such user: useradd --system %s", quote(m.User), m.User)}
		}
		uid, _ = strconv.Atoi(u.Uid)
		gid, _ = strconv.Atoi(u.Gid)
	}
	if m.Group != "" {
		g, err := lookUpGroup(m.Group)
		if err != nil {
			g, err = lookUpGroupID(m.Group)
		}
		if n, nerr := strconv.ParseUint(m.Group, 10, 31); err != nil && nerr == nil {
			g, err = &user.Group{Gid: strconv.FormatUint(n, 10)}, nil
		}
		if err != nil {
			return -1, -1, &keyError{"mail.group", fmt.Errorf("is %s, and there is no such group: groupadd --system %s", quote(m.Group), m.Group)}
		}
		gid, _ = strconv.Atoi(g.Gid)
	}
	return uid, gid, nil
}

func (k *checker) folders() {
	seen := map[string]bool{}
	for i, f := range k.c.Mail.Folder {
		path := fmt.Sprintf("mail.folder[%d]", i)
		sep := k.c.Mail.Separator
		switch {
		case f.Name == "":
			k.wrong(path, "this [[mail.folder]] has no name")
			continue
		case strings.EqualFold(f.Name, "INBOX"):
			k.wrong(path+".name", "INBOX is there always and has no special use")
		case strings.HasPrefix(f.Name, sep), strings.HasSuffix(f.Name, sep), strings.Contains(f.Name, sep+sep):
			k.wrong(path+".name", "%s has an empty level; levels are parted by %s", quote(f.Name), quote(sep))
		}
		if seen[f.Name] {
			k.wrong(path+".name", "%s stands here twice", quote(f.Name))
		}
		seen[f.Name] = true
	}
}

func (k *checker) limits() {
	l := k.c.Limits
	for i, n := range l.TrustedNetworks {
		if _, err := ParseNetwork(n); err != nil {
			k.wrong(fmt.Sprintf("limits.trusted_networks[%d]", i), "%s is no network: write 192.0.2.0/24, 2001:db8::/32, or an address", quote(n))
		}
	}
	for _, low := range []struct {
		key string
		is  Size
		min Size
		why string
	}{
		{"limits.prelogin_line", l.PreLoginLine, 512, "clients could not log in"},
		{"limits.auth_line", l.AuthLine, 512, "clients could not log in"},
		{"limits.command", l.Command, 8 * kib, "RFC 7162 section 4 asks for lines of 8 KiB"},
		{"limits.mime_header", l.MIMEHeader, 16 * kib, "ordinary mail would not be taken apart"},
		{"limits.message", l.Message, 64 * kib, "mail programs could not keep what they sent"},
	} {
		if low.is < low.min {
			k.wrong(low.key, "%s is %d bytes, too little: %s; the least is %d", low.key, low.is, low.why, low.min)
		}
	}
	if l.PerUserAddress > l.PerUser {
		k.wrong("limits.connections_per_user", "limits.connections_per_user_address is %d, more than limits.connections_per_user, which is %d", l.PerUserAddress, l.PerUser)
	}
	if l.LoginTime < time.Second {
		k.wrong("limits.login_time", "nobody can log in within %v", l.LoginTime)
	}
	if ka := k.c.IMAP.IdleKeepalive; ka != Off && ka < time.Second {
		k.wrong("imap.idle_keepalive", "imap.idle_keepalive is %v: phones would never sleep; \"2m\" is the default", ka)
	}
	for _, limit := range []struct {
		key string
		is  int
	}{{"imap.message_limit", k.c.IMAP.MessageLimit}, {"imap.save_limit", k.c.IMAP.SaveLimit}} {
		if limit.is != 0 && limit.is < 1000 {
			k.wrong(limit.key, "%s is %d: the least that RFC 9738 allows is 1000; 0 is no limit", limit.key, limit.is)
		}
	}
	if k.c.IMAP.MessageLimit != 0 && k.c.IMAP.SaveLimit != 0 {
		k.wrong("imap.save_limit", "imap.message_limit is a limit for COPY and APPEND too: leave imap.save_limit out")
	}
	if contact := k.c.IMAP.Contact; contact != "" {
		if u, err := url.Parse(contact); err != nil || u.Scheme == "" {
			k.wrong("imap.contact", "imap.contact is %q, no URI; write it as \"mailto:postmaster@example.org\"", contact)
		}
	}
}

func (k *checker) filters(check func(name, search string) error) {
	seen := map[string]bool{}
	for i, f := range k.c.IMAP.Filter {
		path := fmt.Sprintf("imap.filter[%d]", i)
		if seen[strings.ToLower(f.Name)] {
			k.wrong(path+".name", "%s stands here twice", quote(f.Name))
		}
		seen[strings.ToLower(f.Name)] = true
		if err := check(f.Name, f.Search); err != nil {
			k.wrong(path, "this [[imap.filter]] is wrong: %v", err)
		}
	}
}

// clients checks the entries that hide capabilities.
func (k *checker) clients(capabilities []string) {
	for i, e := range k.c.Client {
		path := fmt.Sprintf("client[%d]", i)
		if len(e.Hide) == 0 {
			k.wrong(path, `this [[client]] hides nothing: add hide = ["COMPRESS=DEFLATE"]`)
		}
		for j, n := range e.Network {
			if _, err := ParseNetwork(n); err != nil {
				k.wrong(fmt.Sprintf("%s.network[%d]", path, j), "%s is no network: write 192.0.2.0/24, 2001:db8::/32, or an address", quote(n))
			}
		}
		for _, list := range []struct {
			key    string
			values []string
		}{{"id", e.ID}, {"user", e.User}, {"server_name", e.ServerName}} {
			for j, v := range list.values {
				if v == "" {
					k.wrong(fmt.Sprintf("%s.%s[%d]", path, list.key, j), `client.%s is empty and would mean nobody: write "*" for any, or leave it out`, list.key)
				}
			}
		}
		for j, h := range e.Hide {
			at := fmt.Sprintf("%s.hide[%d]", path, j)
			switch known := hidden(h, capabilities); {
			case strings.EqualFold(h, "IMAP4rev1"):
				k.wrong(at, "IMAP4rev1 cannot be hidden: clients speak no other protocol")
			case strings.EqualFold(h, "STARTTLS"), strings.EqualFold(h, "LOGINDISABLED"):
				k.wrong(at, "%s cannot be hidden: passwords would travel in the clear", strings.ToUpper(h))
			case !known:
				k.wrong(at, "there is no capability %s%s; docs/support.md lists them", quote(h), didYouMean(h, capabilities))
			}
		}
	}
}

// hidden reports whether a name to hide is that of a capability, or of some: "THREAD" is
// THREAD=REFERENCES.
func hidden(name string, capabilities []string) bool {
	for _, c := range capabilities {
		family, _, _ := strings.Cut(c, "=")
		if strings.EqualFold(c, name) || strings.EqualFold(family, name) {
			return true
		}
	}
	return false
}

// socketPath is how long the path of a unix socket can be, in bytes.
const socketPath = 107

func (k *checker) control() {
	switch path := k.c.Control.Path(); {
	case k.c.Control.Socket == "":
		k.wrong("control.socket", `control.socket is empty: write "off" for none, or leave it out for %s`, quote(Default().Control.Socket))
	case path != "" && !filepath.IsAbs(path):
		k.wrong("control.socket", "%s: write the whole path, from / on", quote(path))
	case len(path) > socketPath:
		k.wrong("control.socket", "the path of a socket has at most %d bytes, this one has %d: name a shorter one", socketPath, len(path))
	}
}

func (k *checker) state() {
	switch dir := k.c.State(); {
	case k.c.StateDir == "":
		k.wrong("state_dir", `state_dir is empty: write "off" for none, or leave it out for %s`, quote(Default().StateDir))
	case dir != "" && !filepath.IsAbs(dir):
		k.wrong("state_dir", "%s: write the whole path, from / on", quote(dir))
	}
}

func (k *checker) events() {
	for i, e := range k.c.Event {
		path := fmt.Sprintf("event[%d]", i)
		switch {
		case e.Name == "":
			k.wrong(path, "this [[event]] has no name; it is one of %s", strings.Join(EventNames, ", "))
		case len(e.Run) == 0 && !e.Mail:
			k.wrong(path, `this [[event]] does nothing: add run = ["/usr/local/bin/alert"], or mail = true`)
		case len(e.Run) > 0 && !filepath.IsAbs(e.Run[0]):
			k.wrong(path+".run", "%s: write the whole path, from / on", quote(e.Run[0]))
		case len(e.Run) > 0:
			if info, err := os.Stat(e.Run[0]); err != nil {
				k.wrong(path+".run", "there is no file %s: is the path right?", e.Run[0])
			} else if info.IsDir() || info.Mode().Perm()&0o111 == 0 {
				k.wrong(path+".run", "%s is no program: chmod +x %[1]s", e.Run[0])
			}
		}
	}
	if file := k.c.Log.AuditFile(); file != "" && !filepath.IsAbs(file) {
		k.wrong("log.audit", `%s is neither "off" nor "log" nor a whole path, from / on`, quote(file))
	}
}

// ParseNetwork reads a network, or an address as the network of itself. What is IPv4 in IPv6
// ("::ffff:192.0.2.0/120") is IPv4, as the addresses that are compared with it.
func ParseNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if a := p.Addr(); err == nil && a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), err
}
