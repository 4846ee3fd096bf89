// Package index keeps roost.index: what an open mailbox knew of its messages, so
// that the next open needs neither a directory scan nor a stat a message, and that
// MODSEQs and expunges outlive a killed process.
//
// Write puts a snapshot of the whole table in place. A Log adds what changed since, in
// blocks behind it: a Batch, all of it or nothing, with the time of that moment. Load
// reads both and yields the rows as they were last.
//
// It is a cache, and nothing in it is synced. What a reader finds is the file as it was
// written, an older one, one whose end is missing, or rubbish. Load tells them apart by
// the form alone: the sum of each block goes on from the one before, so that a block
// counts only behind the blocks that it was written behind. A snapshot without its end is
// none (ErrNone); the log ends at its first block that is not whole or says what cannot
// be, and Snapshot.Torn tells that something followed. Whatever the bytes, no row and no
// expunge has a MODSEQ above Head.ModSeq.
//
// A file that was closed ends with a Summary, enough to answer SELECT: Peek reads that alone, and
// Unread.Load the rest later. It proves itself by a checksum, for its last bytes say where it
// begins and from where its sum goes on; that it belongs to what is before it is known only
// when that was read.
//
// What was read is the truth of some moment. Whether it is the last one is told by the
// Head: Boot, without which nothing is (after a power cut the file may be older than what
// was shown), Clean and Stamps. A head in the log says that all before it is in the
// file; a change that follows makes an end of its Clean and its Stamps. How far each
// combination is believed is the mailbox's business: see maildir/trust.go.
package index
