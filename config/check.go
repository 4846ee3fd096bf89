package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"slices"
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

func (k *checker) listeners() {
	if len(k.c.Listen) == 0 {
		k.wrong("listen", `there is nothing to listen on: leave listen out for ":993"`)
	}
	seen := map[string]int{}
	for i, l := range k.c.Listen {
		path := fmt.Sprintf("listen[%d]", i)
		host, port, err := net.SplitHostPort(l.Address)
		switch {
		case l.Address == "":
			k.wrong(path, `this [[listen]] has no address: add address = ":993"`)
			continue
		case err != nil && !strings.Contains(l.Address, ":"):
			full := net.JoinHostPort(l.Address, "993")
			if _, err := strconv.Atoi(l.Address); err == nil {
				full = ":" + l.Address
			}
			k.wrong(path+".address", "%s is not host:port: write %s", quote(l.Address), quote(full))
			continue
		case err != nil:
			k.wrong(path+".address", "%s is no address (%v); it is host:port, an IPv6 host in brackets", quote(l.Address), err)
			continue
		}
		n, err := net.LookupPort("tcp", port)
		if err != nil {
			k.wrong(path+".address", "%s is no port", quote(port))
			continue
		}
		same := net.JoinHostPort(host, strconv.Itoa(n))
		if other, ok := seen[same]; ok && n != 0 {
			k.wrong(path+".address", "%s is listened on already, by listen number %d", quote(l.Address), other+1)
		}
		seen[same] = i
		if l.Plaintext && !loopback(host) {
			k.wrong(path+".plaintext", "passwords would cross the network in the clear: plaintext is possible on a loopback address only, not on %s; "+
				"remove it and set starttls = true", quote(l.Address))
		}
		for j, network := range l.ProxyNetworks {
			if _, err := ParseNetwork(network); err != nil {
				k.wrong(fmt.Sprintf("%s.proxy_networks[%d]", path, j), "%s is no network: write 192.0.2.0/24, 2001:db8::/32, or an address", quote(network))
			}
		}
		switch {
		case l.Proxy && len(l.ProxyNetworks) == 0:
			k.wrong(path+".proxy", "anybody could take any address: name the proxies' own, proxy_networks = [\"127.0.0.1\"]")
		case !l.Proxy && len(l.ProxyNetworks) > 0:
			k.wrong(path+".proxy_networks", "it is not looked at: set proxy = true")
		}
		if n == 993 && !l.Implicit() && !l.Proxy {
			k.wrong(path, "clients expect TLS from the first byte on port 993: remove starttls and plaintext here, or use port 143")
		}
		if n == 143 && l.Implicit() {
			k.wrong(path, "clients expect no TLS at first on port 143: set starttls = true here, or use port 993")
		}
	}
}

// loopback reports whether only this machine can reach an address.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

func (k *checker) certificates(now time.Time) {
	c := k.c
	needed := ""
	for i, l := range c.Listen {
		if l.Implicit() || l.STARTTLS {
			needed = fmt.Sprintf("listen[%d]", i)
			break
		}
	}
	if c.TLS.Cert == "" && c.TLS.Key == "" {
		if needed != "" && len(c.TLS.ACME.Names) == 0 {
			at := "tls"
			if k.c.src == nil || k.c.src.places[at] == (place{}) {
				at = needed
			}
			k.wrong(at, "there is no certificate: set tls.cert and tls.key, for instance to certbot's fullchain.pem and privkey.pem")
		}
	} else {
		k.pair("tls.", c.TLS.Cert, c.TLS.Key, now)
	}
	for i, extra := range c.TLS.Certificate {
		k.pair(fmt.Sprintf("tls.certificate[%d].", i), extra.Cert, extra.Key, now)
	}
}

// acme checks what is asked of an authority.
func (k *checker) acme() {
	a := k.c.TLS.ACME
	if len(a.Names) == 0 {
		return
	}
	if !a.Agree {
		k.wrong("tls.acme.names", "the authority wants its terms agreed to: read them and set tls.acme.agree = true")
	}
	for i, name := range a.Names {
		if strings.ToLower(name) != name || !strings.Contains(name, ".") || strings.ContainsAny(name, "*:/ ") {
			k.wrong(fmt.Sprintf("tls.acme.names[%d]", i), "%s is no name of a host in small letters; an authority that asks by HTTP knows no wildcards", quote(name))
		}
	}
	if u, err := url.Parse(a.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
		k.wrong("tls.acme.directory", "%s is no https:// address", quote(a.Directory))
	}
	if _, _, err := net.SplitHostPort(a.Listen); err != nil {
		k.wrong("tls.acme.listen", "%s is not host:port: write \":80\"", quote(a.Listen))
	}
	if a.Roots != "" {
		k.file("tls.acme.roots", a.Roots)
	}
	if k.c.State() == "" {
		k.wrong("tls.acme.names", "certificates are kept in state_dir, and that is off")
	}
}

