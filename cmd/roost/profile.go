//go:build profile

// The product has no profiles: this file is in no build but the one that bench makes with
// the tag "profile". ROOST_PROFILE says which: cpu:FILE, mem:FILE or trace:FILE. SIGUSR1
// begins it, SIGUSR2 ends it and writes the file.
package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"strings"
	"syscall"
)

func init() {
	runtime.MemProfileRate = 0 // what is prepared does not count
	kind, file, ok := strings.Cut(os.Getenv("ROOST_PROFILE"), ":")
	if !ok {
		return
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() { // ends with the process
		for range signals {
			if err := profile(kind, file, signals); err != nil {
				fmt.Fprintln(os.Stderr, "roost: profile:", err)
			}
		}
	}()
}

// profile takes one until the next signal.
func profile(kind, file string, end <-chan os.Signal) error {
	f, err := os.Create(file + ".part")
	if err != nil {
		return err
	}
	begin, stop := func(io.Writer) error { return nil }, func() error { return nil }
	switch kind {
	case "cpu":
		begin, stop = pprof.StartCPUProfile, func() error { pprof.StopCPUProfile(); return nil }
	case "trace":
		begin, stop = trace.Start, func() error { trace.Stop(); return nil }
	case "mem":
		runtime.MemProfileRate = 4096
		stop = func() error {
			runtime.GC() // for what is in use to be up to date
			return pprof.Lookup("allocs").WriteTo(f, 0)
		}
	default:
		err = fmt.Errorf("what is %q?", kind)
	}
	if err == nil {
		err = begin(f)
	}
	<-end
	err = cmp.Or(err, stop(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(file+".part", file)
}
