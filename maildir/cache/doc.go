// Package cache keeps roost.cache: notes, which are bytes that the protocol once
// derived from a message and would rather not derive again (ENVELOPE ready for the
// wire, part ranges). They are opaque here, and named by UID and kind.
//
// Put appends; All reads notes from the file, many with one call. In memory is a table of 16 bytes a
// note, built by reading the file once when the first note is asked for, and gone
// again after Release. Compact writes a new file without the notes of messages that
// are gone.
//
// It is a cache of one UIDVALIDITY and is never synced: each note has a checksum and
// any doubt drops it. Only the owner of roost.lock may use it.
package cache
