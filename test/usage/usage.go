// Package usage says what processes have used, for tests of what code costs: processor time,
// in which the load of the machine is not.
package usage

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Processor is the processor time that this process has used so far.
func Processor(t testing.TB) time.Duration {
	t.Helper()
	return Of(t, os.Getpid())
}

// Of is the processor time that a process has used so far, to the nanosecond: its clock,
// clock_getcpuclockid(3).
func Of(t testing.TB, pid int) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}
