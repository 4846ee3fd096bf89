package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"roost/config"
)

// rightsHint says what to do about a file that mail.user cannot read.
const rightsHint = "a change to it waits for a restart; let the user's group read it (chgrp, chmod g+r, and g+x for the directories above): docs/postfix.md"

// rereadFiles are the files that a server reads again when they change.
func rereadFiles(path string, c *config.Config) (files []string) {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	files = append(files, path)
	for _, p := range keyPairs(c) {
		files = append(files, p.Cert, p.Key)
	}
	for _, p := range []string{c.Auth.Certificate.CA, c.Auth.Certificate.CRL, c.Auth.Certificate.Map} {
		if p != "" {
			files = append(files, p)
		}
	}
	if c.Auth.MasterFile != "" {
		files = append(files, c.Auth.MasterFile)
	}
	return append(files, c.Auth.PasswdFiles()...)
}

// owner gives mail.user as numbers, with all its groups; uid -1 when it is not set.
func owner(m config.Mail) (uid, gid int, groups []int, err error) {
	uid, gid, err = m.Owner()
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

// lostRights names what a server started as root can read only until it becomes
// mail.user. Who is not root cannot find out, and gets nothing.
func lostRights(path string, c *config.Config) (notes []string) {
	uid, gid, groups, err := owner(c.Mail)
	if os.Geteuid() != 0 || err != nil || uid <= 0 {
		return nil
	}
	id := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for _, g := range groups {
		id.Groups = append(id.Groups, uint32(g))
	}
	for _, file := range rereadFiles(path, c) {
		// Only a process can be another user, and ACLs are the kernel's to judge.
		cmd := exec.Command("test", "-r", file)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: id}
		var no *exec.ExitError
		if err := cmd.Run(); errors.As(err, &no) {
			notes = append(notes, fmt.Sprintf("%s cannot be read by %s, which Roost becomes: %s", file, c.Mail.User, rightsHint))
		}
	}
	return notes
}

// dropRights makes root the user that mail.user names.
func (sv *service) dropRights() error {
	uid, gid, groups, err := owner(sv.config.Mail)
	if err != nil {
		return exitWith(exitUsage, err)
	}
	if os.Geteuid() != 0 {
		if uid >= 0 && uid != os.Geteuid() {
			return exitWith(exitUsage, fmt.Errorf("mail.user is %s, but roost runs as another user that cannot become it: start it as root, or as that user", sv.config.Mail.User))
		}
		return nil
	}
	if uid <= 0 {
		sv.log.Warn("running as root: set mail.user to the owner of the mail", "event", "root")
		return nil
	}
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("become user %s: set groups: %w", sv.config.Mail.User, err)
	}
	if err := syscall.Setgid(gid); err != nil {
		return fmt.Errorf("become user %s: set group: %w", sv.config.Mail.User, err)
	}
	if err := syscall.Setuid(uid); err != nil {
		return fmt.Errorf("become user %s: %w", sv.config.Mail.User, err)
	}
	for _, file := range rereadFiles(sv.path, sv.config) {
		f, err := os.Open(file)
		if err != nil {
			sv.log.Warn("the user that Roost became cannot read this file: "+rightsHint,
				"event", "rights", "path", file, "user", sv.config.Mail.User, "err", err)
			continue
		}
		f.Close()
	}
	return nil
}
