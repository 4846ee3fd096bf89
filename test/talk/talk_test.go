package talk

import (
	"bufio"
	"net"
	"strings"
	"testing"
)

// parrot answers each line it reads with what the table holds for it.
func parrot(answers map[string]string) Options {
	return Options{Greeting: true, Dial: func(string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() { // ends with the connection
			defer theirs.Close()
			if _, err := theirs.Write([]byte("* OK hello\r\n")); err != nil {
				return
			}
			r := bufio.NewReader(theirs)
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				a, ok := answers[strings.TrimSuffix(line, "\r\n")]
				if !ok {
					return
				}
				if _, err := theirs.Write([]byte(a)); err != nil {
					return
				}
			}
		}()
		return ours, nil
	}}
}

func TestPlay(t *testing.T) {
	answers := map[string]string{
		"a1 SELECT INBOX":    "* 3 EXISTS\r\n* OK [UIDVALIDITY 77] ok\r\na1 OK done\r\n",
		"a2 FETCH 1 BODY[]":  "* 1 FETCH (BODY[] {5}\r\na\r\n\x00b)\r\na2 OK done\r\n",
		"a3 NOOP":            "a3 NO [SERVERBUG] no\r\n",
		"a4 IDLE":            "+ idling\r\n* 4 EXISTS\r\n",
		"DONE":               "a4 OK done\r\n",
		"a5 UIDVALIDITY 77":  "* 1 EXPUNGE\r\n* 2 EXPUNGE\r\na5 OK x\r\n",
		"a6 SEARCH":          "* SEARCH 1\r\na6 OK x\r\n",
		"a7 APPEND INBOX {3": "+ go\r\n",
	}
	for _, tc := range []struct {
		name, script, fails string
	}{
		{"unmentioned lines pass where nothing is asked", "A> a1 SELECT INBOX\nA> a6 SEARCH", ""},
		{"each line has its pattern", "A> a1 SELECT INBOX\nA< * 3 EXISTS", "got \"* OK [UIDVALIDITY"},
		{"three dots allow more", "A> a1 SELECT INBOX\nA< * 3 EXISTS\nA< ...", ""},
		{"a line that never comes", "A> a1 SELECT INBOX\nA< * 4 EXISTS\nA< ...", `never came: "* 4 EXISTS"`},
		{"literals are part of the line", `A> a2 FETCH 1 BODY[]` + "\n" + `A< * 1 FETCH (BODY[] {5}\r\na\r\n\x00b)`, ""},
		{"a tagged answer is OK by itself", "A> a3 NOOP", "got \"a3 NO"},
		{"or what is asked for", "A> a3 NOOP\nA< a3 NO [SERVERBUG] ...", ""},
		{"idle", "A> a4 IDLE\nA< + ...\nA< * 4 EXISTS\nA> DONE\nA< a4 OK ...", ""},
		{"memory", "A> a1 SELECT INBOX\nA< * OK [UIDVALIDITY ${v}] ...\nA< ...\nA> a5 UIDVALIDITY ${v}\nA< * 1 EXPUNGE\nA< then\nA< * 2 EXPUNGE", ""},
		{"order", "A> a5 UIDVALIDITY 77\nA< * 2 EXPUNGE\nA< then\nA< * 1 EXPUNGE", `got "* 1 EXPUNGE"`},
		{"never", "A> a6 SEARCH\nA!< * SEARCH ...", `got "* SEARCH 1"`},
		{"the end", "A> x unknown\nA< EOF", ""},
		{"greeting", "A< * OK hello\nA> a6 SEARCH", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			transcript, err := Play(tc.script, parrot(answers))
			switch {
			case tc.fails == "" && err != nil:
				t.Errorf("%v\n%s", err, transcript)
			case tc.fails != "" && (err == nil || !strings.Contains(err.Error(), tc.fails)):
				t.Errorf("got %v, want %s", err, tc.fails)
			}
		})
	}
}
