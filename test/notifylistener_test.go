package test

import (
	"bufio"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A listener is a client that learns of folders and counts by NOTIFY (RFC 5465) alone:
// it lists and counts once, and never asks again. What it changes itself it works out,
// for it is not told. It takes part in one of several dialects.
type listener struct {
	*hearer
	dialect dialect
	folders map[string]*folderKnown
	sel     string
	opening string // by a SELECT under way
	// Of the selected mailbox. A UID of 0 is not known yet; with UIDONLY there are no numbers.
	uids     []uint32
	exists   int
	flags    map[uint32]string
	next     uint32
	idling   string // tag of IDLE
	bye      bool   // the selected mailbox was deleted
	replaced bool   // there is another mailbox of the selected one's name now
	oldName  string // the last OLDNAME
}

type dialect struct {
	name                                   string
	enable                                 string
	qresync, uidOnly, compressed, deferred bool
}

// folderKnown is what is known of a folder.
type folderKnown struct {
	subscribed, exists               bool
	messages, unseen, next, validity uint32
	modSeq                           uint64
}

func (f *folderKnown) String() string {
	return fmt.Sprintf("subscribed=%v exists=%v MESSAGES %d UNSEEN %d UIDNEXT %d UIDVALIDITY %d HIGHESTMODSEQ %d", f.subscribed, f.exists, f.messages, f.unseen, f.next, f.validity, f.modSeq)
}

// hearer is a connection of which lines are read as they come.
type hearer struct {
	conn  net.Conn
	w     io.Writer
	pack  *flate.Writer
	lines chan string
	done  chan struct{}
	tags  int
	log   func(string, ...any)
}

var errGone = errors.New("the server ended the session")

func hear(v *village, log func(string, ...any)) *hearer {
	conn, err := v.talk.Dial("")
	if err != nil {
		v.t.Fatal(err)
	}
	h := &hearer{conn: conn, w: conn, log: log}
	h.from(conn)
	return h
}

// from reads lines, until the connection ends; a line that says that more is compressed is
// the last.
func (h *hearer) from(r io.Reader) {
	lines, done := make(chan string, 1024), make(chan struct{})
	h.lines, h.done = lines, done
	b := bufio.NewReader(r)
	go func() { // ends with the connection, or before the stream changes
		defer close(done)
		defer close(lines)
		for {
			line, err := b.ReadString('\n')
			if err != nil {
				return
			}
			line = strings.TrimSuffix(line, "\r\n")
			lines <- line
			if strings.HasSuffix(line, "DEFLATE active") {
				return
			}
		}
	}()
}

func (h *hearer) close() {
	h.conn.Close()
	for range h.lines {
	}
	<-h.done
}

func (h *hearer) send(line string) {
	io.WriteString(h.w, line+"\r\n") // an error shows in the lines
	if h.pack != nil {
		h.pack.Flush()
	}
}

// line is the next one. The server owes it: nothing says how long it may take, but for ever
// is too long.
func (h *hearer) line() (string, error) {
	select {
	case line, ok := <-h.lines:
		if !ok {
			return "", errGone
		}
		h.log("  < %s", line)
		return line, nil
	case <-time.After(5 * time.Minute):
		return "", errors.New("nothing came")
	}
}

// do runs a command and gives its answer; each is given what comes before.
func (h *hearer) do(command string, each func(string) error) (answer string, err error) {
	h.tags++
	tag := fmt.Sprintf("t%d", h.tags)
	h.log("  > %s %s", tag, command)
	h.send(tag + " " + command)
	for {
		line, err := h.line()
		if err != nil {
			return "", err
		}
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			return rest, nil
		}
		if strings.HasPrefix(line, "+ ") {
			return line, nil
		}
		if each != nil {
			if err := each(line); err != nil {
				return "", err
			}
		}
	}
}

