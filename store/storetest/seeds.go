package storetest

import (
	"fmt"
	"os"
	"testing"
)

// Seeds are those that a test runs through: n of them, or as many as ROOST_SEEDS says;
// "from-to" is how a failure is repeated.
func Seeds(t *testing.T, n uint64) (seeds []uint64) {
	t.Helper()
	from, to := uint64(0), n-1
	if s := os.Getenv("ROOST_SEEDS"); s != "" {
		if k, _ := fmt.Sscanf(s, "%d-%d", &from, &to); k == 1 {
			from, to = 0, from-1
		} else if k != 2 || to < from {
			t.Fatalf("ROOST_SEEDS is %q, and should be a number or FROM-TO", s)
		}
	}
	for seed := from; seed <= to; seed++ {
		seeds = append(seeds, seed)
	}
	return seeds
}
