package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"roost/store"

	"github.com/emersion/go-imap/v2"
)

var importDovecotVerb = verb{
	name:  "import dovecot",
	about: "Take over the keywords that only Dovecot's index knows.",
	args:  "[USER...]",
	more: "For the way in, while Dovecot still runs. A Maildir has letters for 26 keywords of a mailbox; Dovecot\n" +
		"keeps further ones in dovecot.index alone, which Roost does not read. This asks doveadm for the\n" +
		"keywords of all messages and adds those that the files do not show: to roost-keywords, beside\n" +
		"dovecot-uidlist. Without USER it is for everybody in the password file. What doveadm knows and\n" +
		"the tree does not have is told; it exits with 3 then.",
	example: "roost import dovecot --dry-run",
	setup: func(fs *flag.FlagSet) runner {
		path := configFlag(fs)
		doveadm := fs.String("doveadm", "doveadm", "the `command`, with arguments that it always needs")
		dry := fs.Bool("dry-run", false, "only say what would be taken over")
		return func(ctx context.Context, env *environment, users []string) error {
			known := map[string]dovecotKeywords{}
			ask := func(users []string) (err error) { // as root, which doveadm needs
				for _, u := range users {
					if known[u], err = askDoveadm(ctx, strings.Fields(*doveadm), u); err != nil {
						return err
					}
				}
				return nil
			}
			o, err := openOffline(*path, users, offlineLog(env), ask)
			if err != nil {
				return err
			}
			left := 0
			for _, name := range o.names {
				t := takeover{known: known[name], dry: *dry, missing: map[string]int{}}
				err := o.account(ctx, name, func(a store.Account) error {
					return mailboxes(ctx, a, !*dry, func(box store.Mailbox) error { return t.mailbox(ctx, box) })
				})
				if err != nil {
					fmt.Fprintf(env.stderr, "roost: %v\n", err)
				}
				if errors.Is(err, errNoMail) && len(t.known) == 0 {
					continue
				}
				fmt.Fprintf(env.stdout, "%s: %s\n", name, t.summary())
				if err != nil || t.lost(env.stderr, name) {
					left++
				}
			}
			if err := o.close(); err != nil {
				return err
			}
			if left > 0 {
				return exitWith(exitPartly, fmt.Errorf("%d of %d users were not taken over in full", left, len(o.names)))
			}
			return nil
		}
	},
}

// dovecotKeywords are the keywords that Dovecot knows, by mailbox GUID and UID.
type dovecotKeywords map[string]map[imap.UID][]string

// askDoveadm reads the keywords of a user's messages. Messages without any are left out.
func askDoveadm(ctx context.Context, command []string, user string) (dovecotKeywords, error) {
	if len(command) == 0 {
		return nil, usagef("--doveadm is empty")
	}
	args := append(slices.Clone(command[1:]), "-f", "tab", "fetch", "-u", user, "mailbox-guid uid flags", "ALL")
	cmd := exec.CommandContext(ctx, command[0], args...) // #nosec G204 G702 -- --doveadm names it
	var trouble strings.Builder
	cmd.Stderr = &trouble
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("ask Dovecot for the keywords of %s: %w", user, err)
	}
	known, err := parseDoveadm(out)
	io.Copy(io.Discard, out) // or it waits for a reader
	if werr := cmd.Wait(); werr != nil {
		err = fmt.Errorf("ask Dovecot for the keywords of %s: %s: %w", user, strings.TrimSpace(trouble.String()), werr)
	}
	return known, err
}

// parseDoveadm reads what "doveadm -f tab fetch" prints: a line of names, then a line a
// message, fields separated by TAB.
func parseDoveadm(r io.Reader) (dovecotKeywords, error) {
	known := dovecotKeywords{}
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for n := 1; in.Scan(); n++ {
		fields := strings.Split(in.Text(), "\t")
		if n == 1 {
			if !slices.Equal(fields, []string{"mailbox-guid", "uid", "flags"}) {
				return nil, fmt.Errorf("doveadm fetch printed %q where names of fields should be", in.Text())
			}
			continue
		}
		uid, err := uint64(0), error(nil)
		if len(fields) == 3 {
			uid, err = strconv.ParseUint(fields[1], 10, 32)
		}
		if len(fields) != 3 || err != nil {
			return nil, fmt.Errorf("doveadm fetch, line %d: %q is not GUID, UID and flags", n, in.Text())
		}
		keywords := slices.DeleteFunc(strings.Fields(fields[2]), func(f string) bool { return strings.HasPrefix(f, `\`) })
		if len(keywords) == 0 {
			continue
		}
		box := known[fields[0]]
		if box == nil {
			box = map[imap.UID][]string{}
			known[fields[0]] = box
		}
		box[imap.UID(uid)] = keywords
	}
	return known, in.Err()
}

// takeover compares one user's mailboxes with what Dovecot knows.
type takeover struct {
	known     dovecotKeywords
	dry       bool
	messages  int
	mailboxes int
	keywords  map[string]bool
	missing   map[string]int // messages by the GUID of their mailbox
}

// mailbox adds what the files of one mailbox do not show.
func (t *takeover) mailbox(ctx context.Context, box store.Mailbox) error {
	guid := strings.TrimPrefix(box.Info().ID, "F")
	want := t.known[guid]
	if want == nil {
		return nil
	}
	delete(t.known, guid) // it was found
	uids := slices.Sorted(maps.Keys(want))
	add := map[string][]imap.UID{}
	found := 0
	for rows, err := range box.Rows(ctx, uids, 0) {
		if err != nil {
			return err
		}
		for _, row := range rows {
			found++
			fresh := false
			for _, k := range want[row.UID] {
				if !row.Keywords.Has(k) {
					add[k] = append(add[k], row.UID)
					fresh = true
				}
			}
			if fresh {
				t.messages++
			}
		}
	}
	if gone := len(want) - found; gone > 0 {
		t.missing[guid] = gone
	}
	if len(add) > 0 {
		t.mailboxes++
	}
	for _, k := range slices.Sorted(maps.Keys(add)) {
		if t.keywords == nil {
			t.keywords = map[string]bool{}
		}
		t.keywords[k] = true
		if t.dry {
			continue
		}
		op := store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.Flag(k)}}
		if _, _, err := box.SetFlags(ctx, add[k], op); err != nil {
			return fmt.Errorf("keyword %s: %w", k, err)
		}
	}
	return nil
}

// summary says what was done, or would be.
func (t *takeover) summary() string {
	if t.messages == 0 {
		return "nothing to take over"
	}
	done := "taken over"
	if t.dry {
		done = "to be taken over"
	}
	return fmt.Sprintf("%d keywords of %d messages in %d mailboxes %s: %s",
		len(t.keywords), t.messages, t.mailboxes, done, strings.Join(slices.Sorted(maps.Keys(t.keywords)), " "))
}

// lost tells of what doveadm knows and the tree does not have.
func (t *takeover) lost(stderr io.Writer, user string) bool {
	for guid, messages := range t.known {
		fmt.Fprintf(stderr, "roost: %s: no mailbox here has the GUID %s, and Dovecot knows %d messages with keywords in it: is mail.location the tree that Dovecot serves?\n", user, guid, len(messages))
	}
	for guid, n := range t.missing {
		fmt.Fprintf(stderr, "roost: %s: %d messages with keywords in the mailbox with the GUID %s are not here\n", user, n, guid)
	}
	return len(t.known)+len(t.missing) > 0
}
