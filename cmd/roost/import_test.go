package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
)

const doveadmHead = "mailbox-guid\tuid\tflags\n"

func TestParseDoveadm(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"no messages", doveadmHead, "map[]"},
		{"keywords", doveadmHead + "aa\t1\t\\Seen Work $Later\naa\t3\t\\Seen\nbb\t4294967294\tx\n", "map[aa:map[1:[Work $Later]] bb:map[4294967294:[x]]]"},
		{"no flags", doveadmHead + "aa\t1\t\n", "map[]"},
		{"last line without its end", doveadmHead + "aa\t1\tx", "map[aa:map[1:[x]]]"},
	} {
		got, err := parseDoveadm(strings.NewReader(c.in))
		if err != nil || fmt.Sprint(map[string]map[imap.UID][]string(got)) != c.want {
			t.Errorf("%s: %v, %v, want %s", c.name, got, err, c.want)
		}
	}
	for _, in := range []string{"uid\tflags\n", doveadmHead + "aa\tone\tx\n", doveadmHead + "aa\t1\n", doveadmHead + "aa\t1\tx\ty\n", doveadmHead + "aa\t4294967296\tx\n"} {
		if _, err := parseDoveadm(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), "doveadm fetch") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func FuzzParseDoveadm(f *testing.F) {
	f.Add(doveadmHead + "aa\t1\t\\Seen Work $Later\naa\t3\t\\Seen\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, in string) {
		known, err := parseDoveadm(strings.NewReader(in))
		if err != nil {
			return
		}
		// Printed and read again it is the same.
		var b strings.Builder
		b.WriteString(doveadmHead)
		for _, guid := range slices.Sorted(maps.Keys(known)) {
			for _, uid := range slices.Sorted(maps.Keys(known[guid])) {
				fmt.Fprintf(&b, "%s\t%d\t%s\n", guid, uid, strings.Join(known[guid][uid], " "))
			}
		}
		again, err := parseDoveadm(strings.NewReader(b.String()))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(known) {
			t.Errorf("%v became %v, %v", known, again, err)
		}
	})
}
