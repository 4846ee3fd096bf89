package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

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
		if _, err := lookUpUser(l.User); l.User != "" && err != nil {
			k.wrong(path+".user", "there is no such user as %s", quote(l.User))
		}
		if _, err := lookUpGroup(l.Group); l.Group != "" && err != nil {
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
