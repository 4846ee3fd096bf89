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
// TestFailuresLookAlike's. A way through the code that forgot the hash, or computes one too
// many, differs by a whole one.
//
// What a busy machine does to a cost is to add to it, at times a half: it shares its caches
// and the core. Nothing makes work cheaper, so that no login may cost less than 3/4 of a
// hash, and of each kind the least, of 31 logins in turn with the others', is compared. It
// is wrong when all 31 were disturbed: were a half of all, that is once in 2^31 for each of 9
// kinds, below 1e-8 a run. One hash too many in most logins would lift their median.
func TestNamesAreNotToldByTheCost(t *testing.T) {
	made, err := bcrypt.GenerateFromPassword([]byte("secret"), 6)
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
		for round := range 32 {
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
		known := costs["ann"][0]
		for _, name := range kinds {
			least, median := costs[name][0], costs[name][15]
			t.Logf("%-8s median %v, from %v to %v", name, median, least, costs[name][30])
			if least < known*3/4 || least > known*5/4 || median > known*7/4 {
				t.Errorf("a login as %q costs %v, most %v or less, one with a wrong password %v", name, least, median, known)
			}
		}
	})
}
