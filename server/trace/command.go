package trace

import "strings"

// commandNames are the words behind which arguments may be seen. UID stands before some.
var commandNames = words(`
	CAPABILITY NOOP LOGOUT ID STARTTLS
	ENABLE NAMESPACE SELECT EXAMINE CREATE DELETE RENAME SUBSCRIBE UNSUBSCRIBE LIST XLIST LSUB
	STATUS APPEND REPLACE IDLE NOTIFY COMPRESS UNAUTHENTICATE GETQUOTA GETQUOTAROOT SETQUOTA
	GETACL SETACL DELETEACL LISTRIGHTS MYRIGHTS GETMETADATA SETMETADATA ESEARCH
	CHECK CLOSE UNSELECT EXPUNGE FETCH SEARCH STORE COPY MOVE SORT THREAD
	UID`)

// mechanisms are those of AUTHENTICATE that may be seen.
var mechanisms = words(`PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1 SCRAM-SHA-256 SCRAM-SHA-1-PLUS
	SCRAM-SHA-256-PLUS OAUTHBEARER XOAUTH2 EXTERNAL ANONYMOUS GSSAPI NTLM`)

func words(s string) map[string]bool {
	m := map[string]bool{}
	for w := range strings.FieldsSeq(s) {
		m[w] = true
	}
	return m
}

// command is what a client is saying.
type command struct {
	line    line
	first   bool   // no line of the command ended yet
	tag     string // of the command, once its first line ended
	hide    bool   // nothing more of the command may be seen
	literal int64  // bytes of a literal before the line
}

// Begin is of wire.Watch.
func (m *Mask) Begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.endCommand()
	m.cmd.first, m.cmd.tag, m.cmd.hide = true, "", false
}

// endCommand emits a line that was left without an end.
func (m *Mask) endCommand() {
	if !m.cmd.line.empty() || m.cmd.literal > 0 {
		m.commandLine()
	}
}

// Command is of wire.Watch.
func (m *Mask) Command(b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	eachLine(b, m.cmd.line.add, m.commandLine)
}

// eachLine calls add for pieces of lines and end where one ends.
func eachLine(b []byte, add func([]byte), end func()) {
	for len(b) > 0 {
		i := 0
		for i < len(b) && b[i] != '\n' {
			i++
		}
		add(b[:i])
		if i < len(b) {
			end()
			i++
		}
		b = b[i:]
	}
}

// CommandLiteral is of wire.Watch.
func (m *Mask) CommandLiteral(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cmd.literal += n
	m.tags.taint(m.cmd.tag)
}

// commandLine ends a line of a command.
func (m *Mask) commandLine() {
	c := &m.cmd
	before, text, rest := "", c.line.text(), c.line.rest()
	if c.literal > 0 {
		before = size(c.literal)
	}
	c.line.reset()
	c.literal = 0
	if c.first {
		c.first = false
		text = m.decide(text)
		if c.hide {
			rest = ""
		}
	} else if c.hide {
		before, text, rest = "", hidden, ""
	}
	m.tell(Client, before+text+rest)
}

// decide reads the first line of a command and gives what may be seen of it.
func (m *Mask) decide(text string) string {
	c := &m.cmd
	if m.idle != "" {
		// Whatever it is ends the IDLE, and is repeated to the client when it is not DONE.
		if !strings.EqualFold(strings.TrimSpace(text), "DONE") {
			m.tags.taint(m.idle)
		}
		m.idle = ""
	}
	tag, after, isCommand := strings.Cut(text, " ")
	if m.sasl != "" {
		c.hide = true
		if isCommand && isTag(tag) { // after all: the AUTHENTICATE was refused, and that is on its way
			m.tags.add(tag, false, false)
		}
		return hidden
	}
	if strings.EqualFold(text, "DONE") {
		return text
	}
	name, args, more := strings.Cut(after, " ")
	word := strings.ToUpper(name)
	c.tag = tag
	switch {
	case !isTag(tag):
		c.hide = true
	case word == "LOGIN":
		c.hide = true
		m.tags.add(tag, true, false)
		return tag + " " + name + " " + hidden
	case word == "AUTHENTICATE":
		c.hide = true
		m.tags.add(tag, true, false)
		m.sasl, m.asks = tag, tag
		mech, _, initial := strings.Cut(args, " ")
		switch {
		case !mechanisms[strings.ToUpper(mech)]:
			mech = hidden
		case initial:
			mech += " " + hidden
		}
		return tag + " " + name + " " + mech
	case word == "UID":
		sub, _, _ := strings.Cut(args, " ")
		c.hide = !commandNames[strings.ToUpper(sub)]
	default:
		c.hide = !commandNames[word]
	}
	if c.hide {
		m.tags.add(tag, false, false)
		return hidden
	}
	m.tags.add(tag, true, true)
	if word == "IDLE" && !more {
		m.idle = tag
	}
	return text
}

// isTag reports whether a word can be a tag: an answer repeats it (RFC 9051 section 9).
func isTag(s string) bool {
	return s != "" && len(s) <= 255 && !strings.ContainsAny(s, "\x00\r(){%*\"\\+")
}