// pair checks one certificate with its key.
func (k *checker) pair(prefix, certFile, keyFile string, now time.Time) {
	if certFile == "" || keyFile == "" {
		k.wrong(prefix+"cert", "%scert and %skey belong together: one of them is missing", prefix, prefix)
		return
	}
	cert, certOK := k.file(prefix+"cert", certFile)
	key, keyOK := k.file(prefix+"key", keyFile)
	if info, err := os.Stat(keyFile); err == nil && info.Mode().Perm()&0o007 != 0 {
		k.wrong(prefix+"key", "every user of this machine can get at the private key (mode %04o): chmod o= %s", info.Mode().Perm(), keyFile)
	}
	if !certOK || !keyOK {
		return
	}
	both, err := tls.X509KeyPair(cert, key)
	switch {
	case err != nil && strings.Contains(err.Error(), "switched"):
		k.wrong(prefix+"cert", "%s is a private key: %scert and %skey stand the wrong way round", certFile, prefix, prefix)
		return
	case err != nil && strings.Contains(err.Error(), "does not match"):
		k.wrong(prefix+"key", "the key %s does not belong to the certificate %s: take both from the same renewal", keyFile, certFile)
		return
	case err != nil:
		at := prefix + "cert"
		if strings.Contains(err.Error(), "key") && !strings.Contains(err.Error(), "certificate") {
			at = prefix + "key"
		}
		k.wrong(at, "%s with %s: %s", certFile, keyFile, strings.TrimPrefix(err.Error(), "tls: "))
		return
	}
	leaf, err := x509.ParseCertificate(both.Certificate[0])
	if err != nil {
		k.wrong(prefix+"cert", "%s: %v", certFile, err)
		return
	}
	if now.After(leaf.NotAfter) {
		k.wrong(prefix+"cert", "the certificate %s ended on %s: renew it", certFile, leaf.NotAfter.UTC().Format("2006-01-02"))
	}
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

func (k *checker) auth() {
	a := k.c.Auth
	if a.PasswdFile == "" && len(a.Source) == 0 && len(a.OAuth2.Domains) == 0 {
		k.wrong("auth.passwd_file", "nobody could log in: auth.passwd_file is empty")
	}
	if a.PasswdFile != "" {
		k.passwdFile("auth.passwd_file", a.PasswdFile)
	}
	if a.MasterFile != "" {
		k.passwdFile("auth.master_file", a.MasterFile)
		if slices.Contains(a.PasswdFiles(), a.MasterFile) {
			k.wrong("auth.master_file", "%s has the users: master users stand in a file of their own", a.MasterFile)
		}
	}
	if len(a.MasterSeparator) != 1 || strings.Trim(a.MasterSeparator, "!#$%&*+=?^|~,;") != "" {
		k.wrong("auth.master_separator", "%s: write one of ! # $ %% & * + = ? ^ | ~ , ;", quote(a.MasterSeparator))
	}
	seen := map[string]bool{a.PasswdFile: true}
	for i, s := range a.Source {
		path := fmt.Sprintf("auth.source[%d]", i)
		if !k.sourceKeys(path, s) {
			continue
		}
		switch s.Kind {
		case "passwd":
			if seen[s.File] {
				k.wrong(path+".file", "%s is a source already", quote(s.File))
				continue
			}
			seen[s.File] = true
			k.passwdFile(path+".file", s.File)
		case "command":
			k.program(path+".command", s.Command[0])
		case "ldap":
			k.directory(path, s)
		case "dovecot", "system":
			for key, socket := range map[string]string{"socket": s.Socket, "userdb": s.Userdb} {
				if socket != "" && !filepath.IsAbs(socket) {
					k.wrong(path+"."+key, "%s: write the whole path, from / on", quote(socket))
				}
			}
		}
	}
}

// passwdFile checks a password file that is named at path.
func (k *checker) passwdFile(path, name string) {
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) && filepath.IsAbs(name) {
		k.wrong(path, "there is no file %s: `roost passwd add` makes it with its first user", name)
		return
	}
	k.file(path, name)
}

