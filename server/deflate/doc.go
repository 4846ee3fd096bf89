// Package deflate compresses one connection both ways (RFC 1951, raw DEFLATE) at the
// least cost while nothing is said: what is kept then is 512 bytes of what was sent and
// as much of what was received as the peer may refer to, at most 32 KiB.
//
// A Writer compresses each Write by itself, with the end of the one before as its
// dictionary. What it emits ends on a byte and leaves nothing behind, so no compressor
// has to be kept, and none is held while the peer reads slowly.
//
// A Reader is an inflater of our own: those of the libraries keep their window and tables
// of some 44 KiB from the first byte to the last and are lost at an error of the stream,
// where a timeout is what ends a look ahead. This one gives back what it holds between
// blocks, keeps its window compressed while it rests, and goes on after any error of the
// stream.
//
// What a newcomer gets wrong: between blocks does not mean between bytes. Up to 7 bits
// may be left over there, and they are kept.
package deflate
