package courier

import (
	"iter"
	"strings"
)

// Limits bound what is read of one file.
type Limits struct {
	Bytes     int64 // for the caller, who reads the file
	LineBytes int   // longer lines are left out
	Lines     int   // further lines are left out
}

// DefaultLimits fit a million messages.
var DefaultLimits = Limits{Bytes: 256 << 20, LineBytes: 64 << 10, Lines: 1_000_000}

// SmallLimits fit the files of one message, subscriptions and ACLs.
var SmallLimits = Limits{Bytes: 1 << 20, LineBytes: 8 << 10, Lines: 20_000}

// lines yields the lines within the limits, without their ends; bad counts the others.
func lines(b []byte, limit Limits, bad *int) iter.Seq[string] {
	return func(yield func(string) bool) {
		n := 0
		for line := range strings.Lines(string(b)) {
			if n++; n > limit.Lines || len(line) > limit.LineBytes {
				*bad++
				continue
			}
			if !yield(strings.TrimSuffix(line, "\n")) {
				return
			}
		}
	}
}