// directory checks a source of kind ldap.
func (k *checker) directory(path string, s Source) {
	for i, text := range s.URL {
		at := fmt.Sprintf("%s.url[%d]", path, i)
		u, err := url.Parse(text)
		switch {
		case err != nil || !slices.Contains([]string{"ldap", "ldaps", "ldapi"}, u.Scheme):
			k.wrong(at, "%s is no URL of a directory: write \"ldaps://ldap.example.org\"", quote(text))
		case u.Scheme == "ldapi" && (u.Host != "" || !filepath.IsAbs(u.Path)):
			k.wrong(at, "%s names no socket: write \"ldapi:///run/slapd/ldapi\"", quote(text))
		case u.Scheme != "ldapi" && u.Hostname() == "":
			k.wrong(at, "%s names no server", quote(text))
		case u.Scheme == "ldap" && !s.StartTLS && !loopback(u.Hostname()):
			k.wrong(at, "passwords would cross the network to %s in the clear: write ldaps://, or set starttls = true", quote(text))
		}
	}
	for key, file := range map[string]string{"ca": s.CA, "bind_password_file": s.BindPassword} {
		if file != "" {
			k.file(path+"."+key, file)
		}
	}
	if info, err := os.Stat(s.BindPassword); s.BindPassword != "" && err == nil && info.Mode().Perm()&0o007 != 0 {
		k.wrong(path+".bind_password_file", "every user of this machine can read it (mode %04o): chmod o= %s", info.Mode().Perm(), s.BindPassword)
	}
	if (s.BindDN == "") != (s.BindPassword == "") {
		k.wrong(path, "bind_dn and bind_password_file belong together: one of them is missing")
	}
	if (s.ListFilter == "") != (s.NameAttribute == "") {
		k.wrong(path, "list_filter and name_attribute belong together: one of them is missing")
	}
	if !strings.Contains(s.Filter, "%u") && !strings.Contains(s.Filter, "%n") {
		k.wrong(path+".filter", "%s finds the same entry for all users: it needs %%u or %%n", quote(s.Filter))
	}
	for i, a := range s.Attributes {
		if attribute, field, ok := strings.Cut(a, "="); !ok || attribute == "" || field == "" {
			k.wrong(fmt.Sprintf("%s.attributes[%d]", path, i), "%s is not attribute=field: write \"homeDirectory=userdb_home\"", quote(a))
		}
	}
}

// program checks a program that is run.
func (k *checker) program(path, name string) {
	info, err := os.Stat(name)
	switch {
	case !filepath.IsAbs(name):
		k.wrong(path, "%s: write the whole path, from / on", quote(name))
	case errors.Is(err, fs.ErrNotExist):
		k.wrong(path, "there is no file %s: is the path right?", name)
	case err != nil:
		k.wrong(path, "%s: %v", name, bottom(err))
	case info.IsDir() || info.Mode()&0o111 == 0:
		k.wrong(path, "%s cannot be run: chmod +x %[1]s", name)
	case info.Mode()&0o002 != 0:
		k.wrong(path, "every user of this machine can change %s, which learns passwords: chmod o-w %[1]s", name)
	}
}

// sourceNeeds are the keys without which a source of a kind is nothing.
var sourceNeeds = map[string][]string{"passwd": {"file"}, "command": {"command"}, "dovecot": {"socket"}, "ldap": {"url", "base", "filter"}}

// sourceKeys reports whether a source has the keys that its kind needs, and complains of
// those that mean nothing to it.
func (k *checker) sourceKeys(path string, s Source) bool {
	if s.Kind == "" {
		row, _ := lookup("auth.source.kind")
		k.wrong(path, "this [[auth.source]] has no kind; %s", row.choices())
		return false
	}
	ok := true
	v := reflect.ValueOf(s)
	for _, row := range keysOf("auth.source") {
		f, _ := fieldNamed(v, row.leaf())
		none := f.IsZero() || f.Kind() == reflect.Slice && f.Len() == 0
		switch at := path + "." + row.leaf(); {
		case !row.fits(s.Kind) && !none:
			k.wrong(at, "%s means nothing in a source of kind %s, but of %s", row.leaf(), quote(s.Kind), strings.Join(row.kinds, ", "))
		case slices.Contains(sourceNeeds[s.Kind], row.leaf()) && none:
			k.wrong(path, "this [[auth.source]] of kind %s needs %s, such as %s", quote(s.Kind), row.leaf(), quote(row.sample))
			ok = false
		}
	}
	return ok
}

