// Package sample lays out a Maildir++ with mail of many kinds, as MTAs and other
// servers leave them, and delivers further messages as an MTA does.
package sample

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"roost/server/wire"
)

//go:embed mail.txt
var mail string

// Host is the name in the file names and Message-IDs.
const Host = "demo.example"

// Message is one message as it lies on disk.
type Message struct {
	Mailbox  string    // UTF-8, levels parted by "/"
	New      bool      // in new/: nobody has seen it
	Flags    string    // letters of the file name
	Keywords []string  // kept by dovecot-keywords
	Time     time.Time // of its arrival
	Body     []byte    // the whole message, with LF
}

// Subject is the undecoded subject, unfolded; "" for none.
func (m Message) Subject() string {
	head, _, _ := bytes.Cut(m.Body, []byte("\n\n"))
	unfolded := strings.ReplaceAll(string(head), "\n ", " ")
	for line := range strings.SplitSeq(unfolded, "\n") {
		if v, ok := strings.CutPrefix(line, "Subject: "); ok {
			return v
		}
	}
	return ""
}

// Messages gives the sample mail, ages counted back from now.
func Messages(now time.Time) ([]Message, error) {
	var list []Message
	_, rest, _ := strings.Cut(mail, "\n==== ")
	for i, text := range strings.Split(rest, "\n==== ") {
		title, body, _ := strings.Cut(text, "\n")
		fields := strings.Split(title, "|")
		if len(fields) != 3 {
			return nil, fmt.Errorf("sample mail: title %q", title)
		}
		age, err := time.ParseDuration(strings.TrimSpace(fields[2]))
		if err != nil {
			return nil, fmt.Errorf("sample mail: title %q: %w", title, err)
		}
		m := Message{Mailbox: strings.TrimSpace(fields[0]), Time: now.Add(-age).Truncate(time.Second)}
		if name, ok := strings.CutSuffix(m.Mailbox, " new"); ok {
			m.Mailbox, m.New = name, true
		}
		for word := range strings.FieldsSeq(fields[1]) {
			if strings.Trim(word, "DFPRST") == "" {
				m.Flags = word
			} else {
				m.Keywords = append(m.Keywords, word)
			}
		}
		m.Body = []byte(strings.NewReplacer(
			"{{date}}", m.Time.Format(time.RFC1123Z),
			"{{id}}", fmt.Sprintf("<sample-%d@%s>", i+1, Host),
			"{{base64 bird.png}}", wrapped(bird),
			"{{base64 paper.pdf}}", wrapped([]byte("%PDF-1.4\n%not much of a paper\n%%EOF\n")),
			"{{base64 noise.bin}}", wrapped(noise(3000)),
			"{{log}}", buildLog(),
		).Replace(strings.TrimSuffix(body, "\n") + "\n"))
		list = append(list, m)
	}
	return list, nil
}

// Lay makes a Maildir++ at dir, which must not be there yet.
func Lay(dir string, messages []Message) error {
	keywords := map[string][]string{}
	var subscribed []string
	for _, m := range messages {
		box, err := makeMailbox(dir, m.Mailbox)
		if err != nil {
			return err
		}
		if !slices.Contains(subscribed, m.Mailbox) {
			subscribed = append(subscribed, m.Mailbox)
		}
		name := fileName(m.Time, len(m.Body), bytes.Count(m.Body, []byte("\n")))
		path := filepath.Join(box, "new", name)
		if !m.New {
			letters := m.Flags
			for _, k := range m.Keywords {
				if !slices.Contains(keywords[box], k) {
					keywords[box] = append(keywords[box], k)
				}
				letters += string(rune('a' + slices.Index(keywords[box], k)))
			}
			path = filepath.Join(box, "cur", name+":2,"+letters)
		}
		if err := os.WriteFile(path, m.Body, 0o600); err != nil {
			return err
		}
		if err := os.Chtimes(path, m.Time, m.Time); err != nil {
			return err
		}
	}
	for box, list := range keywords {
		var b strings.Builder
		for i, k := range list {
			fmt.Fprintf(&b, "%d %s\n", i, k)
		}
		if err := os.WriteFile(filepath.Join(box, "dovecot-keywords"), []byte(b.String()), 0o600); err != nil {
			return err
		}
	}
	var b strings.Builder
	b.WriteString("V\t2\n\n")
	for _, name := range subscribed {
		b.WriteString(strings.ReplaceAll(wire.EncodeMailbox(name), "/", "\t") + "\n")
	}
	return os.WriteFile(filepath.Join(dir, "subscriptions"), []byte(b.String()), 0o600)
}

