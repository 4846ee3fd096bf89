package main

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"roost/auth"
	"roost/config"
	"roost/events"
	"roost/server/control"
	"roost/server/session"
	"roost/server/trace"
	"roost/server/workers"
	"roost/store"
)

// A burst of deletions: so many messages of one user in such a time.
const (
	eventDeletions = "deletions"
	manyDeleted    = 500
	deletedWithin  = 10 * time.Minute
)

// openEvents listens to what is unusual, and opens the audit log.
func (sv *service) openEvents() {
	sv.events = events.New(events.Options{Log: sv.log, Mail: sv.mailEvent})
	sv.events.Configure(eventRules(sv.config))
	sv.auth.OnUnusual(func(u auth.Unusual) {
		e := events.Event{Name: u.Event, User: u.User, Detail: u.Detail}
		if u.Addr.IsValid() {
			e.Addr = u.Addr.String()
		}
		sv.events.Note(e)
	})
	sv.openAudit()
}

// openAudit opens the audit log.
func (sv *service) openAudit() {
	sv.burst = events.Burst{Many: manyDeleted, Within: deletedWithin}
	switch sv.config.Log.Audit {
	case "off":
	case "log":
		sv.audit.log = sv.log
	default:
		sv.audit.path = sv.config.Log.Audit
		if err := sv.audit.reopen(); err != nil {
			sv.log.Error("there is no audit log: its directory must be there, and writable for the user that writes it", "event", "audit_failed", "user", sv.becomes(), "err", err)
		}
	}
}

func eventRules(c *config.Config) (list []events.Rule) {
	for _, e := range c.Event {
		list = append(list, events.Rule{Name: e.Name, Run: e.Run, Mail: e.Mail})
	}
	return list
}

// history gives the history of events where one is kept.
func (sv *service) history() func(string, int) ([]events.Event, error) {
	if sv.state == nil {
		return nil
	}
	return sv.events.Of
}

// deed takes down what a session did to mail; session.Options.Audit.
func (sv *service) deed(in *session.Login, client string, d session.Deed) {
	who := workers.Session{ID: in.ID, User: in.Who.User, Login: in.Who.Login, Addr: in.Addr}
	if d.What == "expunge" && sv.burst.Add(time.Now(), in.Who.User, len(d.UIDs)) {
		sv.burstOf(who, client, string(d.Mailbox))
	}
	if sv.audit.on() {
		sv.write(who, client, d.Brief())
	}
}

// told is deed for what another process told.
func (sv *service) told(who workers.Session, client string, d session.Brief) {
	if d.What == "expunge" && sv.burst.Add(time.Now(), who.User, d.Messages) {
		sv.burstOf(who, client, d.Mailbox)
	}
	sv.write(who, client, d)
}

func (sv *service) write(who workers.Session, client string, d session.Brief) {
	if err := sv.audit.write(who, client, d); err != nil {
		sv.log.Error("the audit log cannot be written", "event", "audit_failed", "err", err)
	}
}

func (sv *service) burstOf(who workers.Session, client, mailbox string) {
	sv.events.Note(events.Event{
		Name: eventDeletions, User: who.User, Addr: who.Addr.String(), Client: client,
		Detail: fmt.Sprintf("%d messages or more were deleted within %v, the last in %s", manyDeleted, deletedWithin, mailbox),
	})
}

// mailing is what a note needs of the configuration in force.
type mailing struct {
	hostname string
	deliver  func(ctx context.Context, u auth.User, text []byte) error
}

// mailEvent puts a note into a user's INBOX.
func (sv *service) mailEvent(ctx context.Context, e events.Event) error {
	m := sv.mailing.Load()
	u, ok := sv.auth.Lookup(e.User, auth.Attempt{})
	if !ok || m == nil {
		return nil // of somebody who does not exist
	}
	return m.deliver(ctx, u, eventMail(m.hostname, u.Name, e))
}

// deliver puts a text into an INBOX.
func deliver(ctx context.Context, st store.Store, who store.Identity, text []byte) error {
	acct, err := st.Account(ctx, who)
	if err != nil {
		return err
	}
	defer acct.Close()
	batch, err := acct.Batch(ctx, store.Inbox)
	if err != nil {
		return err
	}
	defer batch.Close()
	if err := batch.Admit(int64(len(text))); err != nil {
		return err
	}
	if err := batch.Add(ctx, store.Meta{}, bytes.NewReader(text)); err != nil {
		return err
	}
	_, err = batch.Commit(ctx)
	return err
}

var eventSubjects = map[string]string{
	auth.EventNewNetwork:      "A login from a place that is new",
	auth.EventRevokedPassword: "A device uses a password that was revoked",
	auth.EventLocked:          "Logins are refused after wrong passwords",
	auth.EventManyUsers:       "Somebody tries many users",
	eventDeletions:            "Many messages were deleted",
}

// eventMail is the note. What others chose stands in its body only, on one line each.
func eventMail(hostname, user string, e events.Event) []byte {
	to := user
	if !strings.Contains(to, "@") {
		to += "@" + hostname
	}
	var b bytes.Buffer
	for _, line := range []string{
		"From: Roost <postmaster@" + hostname + ">",
		"To: <" + to + ">",
		"Subject: " + eventSubjects[e.Name],
		"Date: " + e.Time.Format(time.RFC1123Z),
		fmt.Sprintf("Message-ID: <%d.%s.roost@%s>", time.Now().UnixNano(), e.Name, hostname),
		"Auto-Submitted: auto-generated", // RFC 3834 section 5
		"MIME-Version: 1.0",
		"Content-Type: text/plain; charset=utf-8",
		"Content-Transfer-Encoding: 8bit",
		"",
		"The mail server " + hostname + " has seen something unusual:",
		"",
		"    what:    " + e.Detail,
		"    when:    " + e.Time.Format("2006-01-02 15:04:05 UTC"),
		"    address: " + e.Addr,
		"    client:  " + e.Client,
		"",
		"If that was you, there is nothing to do. If not, change your password and tell the",
		"administrator of the server.",
	} {
		b.WriteString(strings.TrimRight(line, " ") + "\r\n")
	}
	return b.Bytes()
}

var authEventsVerb = verb{
	name:  "auth events",
	about: "Show what was unusual about a user: logins from new places, locks, bursts of deletions.",
	args:  "[USER]",
	more: "The newest 500, the oldest first; without USER everybody's. docs/events.md lists the events. Exits\n" +
		"with 4 when no server answers.",
	example: "roost auth events ann@example.org",
	setup: func(fs *flag.FlagSet) runner {
		server := controlFlags(fs)
		asJSON := fs.Bool("json", false, "print a JSON array")
		return func(ctx context.Context, env *environment, args []string) error {
			if len(args) > 1 {
				return usagef("one USER, or none for everybody")
			}
			list := []*control.Event{}
			q := control.Request{Do: "events", User: strings.Join(args, "")}
			if _, err := server.ask(ctx, q, func(r control.Reply) error {
				if r.Event != nil {
					list = append(list, r.Event)
				}
				return nil
			}); err != nil {
				return err
			}
			if *asJSON {
				return printJSON(env.stdout, list)
			}
			t := tabwriter.NewWriter(env.stdout, 0, 8, 2, ' ', 0)
			fmt.Fprintln(t, "TIME\tEVENT\tUSER\tADDRESS\tCLIENT\tWHAT")
			or := func(s string) string { return trace.Printable(cmp.Or(s, "-")) }
			for _, e := range list {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", e.Time.Local().Format(time.DateTime), e.Name, or(e.User), or(e.Addr), or(e.Client), or(e.Detail))
			}
			return t.Flush()
		}
	},
}