func (k *checker) authListeners() {
	seen := map[string]bool{}
	for i, l := range k.c.Auth.Listen {
		path := fmt.Sprintf("auth.listen[%d]", i)
		host, _, err := net.SplitHostPort(l.Address)
		switch {
		case (l.Path == "") == (l.Address == ""):
			k.wrong(path, "this [[auth.listen]] needs a path or an address, one of them")
		case l.Address != "" && err != nil:
			k.wrong(path+".address", "%s is not host:port: write \"127.0.0.1:12345\"", quote(l.Address))
		case l.Address != "" && !loopback(host):
			k.wrong(path+".address", "passwords cross this socket in the clear: it is possible on a loopback address only, not on %s", quote(l.Address))
		case l.Address != "" && l.Mode+l.User+l.Group != "":
			k.wrong(path, "mode, user and group belong to a path, not to an address")
		case l.Path != "" && !filepath.IsAbs(l.Path):
			k.wrong(path+".path", "%s: write the whole path, from / on", quote(l.Path))
		case len(l.Path) > socketPath:
			k.wrong(path+".path", "the path of a socket has at most %d bytes, this one has %d: name a shorter one", socketPath, len(l.Path))
		case seen[l.Path+l.Address]:
			k.wrong(path, "%s is listened on already", quote(l.Path+l.Address))
		}
		seen[l.Path+l.Address] = true
		if n, err := strconv.ParseUint(l.Mode, 8, 9); l.Mode != "" && (err != nil || n&0o007 != 0) {
			k.wrong(path+".mode", "%s is no mode for it: write \"0660\" or \"0600\"; others may not try passwords", quote(l.Mode))
		}
		if _, err := user.Lookup(l.User); l.User != "" && err != nil {
			k.wrong(path+".user", "there is no such user as %s", quote(l.User))
		}
		if _, err := user.LookupGroup(l.Group); l.Group != "" && err != nil {
			k.wrong(path+".group", "there is no such group as %s", quote(l.Group))
		}
	}
}

func (k *checker) mechanisms(known []string) {
	for _, name := range k.c.Auth.Mechanisms {
		if !slices.Contains(known, name) {
			k.wrong("auth.mechanisms", "there is no mechanism %s: there are %s", quote(name), strings.Join(known, ", "))
		}
	}
	for _, name := range k.c.Auth.AppsOnly {
		if name != "imap" && name != "smtp" {
			k.wrong("auth.apps_only", "there is no protocol %s: there are imap, smtp", quote(name))
		}
	}
	c := k.c.Auth.Certificate
	for _, f := range []struct{ path, name string }{
		{"auth.certificate.ca", c.CA}, {"auth.certificate.crl", c.CRL}, {"auth.certificate.map", c.Map},
	} {
		if f.name != "" {
			k.file(f.path, f.name)
		}
	}
	switch {
	case c.CA == "" && c.CRL != "":
		k.wrong("auth.certificate.crl", "a revocation list means nothing without auth.certificate.ca")
	case c.User == "map" && c.Map == "":
		k.wrong("auth.certificate.map", "auth.certificate.user is map, so name the file")
	case c.User != "map" && c.Map != "":
		k.wrong("auth.certificate.map", "it is not looked at: set auth.certificate.user to map")
	}
}

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
		u, err := user.Lookup(m.User)
		if err != nil {
			u, err = user.LookupId(m.User)
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
		g, err := user.LookupGroup(m.Group)
		if err != nil {
			g, err = user.LookupGroupId(m.Group)
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

func (k *checker) throttle() {
	t := k.c.Auth.Throttle
	switch {
	case t.Guesses < 3:
		k.wrong("auth.throttle.guesses", "auth.throttle.guesses is %d: who mistypes a password needs 3", t.Guesses)
	case t.LockAfter < 4:
		k.wrong("auth.throttle.lock_after", "auth.throttle.lock_after is %d: who mistypes a password needs 4", t.LockAfter)
	case t.LockTime != Off && t.LockMax < t.LockTime:
		k.wrong("auth.throttle.lock_max", "auth.throttle.lock_max is %s, less than auth.throttle.lock_time, which is %s", showDuration(t.LockMax), showDuration(t.LockTime))
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