var (
	listLine   = regexp.MustCompile(`^\* LIST \(([^)]*)\) "/" "?([^" ]+)"?(?: \("OLDNAME" \("?([^")]+)"?\)\))?$`)
	statusLine = regexp.MustCompile(`^\* STATUS "?([^" ]+)"? \(([^)]*)\)$`)
	fetchLine  = regexp.MustCompile(`^\* (\d+) (?:UID)?FETCH \((.*)\)$`)
	codeLine   = regexp.MustCompile(`\[(APPENDUID|COPYUID) (\d+) ([0-9:,]+)(?: ([0-9:,]+))?\]`)
)

// learn understands a line.
func (l *listener) learn(line string) error {
	if m := listLine.FindStringSubmatch(line); m != nil {
		return l.listed(strings.Fields(m[1]), m[2], m[3])
	}
	if m := statusLine.FindStringSubmatch(line); m != nil {
		f := l.folder(m[1])
		was := f.validity
		f.counts(m[2])
		if m[1] == l.sel {
			if f.validity == was && !l.replaced {
				return fmt.Errorf("STATUS of the selected mailbox: %s", line)
			}
			l.replaced = true
		}
		return nil
	}
	if m := fetchLine.FindStringSubmatch(line); m != nil {
		n, _ := strconv.Atoi(m[1])
		return l.fetched(n, m[2], line)
	}
	f := strings.Fields(line)
	switch {
	case len(f) >= 3 && f[2] == "EXISTS":
		n, _ := strconv.Atoi(f[1])
		if n < l.exists {
			return fmt.Errorf("%s after %d", line, l.exists)
		}
		for l.exists < n {
			l.exists++
			l.uids = append(l.uids, 0)
		}
	case len(f) >= 3 && f[2] == "EXPUNGE":
		n, _ := strconv.Atoi(f[1])
		if l.dialect.qresync || l.dialect.uidOnly || n < 1 || n > l.exists {
			return fmt.Errorf("%s of %d", line, l.exists)
		}
		delete(l.flags, l.uids[n-1])
		l.uids = slices.Delete(l.uids, n-1, n)
		l.exists--
	case strings.HasPrefix(line, "* VANISHED "):
		if !l.dialect.qresync && !l.dialect.uidOnly {
			return fmt.Errorf("unexpected %s", line)
		}
		for _, uid := range numbers(f[2]) {
			l.exists--
			at := slices.Index(l.uids, uid)
			if at < 0 {
				at = slices.Index(l.uids, 0)
			}
			if at < 0 {
				return fmt.Errorf("%s: %d was not there", line, uid)
			}
			l.uids = slices.Delete(l.uids, at, at+1)
			delete(l.flags, uid)
		}
	case strings.Contains(line, "NOTIFICATIONOVERFLOW"):
		return errors.New(line)
	case strings.HasPrefix(line, "* OK [UIDNEXT "):
		fmt.Sscanf(line, "* OK [UIDNEXT %d]", &l.next)
	case strings.HasPrefix(line, "* OK [UIDVALIDITY ") && l.sel != "":
		fmt.Sscanf(line, "* OK [UIDVALIDITY %d]", &l.folder(l.sel).validity)
	case strings.HasPrefix(line, "* BYE Selected mailbox was deleted"):
		l.bye = true
	case strings.HasPrefix(line, "* OK"), len(f) >= 3 && f[2] == "RECENT":
	case strings.HasPrefix(line, "* FLAGS"):
		if l.opening != "" { // all before this is told of the one that was selected
			l.leave()
			l.sel, l.opening = l.opening, ""
		}
	case strings.HasPrefix(line, "* ENABLED"), strings.HasPrefix(line, "* SEARCH"), strings.HasPrefix(line, "* NO"):
	default:
		return fmt.Errorf("what is %q?", line)
	}
	return nil
}

func (l *listener) folder(name string) *folderKnown {
	f := l.folders[name]
	if f == nil {
		f = &folderKnown{}
		l.folders[name] = f
	}
	return f
}

func (l *listener) listed(attrs []string, name, from string) error {
	if from != "" {
		l.oldName = from
		l.renamed(from, name) // with those below: RFC 5465 section 5.4
	}
	f := l.folder(name)
	f.subscribed = slices.Contains(attrs, `\Subscribed`)
	f.exists = !slices.Contains(attrs, `\Noselect`)
	if !f.exists {
		*f = folderKnown{subscribed: f.subscribed}
	}
	return nil
}

