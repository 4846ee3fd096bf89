package main

import (
	"bufio"
	"bytes"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
)

// hears is a client to whom a server says text, whatever it is told.
func hears(text string) *client {
	return &client{w: new(bytes.Buffer), r: bufio.NewReaderSize(strings.NewReader(text), 64), sums: true}
}

const conversation = "* 3 EXISTS\r\n" +
	"* 1 FETCH (UID 11 FLAGS (\\Seen) BODY[] {12}\r\na1 OK\r\n{5}\r\n)\r\n" +
	"* 2 FETCH (UID 12 BODY[] {3}\r\nxyz BODY[HEADER] {2}\r\n\r\n)\r\n" +
	"* SEARCH %s\r\n" +
	"a1 OK done\r\n* 4 EXISTS\r\n"

func TestAnswersAreCounted(t *testing.T) {
	long := strings.Repeat("12345 ", 300) // more than the buffer holds
	text := fmt.Sprintf(conversation, long)
	for name, ask := range map[string]func(c *client, each func([]byte)) (*answer, error){
		"as it comes": func(c *client, each func([]byte)) (*answer, error) {
			tag, _ := c.send("FETCH")
			return c.await(tag, each)
		},
		"as a whole": func(c *client, each func([]byte)) (*answer, error) {
			// Nothing may follow: whole takes all that is there.
			c.r = bufio.NewReaderSize(strings.NewReader(strings.TrimSuffix(text, "* 4 EXISTS\r\n")), 64)
			a, _, err := c.whole(each, "FETCH")
			return a, err
		},
	} {
		uids := uint64(0)
		a, err := ask(hears(text), func(row []byte) { uids += uidOf(row) })
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if a.rows != 2 || a.numbers != 3 || uids != 23 || a.literals != 17 || a.count("EXISTS") != 3 || a.done != "OK done" {
			t.Errorf("%s: %+v, UIDs %d", name, a, uids)
		}
		if want := crc32.Checksum([]byte("a1 OK\r\n{5}\r\nxyz\r\n"), castagnoli); a.sum != want {
			t.Errorf("%s: the sum is %08x, want %08x", name, a.sum, want)
		}
		if got := len(strings.Fields(a.find("* SEARCH "))); got != 300 {
			t.Errorf("%s: %d numbers", name, got)
		}
	}
}

// A refused command and a lost connection are errors.
func TestRefusals(t *testing.T) {
	if _, err := hears("* BYE\r\na1 NO [LIMIT] no\r\n").do("X"); err == nil || err.Error() != "NO [LIMIT] no" {
		t.Errorf("got %v", err)
	}
	if _, err := hears("* 1 FETCH (BODY[] {100}\r\nabc").do("X"); err == nil {
		t.Error("half a literal is taken")
	}
	if _, _, err := hears("* 1 FETCH").whole(nil, "X"); err == nil {
		t.Error("half an answer is taken")
	}
}

func TestReadStatus(t *testing.T) {
	for l, want := range map[string]status{
		`INBOX (MESSAGES 12 UNSEEN 3 UIDNEXT 20)`:   {"INBOX", 12, 3, 20},
		`"f0001" (UIDNEXT 20 MESSAGES 12 UNSEEN 0)`: {"f0001", 12, 0, 20},
	} {
		if got := readStatus(l); got != want {
			t.Errorf("%s: %+v", l, got)
		}
	}
}
