package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"roost/config"
	"roost/server/workers"
)

// rightsHint says what to do about a file that mail.user cannot read.
const rightsHint = "a change to it waits for a restart; let the user's group read it (chgrp, chmod g+r, and g+x for the directories above): docs/postfix.md"

// rereadFiles are the files that a server reads again when they change.
func rereadFiles(path string, c *config.Config) (files []string) {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	files = append(files, path)
	files = append(files, keyFiles(c)...)
	for _, p := range []string{c.Auth.Certificate.CA, c.Auth.Certificate.CRL, c.Auth.Certificate.Map, c.Auth.OAuth2.ClientSecretFile} {
		if p != "" {
			files = append(files, p)
		}
	}
	if c.Auth.MasterFile != "" {
		files = append(files, c.Auth.MasterFile)
	}
	for _, s := range c.Auth.Source { // what a directory asks for is read when it is asked
		for _, file := range []string{s.BindPassword, s.CA} {
			if file != "" {
				files = append(files, file)
			}
		}
	}
	return append(files, c.Auth.PasswdFiles()...)
}

// owner gives as numbers whom a server becomes, mail.user mostly, with all groups; uid -1
// when none is named.
func owner(c *config.Config) (uid, gid int, groups []int, err error) {
	return withGroups(c.Owner())
}

// owner is whom this process becomes.
func (sv *service) owner() (uid, gid int, groups []int, err error) {
	switch sv.role {
	case workers.RoleDesk:
		return withGroups(sv.config.AuthOwner())
	case workers.RoleIssuer:
		return withGroups(sv.config.ACMEOwner())
	}
	return owner(sv.config)
}

// becomes is how the configuration calls that user.
func (sv *service) becomes() string {
	switch {
	case sv.role == workers.RoleDesk:
		return sv.config.Isolation.AuthUser
	case sv.role == workers.RoleFront:
		return sv.config.Isolation.FrontUser
	case sv.role == workers.RoleIssuer:
		return sv.config.Isolation.ACMEUser
	}
	return sv.config.Mail.User
}

// files are those that this process reads again.
func (sv *service) files() []string {
	switch sv.role {
	case workers.RoleIssuer:
		return nil
	case workers.RoleFront:
		return append(rereadFiles(sv.path, sv.config)[:1], keyFiles(sv.config)...)
	case workers.RoleDesk:
		return slices.DeleteFunc(rereadFiles(sv.path, sv.config), func(f string) bool { return slices.Contains(keyFiles(sv.config), f) })
	}
	return rereadFiles(sv.path, sv.config)
}

func keyFiles(c *config.Config) (files []string) {
	for _, p := range keyPairs(c) {
		files = append(files, p.Cert, p.Key)
	}
	return files
}

func withGroups(uid, gid int, err error) (int, int, []int, error) {
	if err != nil || uid < 0 {
		return uid, gid, nil, err
	}
	return uid, gid, groupsOf(uid, gid), nil
}

// groupsOf gives all groups of a user, gid first.
func groupsOf(uid, gid int) []int {
	groups := []int{gid}
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		ids, _ := u.GroupIds()
		for _, id := range ids {
			if n, err := strconv.Atoi(id); err == nil && n != gid {
				groups = append(groups, n)
			}
		}
	}
	return groups
}

// parts are the processes of a server that read files again, each with its user.
func parts(path string, c *config.Config) []*service {
	if !c.Isolation.Workers() {
		return []*service{{path: path, config: c}}
	}
	return []*service{{path: path, config: c, role: workers.RoleFront}, {path: path, config: c, role: workers.RoleDesk}}
}

// lostRights names what a server started as root can read only until it becomes
// mail.user. Who is not root cannot find out, and gets nothing.
func lostRights(path string, c *config.Config) (notes []string) {
	for _, sv := range parts(path, c) {
		uid, gid, groups, err := sv.owner()
		if os.Geteuid() != 0 || err != nil || uid <= 0 {
			continue
		}
		id := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		for _, g := range groups {
			id.Groups = append(id.Groups, uint32(g))
		}
		denied := func(access, path string) bool {
			// Only a process can be another user, and ACLs are the kernel's to judge.
			cmd := exec.Command("test", access, path) // #nosec G204 -- test(1), with a file of the configuration
			cmd.Dir = "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: id}
			var no *exec.ExitError
			return errors.As(cmd.Run(), &no)
		}
		for _, file := range sv.files() {
			if denied("-r", file) {
				notes = append(notes, fmt.Sprintf("%s cannot be read by %s, which Roost becomes: %s", file, sv.becomes(), rightsHint))
			}
		}
		dir := filepath.Dir(c.Log.AuditFile())
		if c.Log.AuditFile() != "" && dir != c.State() && sv.role != workers.RoleFront && denied("-w", dir) {
			notes = append(notes, fmt.Sprintf("%s, for log.audit, cannot be written by %s, which Roost becomes: install -d -o %[2]s -m 0700 %s", dir, sv.becomes(), shellWord(dir)))
		}
	}
	return notes
}

// dropRights makes root the user that mail.user names.
func (sv *service) dropRights() error {
	uid, gid, groups, err := sv.owner()
	if err != nil {
		return exitWith(exitUsage, err)
	}
	if os.Geteuid() != 0 {
		if uid >= 0 && uid != os.Geteuid() {
			return exitWith(exitUsage, fmt.Errorf("mail.user is %s, but roost runs as another user that cannot become it: start it as root, or as that user", sv.becomes()))
		}
		return nil
	}
	if uid <= 0 {
		sv.log.Warn("running as root: set mail.user to the owner of the mail", "event", "root")
		return nil
	}
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("become user %s: set groups: %w", sv.becomes(), err)
	}
	if err := syscall.Setgid(gid); err != nil {
		return fmt.Errorf("become user %s: set group: %w", sv.becomes(), err)
	}
	if err := syscall.Setuid(uid); err != nil {
		return fmt.Errorf("become user %s: %w", sv.becomes(), err)
	}
	for _, file := range sv.files() {
		f, err := os.Open(file)
		if err != nil {
			sv.log.Warn("the user that Roost became cannot read this file: "+rightsHint,
				"event", "rights", "path", file, "user", sv.becomes(), "err", err)
			continue
		}
		f.Close()
	}
	return nil
}
