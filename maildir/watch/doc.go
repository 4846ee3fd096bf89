// Package watch tells which names changed in a directory, as soon as the kernel
// says so.
//
// A few inotify instances (shards) are shared by all: a uid often has 128 of them, and
// each has one queue of 16,384 events. One goroutine drains each and does nothing else:
// it appends the name to the subscription's bounded list and, when the list was empty,
// calls wake. The work happens in whoever calls Pull. A full list, and a queue that
// overflowed, become Look: names were lost, scan the directory.
//
// Set the watch, then scan: in that order nothing is lost. A name says that something
// happened to it, not what, and not in which order beside other directories: look at
// the file. fsnotify takes paths, so a directory that is moved or removed is Lost: its
// owner finds out where it is now, closes the Sub, and adds a new one. The removal of
// a directory is told only where its parent is watched too: the kernel keeps silent
// while a descriptor, our own, still holds it.
//
// An event takes its time. Who must not miss what happened a moment ago calls Settle: each
// shard watches a file in memory, changes it, and waits until that comes out of the queue.
//
// Where the kernel cannot tell (network filesystems, no watches left) the same Sub is
// polled: every Interval its directory's mtime is compared, and a change is Look.
package watch
