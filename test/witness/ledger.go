package witness

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Key names one message of a mailbox for ever.
type Key struct {
	Mailbox  string
	Validity uint32
	UID      uint32
}

// A Ledger is what all sessions of one test saw, and what those who changed the
// mailboxes know to be so. Safe for concurrent use.
type Ledger struct {
	// MayGo, when not nil, says of which messages an EXPUNGE is no surprise. It is set
	// before the first session.
	MayGo func(message string) bool

	began time.Time

	mu       sync.Mutex // guards what follows
	names    map[Key]string
	validity map[string]uint32
	given    map[Key]bool
	doomed   map[Key]bool
	log      []entry
	wrong    []fault
}

// entry is one line of the history, of one message or of all.
type entry struct {
	at   time.Duration
	key  Key
	who  string
	what string
}

type fault struct {
	key  Key
	text string
}

// NewLedger makes an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{began: time.Now(), names: map[Key]string{}, validity: map[string]uint32{}, given: map[Key]bool{}, doomed: map[Key]bool{}}
}

func (l *Ledger) noteLocked(who string, k Key, what string) {
	l.log = append(l.log, entry{time.Since(l.began), k, who, what})
}

func (l *Ledger) blameLocked(k Key, format string, args ...any) {
	const enough = 20 // one fault repeats itself
	if len(l.wrong) < enough {
		l.wrong = append(l.wrong, fault{k, fmt.Sprintf(format, args...)})
	}
}

// Opened notes the UIDVALIDITY that a mailbox was selected with.
func (l *Ledger) Opened(who, mailbox string, validity uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, ok := l.validity[mailbox]; ok && old != validity {
		l.blameLocked(Key{}, "%s: UIDVALIDITY of %s was %d and is %d", who, mailbox, old, validity)
	}
	l.validity[mailbox] = validity
}

// Forget lets a mailbox have another UIDVALIDITY from now on.
func (l *Ledger) Forget(mailbox string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.validity, mailbox)
}

// Saw notes that a UID was shown as the name of a message.
func (l *Ledger) Saw(who string, k Key, message string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, ok := l.names[k]; ok && old != message {
		l.blameLocked(k, "%s: UID %d (UIDVALIDITY %d) was %q and is %q", who, k.UID, k.Validity, old, message)
		return
	}
	l.names[k] = message
	const some = 60
	l.noteLocked(who, k, fmt.Sprintf("saw %q", message[:min(len(message), some)]))
}

// Given notes that whoever added a message knows it by this UID.
func (l *Ledger) Given(who string, k Key, message string) {
	l.Saw(who, k, message)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.given[k] = true
	l.noteLocked(who, k, "was given it")
}

// Doom notes that a message is about to be expunged or moved by somebody.
func (l *Ledger) Doom(who string, k Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doomed[k] = true
	l.noteLocked(who, k, "removes it")
}

// Note adds a line to the history of a message.
func (l *Ledger) Note(who string, k Key, what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteLocked(who, k, what)
}

// Expunged notes that a session was told that a message is gone.
func (l *Ledger) Expunged(who string, k Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteLocked(who, k, "EXPUNGE")
	if !l.doomed[k] && (l.MayGo == nil || !l.MayGo(l.names[k])) {
		l.blameLocked(k, "%s: EXPUNGE of UID %d (UIDVALIDITY %d, %q), which nobody removed", who, k.UID, k.Validity, l.names[k])
	}
}

// Strays finds the UIDs that were shown and that nobody was given who added a message:
// one message got a second UID. To be called when all is quiet.
func (l *Ledger) Strays() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, message := range l.names {
		if !l.given[k] {
			l.blameLocked(k, "UID %d (UIDVALIDITY %d, %q) was shown, but nobody added it", k.UID, k.Validity, message)
		}
	}
}

// Wrong notes a fault of one message.
func (l *Ledger) Wrong(k Key, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blameLocked(k, format, args...)
}

// Blame notes a fault of any other kind.
func (l *Ledger) Blame(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blameLocked(Key{}, format, args...)
}

// Faults is what was found wrong so far, each with the history of its message.
func (l *Ledger) Faults() (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.wrong {
		var b strings.Builder
		b.WriteString(f.text)
		keys := map[Key]bool{f.key: true}
		for k, name := range l.names { // under other UIDs too
			if name != "" && name == l.names[f.key] {
				keys[k] = true
			}
		}
		if f.key != (Key{}) {
			for _, e := range l.log {
				if keys[e.key] {
					fmt.Fprintf(&b, "\n    %9.6f %v %s: %s", e.at.Seconds(), e.key, e.who, e.what)
				}
			}
		}
		out = append(out, b.String())
	}
	return out
}

// Messages are the UIDs that were seen, with what they name.
func (l *Ledger) Messages() map[Key]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.names)
}

// Counts is how many messages were seen, and how many times one was told to be gone.
func (l *Ledger) Counts() (seen, gone int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.names), len(slices.DeleteFunc(slices.Clone(l.log), func(e entry) bool { return e.what != "EXPUNGE" }))
}

// Name is the message that a UID was seen to name.
func (l *Ledger) Name(k Key) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.names[k]
}
