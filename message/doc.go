// Package message reads mail: bytes in, ranges and text out. It knows no files,
// sessions or clocks, and imports nothing of Roost.
//
// The way of one message: Scanner is an io.Writer that sees the bytes once, as
// they are stored or streamed, and gives a flat list of Parts: where the header
// and the body of each entity lie, counted as if every line ended in CRLF,
// whatever the file holds. Everything later is a range of the message: a section
// of FETCH is Find and a Range, decoded text is a Range streamed through
// NewDecoder or NewTextWriter. While it scans, the header fields that ENVELOPE and
// BODYSTRUCTURE show are parsed into Info; they are not part of the compact form
// that AppendParts writes, for their answers are kept ready for the wire.
//
// Everything here is total: any bytes give an answer, nothing recurses on input,
// work is linear in length, and memory is bounded by Limits.
//
// What a newcomer gets wrong: a part's range ends before the line end that stands
// in front of the next boundary (RFC 2046 section 5.1.1), so a header can lose its
// blank line to it, and a body of "one\n" is 3 bytes in 0 lines.
package message
