package neighbour

import (
	"os"
	"strconv"
)

// Rounds is how often a test repeats what it repeats: n times, or ROOST_ROUNDS times
// as often where that is set, as .ci/run does.
func Rounds(n int) int {
	if times, err := strconv.Atoi(os.Getenv("ROOST_ROUNDS")); err == nil && times > 0 {
		return n * times
	}
	return n
}
