// Package fsys is the seam between the storage and the operating system: every
// file call that maildir makes goes through a Dir, so that a test can fail the
// n-th call, stop the world there, or ask what a power cut would leave (faultfs).
//
// A Dir is the descriptor of one directory. FS.Root opens a user's root, whose
// path the configuration names; all below is reached by Sub, one component at a
// time and never through a symbolic link. Files are reached by single-component
// names relative to the held descriptor. So no name that a client or another
// program chooses can traverse: what lies under a root stays under it, even when
// somebody swaps directories for links meanwhile. The one way through a link is
// FS.Under, an os.Root over a directory that the configuration allows.
//
// Opening never blocks (a fifo is refused like all that is not a regular file),
// creating never opens what is there, and Move never replaces.
//
// What a newcomer gets wrong: Rename replaces, as rename(2) does, and is for
// metadata files only; messages are moved by Move. And a Dir follows its
// directory, not its path: after a rename elsewhere it still serves the same
// files, and Path is only where they were when it was opened.
package fsys