// makeMailbox makes the directories of a mailbox, and gives its path.
func makeMailbox(dir, name string) (string, error) {
	box := dir
	if name != "INBOX" {
		box = filepath.Join(dir, "."+strings.ReplaceAll(wire.EncodeMailbox(name), "/", "."))
	}
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(box, sub), 0o700); err != nil {
			return "", err
		}
	}
	if name != "INBOX" {
		return box, os.WriteFile(filepath.Join(box, "maildirfolder"), nil, 0o600)
	}
	return box, nil
}

// delivered tells the file names of one process apart.
var delivered atomic.Int64

// fileName makes a name with the sizes of a file that has LF line ends.
func fileName(t time.Time, size, lines int) string {
	return fmt.Sprintf("%d.M%dP%dQ%d.%s,S=%d,W=%d", t.Unix(), t.Nanosecond()/1000, os.Getpid(), delivered.Add(1), Host, size, size+lines)
}

// Deliver puts a message into a Maildir as an MTA does: written under tmp/, synced,
// then renamed into new/. It gives the moment just before the rename.
func Deliver(dir string, body []byte) (time.Time, error) {
	name := fileName(time.Now(), len(body), bytes.Count(body, []byte("\n")))
	tmp := filepath.Join(dir, "tmp", name)
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return time.Time{}, err
	}
	_, err = f.Write(body)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	at := time.Now()
	if err == nil {
		err = os.Rename(tmp, filepath.Join(dir, "new", name))
	}
	if err != nil {
		os.Remove(tmp)
	}
	return at, err
}

// Letter makes a message that is worth delivering; n tells it from others.
func Letter(n int, now time.Time) []byte {
	from := []string{"Ann Lee <ann@example.org>", "Bob <bob@example.net>", "=?UTF-8?Q?J=C3=BCrgen?= <juergen@example.de>"}[n%3]
	return fmt.Appendf(nil, "From: %s\nTo: You <you@%s>\nSubject: Message number %d\nDate: %s\nMessage-ID: <letter-%d-%d@%s>\n\n"+
		"Delivered while you were looking.\n", from, Host, n, now.Format(time.RFC1123Z), n, now.UnixNano(), Host)
}

// bird is a picture of 16 by 16 points.
var bird = func() []byte {
	b, _ := base64.StdEncoding.DecodeString("iVBORw0KGgoAAAANSUhEUgAAABAAAAAQAQAAAAA3iMLMAAAANElEQVR42mP4/58BiP7UM/ywZ/hkz/DAnuGDPMMHfoYP7Aw/WBn+MDL8Y2b4Hw9C//yBKgEOZBUG9hQL0gAAAABJRU5ErkJggg==")
	return b
}()

// noise is bytes of every value.
func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*i>>3 ^ i)
	}
	return b
}

func buildLog() string {
	var b strings.Builder
	for i := 0; b.Len() < 200<<10; i++ {
		fmt.Fprintf(&b, "%06d step %d of the build went well and took %d ms\n", i, i%97, i*31%1009)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// wrapped is base64 in lines of 76.
func wrapped(b []byte) string {
	s := base64.StdEncoding.EncodeToString(b)
	var lines []string
	for len(s) > 76 {
		lines = append(lines, s[:76])
		s = s[76:]
	}
	return strings.Join(append(lines, s), "\n")
}
