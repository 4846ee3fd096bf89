package maildir

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"roost/store"
)

// TestFixtureMail holds every mailbox of the trees and compares the messages with what
// Dovecot said of them: UIDs that were written down, flags, keywords, dates, true sizes.
func TestFixtureMail(t *testing.T) {
	for _, c := range fixtureRoots {
		t.Run(c.fixture+"/"+c.archive, func(t *testing.T) {
			want := readExpected(t, c.fixture, c.at...)
			dir := unpack(t, filepath.Join(c.fixture, c.archive+".tar.gz"))
			root := below(dir, c.root)
			s, err := New(Options{Host: "test.example", Poll: true})
			if err != nil {
				t.Fatal(err)
			}
			a, err := s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{root}, Separator: c.sep})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range want.List {
				if f, ok := want.Folders[e.Name]; ok && !slices.Contains(e.Flags, `\Noselect`) {
					checkMailbox(t, a, store.Name(e.UTF8), f)
				}
			}
			if err := a.Close(); err != nil {
				t.Error(err)
			}
			if err := s.Close(context.Background()); err != nil {
				t.Error(err)
			}
			for name, f := range want.Folders {
				if name == "INBOX" {
					f.Path = "."
				}
				for _, m := range f.Messages {
					if m.Now == "" {
						continue
					}
					if _, err := os.Stat(filepath.Join(root.Mail, f.Path, m.Now)); err != nil {
						t.Errorf("%s: not where Dovecot left it: %v", name, err)
					}
				}
			}
		})
	}
}

func checkMailbox(t *testing.T, a store.Account, n store.Name, want expectedFolder) {
	t.Helper()
	h, err := a.Hold(t.Context(), n, true, func() {})
	if err != nil {
		t.Errorf("%q: %v", n, err)
		return
	}
	defer h.Close()
	known := slices.ContainsFunc(want.Messages, func(m expectedMessage) bool { return m.KnownBefore })
	if info := h.Info(); known && info.UIDValidity != want.UIDValidity {
		t.Errorf("%q: UIDVALIDITY %d, want %d", n, info.UIDValidity, want.UIDValidity)
	}
	view := h.View()
	if view.UIDs.Len() != len(want.Messages) {
		t.Errorf("%q: %d messages, want %d", n, view.UIDs.Len(), len(want.Messages))
		return
	}
	i := 0
	for rows, err := range h.Rows(t.Context(), view.UIDs.Slice(0, view.UIDs.Len()), 0) {
		if err == nil {
			err = h.Measure(t.Context(), rows)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			checkRow(t, h, n, row, want.Messages[i])
			i++
		}
	}
	if i != len(want.Messages) {
		t.Errorf("%q: %d rows, want %d", n, i, len(want.Messages))
	}
}

func checkRow(t *testing.T, h store.Mailbox, n store.Name, row store.Row, want expectedMessage) {
	t.Helper()
	if want.KnownBefore && uint32(row.UID) != want.UID {
		t.Errorf("%q: UID %d, want %d", n, row.UID, want.UID)
	}
	var flags []string
	for _, f := range row.Flags.Names() {
		flags = append(flags, string(f))
	}
	flags = append(flags, row.Keywords.Names()...)
	slices.Sort(flags)
	expect := slices.Sorted(slices.Values(want.Flags))
	if strings.Join(flags, " ") != strings.Join(expect, " ") {
		t.Errorf("%q UID %d: flags %q, want %q", n, row.UID, flags, expect)
	}
	if at, err := time.Parse("2-Jan-2006 15:04:05 -0700", want.InternalDate); err != nil || row.Internal != at.Unix() {
		t.Errorf("%q UID %d: date %s, want %s", n, row.UID, time.Unix(row.Internal, 0).UTC(), want.InternalDate)
	}
	if row.Size >= 0 && want.TrueSize > 0 && row.Size != want.TrueSize {
		t.Errorf("%q UID %d: size %d is believed before it is read, want %d", n, row.UID, row.Size, want.TrueSize)
	}
	m, err := h.Message(t.Context(), row.UID)
	if err != nil {
		t.Errorf("%q UID %d: %v", n, row.UID, err)
		return
	}
	defer m.Close()
	if size, err := m.Size(); err != nil || size != want.TrueSize && want.TrueSize > 0 {
		t.Errorf("%q UID %d: size %d, want %d: %v", n, row.UID, size, want.TrueSize, err)
	}
}
