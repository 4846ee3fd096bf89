package auth

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"roost/test/usage"
)

// A guesser learns no names from what a login takes: one whom there is not, who is disabled,
// may not come from there or has app passwords costs what a wrong password costs. Processor
// time is compared, in which the load of the machine is not; the instant of the answer is
// TestFailuresLookAlike's. The medians of 15 logins each may differ by a quarter of a
// hash: the order of what a busy machine varies by, far below the one hash that would be
// missing, or too many, where a way through the code forgot it.
func TestNamesAreNotToldByTheCost(t *testing.T) {
	made, err := bcrypt.GenerateFromPassword([]byte("secret"), 8)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		h := "{BLF-CRYPT}" + string(made)
		passwd, apps := appFile(t, "ann:"+h+"\nben:"+h+"\noff:{BLF-CRYPT}!"+string(made)+"\nstar:*\nclosed:"+h+"::::::nologin\nnets:"+h+"::::::allow_nets=10.0.0.0/8\napps:"+h+"\n")
		addApp(t, passwd, apps, AppPassword{User: "apps", Name: "phone"})
		a := newTestAuth(t, Options{File: passwd, Apps: apps, Remember: -1, Throttle: ThrottleOptions{Guesses: 1000, LockAfter: 1000}})
		kinds := []string{"ann", "ben", "nobody", "off", "star", "closed", "nets", "apps", "../x"}
		costs := map[string][]time.Duration{}
		for round := range 16 {
			for i, name := range kinds {
				at := home
				at.Addr = netip.AddrFrom4([4]byte{198, byte(round), byte(i), 7}) // nobody waits for another
				before := usage.Processor(t)
				_, err := a.Login(t.Context(), name, fmt.Sprintf("wrong%d", round), at)
				cost := usage.Processor(t) - before
				if err == nil || err.Error() != "authentication failed" {
					t.Fatalf("%s: %v", name, err)
				}
				if round > 0 { // the first is for what is made once
					costs[name] = append(costs[name], cost)
				}
			}
		}
		for _, list := range costs {
			slices.Sort(list)
		}
		known := costs["ann"][7]
		for _, name := range kinds {
			m := costs[name][7]
			t.Logf("%-8s median %v, from %v to %v", name, m, costs[name][0], costs[name][14])
			if m < known*3/4 || m > known*5/4 {
				t.Errorf("a login as %q costs %v, one with a wrong password %v", name, m, known)
			}
		}
	})
}
