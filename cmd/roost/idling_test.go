package main

import (
	"bufio"
	"compress/flate"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// idling is a client that idles, and looks in between at the newest message it was told of.
type idling struct {
	in     *bufio.Reader
	out    io.Writer
	exists int
	n      int // commands so far
}

func (c *idling) send(text string) error {
	_, err := io.WriteString(c.out, text)
	if f, ok := c.out.(*flate.Writer); ok && err == nil {
		err = f.Flush()
	}
	return err
}

// until reads up to a line that starts with prefix, and counts messages.
func (c *idling) until(prefix string) error {
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return fmt.Errorf("waiting for %q with %d messages: %w", prefix, c.exists, err)
		}
		n := 0
		if k, _ := fmt.Sscanf(line, "* %d EXISTS", &n); k == 1 && strings.HasSuffix(line, "EXISTS\r\n") {
			if n < c.exists {
				return fmt.Errorf("%d messages were told behind %d", n, c.exists)
			}
			c.exists = n
		}
		if strings.Contains(line, "EXPUNGE") || strings.Contains(line, "VANISHED") {
			return fmt.Errorf("%q, and nobody takes messages away", line)
		}
		if strings.HasPrefix(line, prefix) || prefix == "EXISTS" && n > 0 {
			return nil
		}
	}
}

func (c *idling) do(command, prefix string) error {
	c.n++
	if err := c.send(fmt.Sprintf("t%d %s\r\n", c.n, command)); err != nil {
		return err
	}
	if prefix == "" {
		prefix = fmt.Sprintf("t%d OK", c.n)
	}
	return c.until(prefix)
}

// hear idles until it was told of all; every now and then it ends the IDLE to look, with
// messages coming meanwhile.
func (c *idling) hear(all, each int) error {
	for c.exists < all {
		if err := c.do("IDLE", "+ "); err != nil {
			return err
		}
		idle := c.n
		for i := 0; i < each && c.exists < all; i++ {
			if err := c.until("EXISTS"); err != nil {
				return err
			}
		}
		if err := c.send("DONE\r\n"); err != nil {
			return err
		}
		if err := c.until(fmt.Sprintf("t%d OK", idle)); err != nil {
			return err
		}
		last := c.exists
		if last == 0 {
			continue
		}
		if err := c.do(fmt.Sprintf("FETCH %d UID", last), fmt.Sprintf("* %d FETCH (UID ", last)); err != nil {
			return err
		}
		if err := c.until(fmt.Sprintf("t%d OK", c.n)); err != nil {
			return err
		}
	}
	return nil
}

// Clients of all kinds hear of all that is delivered, whether they idle for long or end each
// IDLE at once, and what they are told of is there to be fetched.
func TestIdlingClientsHearOfDeliveries(t *testing.T) {
	s := startServing(t, "")
	first := s.dial()
	first.say("a LOGIN ann s3cretword\r\nb STATUS INBOX (MESSAGES)\r\n", "b OK")
	const all = 300
	maildir := filepath.Join(s.dir, "mail", "ann")
	var clients []*idling
	for _, before := range []string{
		"", "", "", "", "", "", "COMPRESS DEFLATE", "ENABLE QRESYNC", "ENABLE CONDSTORE", "ENABLE IMAP4rev2",
		"ENABLE UTF8=ACCEPT", "NOTIFY SET (SELECTED (MessageNew (UID) MessageExpunge))",
	} {
		k := s.dial()
		c := &idling{in: k.in, out: k}
		for _, command := range []string{"LOGIN ann s3cretword", before, "SELECT INBOX"} {
			if command == "" {
				continue
			}
			if err := c.do(command, ""); err != nil {
				t.Fatalf("%s: %v", command, err)
			}
			if strings.HasPrefix(command, "COMPRESS") {
				c.out, _ = flate.NewWriter(k, flate.BestSpeed)
				c.in = bufio.NewReader(flate.NewReader(k.in))
			}
		}
		clients = append(clients, c)
	}
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			if err := c.hear(all, 1+i%4*i); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	for i := range all {
		name := fmt.Sprintf("%d.M%dP7.mail", 1800000000+i, i)
		tmp := filepath.Join(maildir, "tmp", name)
		if err := os.WriteFile(tmp, []byte("Subject: "+name+"\n\nhello\n"), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(maildir, "new", name)); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	for _, line := range s.log() {
		if strings.Contains(line, "DATA RACE") || strings.Contains(line, "panic") {
			t.Error(line)
		}
	}
}
