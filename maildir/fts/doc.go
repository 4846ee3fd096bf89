// Package fts keeps roost.fts: which three bytes in a row occur in the folded text of which
// message of a mailbox. A text can only be in a message that has all of its trigrams, so a
// search need not look at the others. What is left must be looked at: the index never says
// that a text is there.
//
// The way of a message into it: Batch.Add takes the passages that a SEARCH would look
// through (message.Passages), folds them and notes their trigrams; a run of 256 messages is
// sorted into a segment in memory, and Index.Add merges those into one behind the others in
// the file. Index.Tidy merges neighbouring segments into bigger ones, and writes the file
// anew when it holds more that is out of use than in use.
//
// The way of a search: Index.RuledOut reads the lists of the text's trigrams, the shortest
// first, and yields the messages in which one is missing. Nothing but the first trigram of
// each block (a thousandth of the file) and a bit a message is kept in memory, and that only
// until Release.
//
// What is trusted. Each block has a checksum, and one that is wrong ends the whole index:
// it is thrown away and made again. A message is spoken of only while the name of its file
// is the one that was indexed under its UID, so that an index beside another uidlist (a
// backup that was put back) is silent instead of wrong. Messages that are not in it, that
// could not be read, or whose MIME structure is beyond what every search sees alike, are
// never ruled out. It is made for one version of the text (message.TextVersion).
//
// Nothing is synced: what a crash leaves is whole segments, and a torn one at the end that
// does not count. Only the owner of roost.lock may write it.
package fts