// renamed gives from and what is below it the names at to.
func (l *listener) renamed(from, to string) {
	for _, name := range slices.Sorted(maps.Keys(l.folders)) {
		if name != from && !strings.HasPrefix(name, from+"/") {
			continue
		}
		f := l.folders[name]
		target := to + strings.TrimPrefix(name, from)
		if l.sel == name {
			l.sel = target
		}
		if !f.exists {
			continue
		}
		moved, there := *f, l.folder(target)
		if there.validity == f.validity && there.messages|there.next != 0 { // told under its new name already
			moved = *there
			moved.exists = true
		}
		moved.subscribed = there.subscribed
		l.folders[target] = &moved
		*f = folderKnown{subscribed: f.subscribed}
	}
}

func (f *folderKnown) counts(list string) {
	words := strings.Fields(list)
	for i := 0; i+1 < len(words); i += 2 {
		n, _ := strconv.ParseUint(words[i+1], 10, 64)
		switch words[i] {
		case "MESSAGES":
			f.messages = uint32(n)
		case "UNSEEN":
			f.unseen = uint32(n)
		case "UIDNEXT":
			f.next = uint32(n)
		case "UIDVALIDITY":
			f.validity = uint32(n)
		case "HIGHESTMODSEQ":
			f.modSeq = n
		}
	}
}

// added counts what the client added itself, if the counts are not of a later time already.
func (f *folderKnown) added(uid uint32, flags string) {
	if f.next > uid {
		return
	}
	f.messages++
	f.next = uid + 1
	if !strings.Contains(flags, `\Seen`) {
		f.unseen++
	}
}

func (l *listener) fetched(n int, items, line string) error {
	uid := uint32(n)
	if !l.dialect.uidOnly {
		if n < 1 || n > l.exists {
			return fmt.Errorf("%s of %d", line, l.exists)
		}
		_, after, ok := strings.Cut(items, "UID ")
		if ok {
			after, _, _ = strings.Cut(after, " ")
			after, _, _ = strings.Cut(after, ")")
			x, _ := strconv.ParseUint(after, 10, 32)
			if l.uids[n-1] != 0 && l.uids[n-1] != uint32(x) {
				return fmt.Errorf("%s: %d is UID %d", line, n, l.uids[n-1])
			}
			l.uids[n-1] = uint32(x)
		}
		uid = l.uids[n-1]
	} else if !slices.Contains(l.uids, uid) {
		at := slices.Index(l.uids, 0)
		if at < 0 {
			return fmt.Errorf("%s: of no message", line)
		}
		l.uids[at] = uid
	}
	l.next = max(l.next, uid+1)
	if _, after, ok := strings.Cut(items, "FLAGS ("); ok && uid != 0 {
		after, _, _ = strings.Cut(after, ")")
		l.flags[uid] = inOrder(after)
	}
	return nil
}

func inOrder(flags string) string {
	list := slices.DeleteFunc(strings.Fields(flags), func(f string) bool { return f == `\Recent` })
	slices.Sort(list)
	return strings.Join(list, " ")
}

func numbers(set string) (out []uint32) {
	for part := range strings.SplitSeq(set, ",") {
		from, to, isRange := strings.Cut(part, ":")
		if !isRange {
			to = from
		}
		a, _ := strconv.Atoi(from)
		b, _ := strconv.Atoi(to)
		for n := a; n <= b; n++ {
			out = append(out, uint32(n))
		}
	}
	return out
}

// leave works out the counts of what was selected.
func (l *listener) leave() {
	if l.sel == "" {
		return
	}
	if f := l.folder(l.sel); f.exists && !l.replaced {
		f.messages, f.unseen = uint32(l.exists), 0
		for _, uid := range l.uids {
			if !strings.Contains(l.flags[uid], `\Seen`) {
				f.unseen++
			}
		}
		f.next, f.modSeq = l.next, 0
	}
	l.sel, l.next, l.uids, l.exists, l.flags, l.replaced = "", 0, nil, 0, map[uint32]string{}, false
}
