// Package system has the accounts of the machine, wherever its name service finds them:
// files, LDAP, SSSD. Users are looked up by getent(1), and their passwords are asked of
// saslauthd(8), which has PAM decide.
//
// Both are other programs with a reason: PAM and the name service are libraries of C that
// load others, which a program without cgo cannot, and PAM needs root where Roost gives it
// up. saslauthd is the helper that distributions ship and keep for just that.
package system

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"roost/auth"
	"roost/sysuser"
)

// Options say how they are asked.
type Options struct {
	Socket   string        // of saslauthd; "" is /run/saslauthd/mux
	Service  string        // for PAM: the name of a file in /etc/pam.d; "" is the protocol
	FirstUID int           // accounts below are the system's own and do not log in; 0 is 1000
	Timeout  time.Duration // for an answer; 0 is 15 s: PAM delays failures
	Getent   sysuser.Getent
}

// Source has the accounts of the machine. Safe for concurrent use.
type Source struct {
	opt    Options
	places chan struct{} // holds one for each getent that runs
}

const (
	maxLookups = 8
	maxLine    = 64 << 10 // bytes of an account
	maxList    = 64 << 20 // bytes of all
)

// Open makes a source; nothing is asked yet.
func Open(opt Options) *Source {
	opt.Socket = cmp.Or(opt.Socket, "/run/saslauthd/mux")
	opt.FirstUID = cmp.Or(opt.FirstUID, 1000)
	opt.Timeout = cmp.Or(opt.Timeout, 15*time.Second)
	return &Source{opt: opt, places: make(chan struct{}, maxLookups)}
}

// Name says what it is.
func (s *Source) Name() string { return "system accounts" }

// Dummy: there is none.
func (s *Source) Dummy() (auth.Hash, bool) { return auth.Hash{}, false }

// Reload has nothing to read.
func (s *Source) Reload() error { return nil }

// Close has nothing to end.
func (s *Source) Close() error { return nil }

// Find looks an account up. One whom the machine does not have is asked for the password
// too, in vain: PAM answers failures late, and who is not there must not be answered sooner.
func (s *Source) Find(ctx context.Context, login string, at auth.Attempt) (*auth.Account, error) {
	lines, err := s.getent(ctx, maxLine, "passwd", "--", login)
	if err != nil {
		return nil, err
	}
	verdict := func(right bool) auth.Verdict { return auth.Unknown }
	acc := &auth.Account{Version: "system"}
	// A number finds the account that has it: that is another name.
	if fields := strings.Split(lines, ":"); len(fields) == 7 && fields[0] == login {
		acc.Version = lines
		acc.Notes = acc.Describe(login, map[string]string{"userdb_uid": fields[2], "userdb_gid": fields[3], "userdb_home": strings.ReplaceAll(fields[5], "%", "%%")}, at)
		if uid, err := strconv.Atoi(fields[2]); err != nil || uid < s.opt.FirstUID {
			acc.Refused = fmt.Sprintf("the account of uid %.10s is the system's own: first_uid is %d", fields[2], s.opt.FirstUID)
		}
		verdict = func(right bool) auth.Verdict {
			if right {
				return auth.Right
			}
			return auth.Wrong
		}
	}
	acc.Check = func(ctx context.Context, password string) (auth.Verdict, *auth.Account, error) {
		right, err := s.ask(ctx, login, password, cmp.Or(s.opt.Service, at.Protocol, "imap"))
		return verdict(right), nil, err
	}
	return acc, nil
}

// Users lists the accounts that may log in.
func (s *Source) Users(ctx context.Context) (names []string, err error) {
	text, err := s.getent(ctx, maxList, "passwd")
	if err != nil {
		return nil, err
	}
	for line := range strings.SplitSeq(text, "\n") {
		fields := strings.Split(line, ":")
		if len(fields) != 7 {
			continue
		}
		if uid, err := strconv.Atoi(fields[2]); err == nil && uid >= s.opt.FirstUID && uid != 65534 && !strings.HasSuffix(fields[6], "/nologin") && !strings.HasSuffix(fields[6], "/false") {
			names = append(names, fields[0])
		}
	}
	return names, nil
}

// getent runs it; what is not found is "".
func (s *Source) getent(ctx context.Context, most int64, args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.opt.Timeout, fmt.Errorf("getent: no answer within %v", s.opt.Timeout))
	defer cancel()
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	text, err := s.opt.Getent.Ask(ctx, most, args...)
	if errors.Is(err, sysuser.ErrUnknown) {
		return "", nil
	}
	return text, err
}

// ask asks saslauthd: four texts, each behind its length in two bytes, and one back that
// begins with OK or NO.
func (s *Source) ask(ctx context.Context, login, password, service string) (bool, error) {
	if strings.Contains(password, "\x00") {
		return false, nil // it would end the password there
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.opt.Timeout, fmt.Errorf("saslauthd: no answer within %v", s.opt.Timeout))
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", s.opt.Socket)
	if err != nil {
		return false, fmt.Errorf("saslauthd: %w", err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var b []byte
	for _, text := range []string{login, password, service, ""} { // the last is the realm
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(text))), text...)
	}
	var answer [2]byte
	if _, err = c.Write(b); err == nil {
		if _, err = io.ReadFull(c, answer[:]); err == nil { // the length
			_, err = io.ReadFull(c, answer[:])
		}
	}
	switch {
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case err != nil:
		return false, fmt.Errorf("saslauthd: it gives no answer: %w", err)
	case string(answer[:]) == "OK":
		return true, nil
	case string(answer[:]) != "NO":
		return false, fmt.Errorf("saslauthd: it answers %q", answer[:])
	}
	return false, nil
}
