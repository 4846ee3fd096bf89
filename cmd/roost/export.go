package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"roost/maildir"
	"roost/server/wire"
	"roost/store"

	"github.com/emersion/go-imap/v2"
)

var exportDovecotVerb = verb{
	name:  "export dovecot",
	about: "Write the commands that give Dovecot what its own files cannot hold.",
	args:  "[USER...]",
	more: "For the way back, with Roost stopped. The mail, its UIDs, flags, folders and subscriptions are in\n" +
		"Dovecot's own formats already. What is missing are the MODSEQs, without which clients that use\n" +
		"CONDSTORE or QRESYNC would miss changes, and keywords beyond the 26 of dovecot-keywords. The shell\n" +
		"script that is printed sets both by doveadm: run it as root once Dovecot is up, before clients\n" +
		"come back. Without USER it is for everybody in the password file. Nothing is changed here.",
	example: "roost export dovecot > to-dovecot.sh",
	setup: func(fs *flag.FlagSet) runner {
		path := configFlag(fs)
		return func(ctx context.Context, env *environment, users []string) error {
			o, err := openOffline(*path, users, offlineLog(env), nil)
			if err != nil {
				return err
			}
			out := bufio.NewWriter(env.stdout)
			err = o.export(ctx, out, env.stderr)
			return errors.Join(err, out.Flush(), o.close())
		}
	},
}

// offlineLog is where the storage tells of what it meets.
func offlineLog(env *environment) *slog.Logger {
	return slog.New(slog.NewTextHandler(env.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// exportHead begins the script. Mailboxes go by their GUIDs, which both servers keep in
// dovecot-uidlist: their names depend on Dovecot's namespaces.
const exportHead = `#!/bin/sh
# Made by "roost export dovecot". Run as root with Dovecot up, before clients come back.
set -eu
failed=0
user() {
	u=$1
	# Where a namespace has a prefix "*" alone finds nothing behind it.
	boxes=$(doveadm -f tab mailbox status -u "$u" guid INBOX '*' '*.*' '*/*')
}
mailbox() { # GUID HIGHESTMODSEQ
	box=$(printf '%s\n' "$boxes" | awk -F '\t' -v guid="$1" '$2 == guid { print $1; exit }')
	if [ -z "$box" ]; then
		echo "$u: Dovecot has no mailbox with the GUID $1" >&2
		failed=1
		return
	fi
	doveadm mailbox update -u "$u" --min-highest-modseq "$2" "$box"
}
keyword() { # KEYWORD UIDS
	[ -z "$box" ] || doveadm flags add -u "$u" "$1" mailbox "$box" uid "$2"
}

`

// export writes the script. A user whose mail cannot be opened is told on stderr, and
// the others go on.
func (o *offline) export(ctx context.Context, out, stderr io.Writer) error {
	io.WriteString(out, exportHead)
	left := 0
	for _, name := range o.names {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := o.account(ctx, name, func(a store.Account) error {
			fmt.Fprintf(out, "user %s\n", shellWord(name))
			return mailboxes(ctx, a, false, func(box store.Mailbox) error { return exportMailbox(ctx, out, box) })
		})
		if err != nil {
			fmt.Fprintf(stderr, "roost: %v\n", err)
		}
		if err != nil && !errors.Is(err, errNoMail) {
			left++
		}
	}
	io.WriteString(out, "exit $failed\n")
	if left > 0 {
		return exitWith(exitPartly, fmt.Errorf("%d of %d users are not in the script", left, len(o.names)))
	}
	return nil
}

// exportMailbox writes the lines of one mailbox.
func exportMailbox(ctx context.Context, out io.Writer, box store.Mailbox) error {
	info, view := box.Info(), box.View()
	guid, ok := strings.CutPrefix(info.ID, "F")
	if info.NoModSeq || !ok {
		return errors.New("its MODSEQs are not at hand: stop the server that has it open, and run this as the owner of the mail, or as root")
	}
	fmt.Fprintf(out, "mailbox %s %d # %s\n", guid, view.ModSeq, strings.Map(printable, string(info.Name)))
	beyond := maildir.Letterless(box)
	if len(beyond) == 0 {
		return nil
	}
	having := map[string][]imap.UID{}
	for rows, err := range box.Rows(ctx, view.UIDs.Slice(0, view.UIDs.Len()), 0) {
		if err != nil {
			return err
		}
		for _, row := range rows {
			for _, k := range row.Keywords.Names() {
				if slices.Contains(beyond, k) {
					having[k] = append(having[k], row.UID)
				}
			}
		}
	}
	for _, k := range beyond {
		for uids := range slices.Chunk(having[k], 5000) { // a command line has its limit
			fmt.Fprintf(out, "keyword %s %s\n", shellWord(k), wire.AppendSet(nil, uids))
		}
	}
	return nil
}

// printable drops what would end a comment.
func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return '?'
	}
	return r
}
