// Package index keeps roost.index: what an open mailbox knew of its messages, so
// that the next open needs neither a directory scan nor a stat a message.
//
// Write puts a snapshot of the whole table in place. A Log adds what changed since in
// blocks behind it, so that MODSEQs and expunges outlive a killed process. Load reads
// both and yields the rows as they were last.
//
// It is a cache: Load answers any doubt (magic, version, checksum, order) with ErrNone,
// and the caller scans. Nothing is synced; a power cut may leave an older file, an
// empty one, or one whose end is missing: the first block that is not whole ends the
// log, and a snapshot without its end block is none. Whether what it says still holds
// is told by the Stamps: see Head.Trusted.
package index
