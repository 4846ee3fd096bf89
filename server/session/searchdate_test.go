package session

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"roost/store"
	"roost/store/memstore"
)

// SEARCH compares the days that FETCH shows, to the second, wherever the server stands.
// RFC 9051 section 6.4.4: "disregarding time and timezone".
func TestSearchComparesTheDaysThatFetchShows(t *testing.T) {
	local := time.Local
	defer func() { time.Local = local }()
	st := memstore.New(nil)
	who := store.Identity{User: "ann", Login: "ann", Roots: []store.Root{{}}}
	for _, date := range []time.Time{
		time.Date(2023, 11, 13, 23, 59, 59, 0, time.UTC),
		time.Date(2023, 11, 14, 0, 0, 0, 0, time.UTC),
		time.Date(2023, 11, 14, 23, 59, 59, 0, time.UTC),
		time.Date(2023, 11, 15, 0, 0, 0, 0, time.UTC),
	} {
		st.Seed("ann", store.Inbox, memstore.Seed{Message: small, Time: date})
	}
	for _, zone := range []*time.Location{time.UTC, time.FixedZone("east", 9*3600), time.FixedZone("west", -9*3600)} {
		time.Local = zone
		p := dial(t, st, who)
		p.ok("SELECT INBOX")
		var days []string
		for _, line := range p.ok("FETCH 1:4 INTERNALDATE") {
			_, date, _ := bytes.Cut([]byte(line), []byte(`"`))
			days = append(days, string(date[:11]))
		}
		if want := []string{"13-Nov-2023", "14-Nov-2023", "14-Nov-2023", "15-Nov-2023"}; !slices.Equal(days, want) {
			t.Errorf("%s: shown are %q", zone, days)
		}
		for key, want := range map[string]string{
			"ON 14-Nov-2023":     "* SEARCH 2 3",
			"BEFORE 14-Nov-2023": "* SEARCH 1",
			"SINCE 14-Nov-2023":  "* SEARCH 2 3 4",
			"BEFORE 15-Nov-2023": "* SEARCH 1 2 3",
			"SINCE 15-Nov-2023":  "* SEARCH 4",
		} {
			if got := p.ok("SEARCH %s", key)[0]; got != want {
				t.Errorf("%s: %s gives %s, want %s", zone, key, got, want)
			}
		}
	}
}

// OLDER and YOUNGER count in seconds; what is as old as that to the second is OLDER.
// RFC 5032 section 3
func TestWithin(t *testing.T) {
	st := memstore.New(nil)
	now := time.Now()
	for _, age := range []time.Duration{2000 * time.Hour, 1000 * time.Hour, 0} {
		st.Seed("ann", store.Inbox, memstore.Seed{Message: small, Time: now.Add(-age)})
	}
	p := dial(t, st, store.Identity{User: "ann", Login: "ann", Roots: []store.Root{{}}})
	p.ok("SELECT INBOX")
	second := time.Now().Truncate(time.Second)
	st.Seed("ann", store.Inbox, memstore.Seed{Message: small, Time: second.Add(-5000 * time.Hour)})
	p.ok("NOOP")
	if got := p.ok("SEARCH OLDER 18000000")[0]; got != "* SEARCH 4" {
		t.Errorf("as old to the second: %s", got)
	}
	for key, want := range map[string]string{
		"OLDER 3596400":                 "* SEARCH 1 2 4", // 999 hours
		"OLDER 3603600":                 "* SEARCH 1 4",   // 1001 hours
		"YOUNGER 3603600":               "* SEARCH 2 3",
		"YOUNGER 3596400":               "* SEARCH 3",
		"OLDER 3596400 YOUNGER 7300000": "* SEARCH 1 2",
	} {
		if got := p.ok("SEARCH %s", key)[0]; got != want {
			t.Errorf("%s gives %s, want %s", key, got, want)
		}
	}
}
