package store

import "io"

// Message is one opened message. Offsets and sizes count every line end as CRLF,
// whatever the file holds. Safe for concurrent reads. What is read stays readable
// after the message is expunged, until Close.
type Message interface {
	io.ReaderAt

	// Size is the whole length in bytes. The first call may read the file.
	Size() (int64, error)

	// WriteRange streams n bytes from off to w and never holds them whole; fewer when
	// the message ends first. Errors of reading wrap ErrUnreadable, those of w are
	// returned as they are. What w is given may be in the Room of w itself.
	WriteRange(w io.Writer, off, n int64) (int64, error)

	// Stream writes all of it to w with the line ends that the file has, LF or CRLF: for
	// those to whom these are the same (message.Scanner), as it costs no conversion. Errors
	// as of WriteRange.
	Stream(w io.Writer) error

	Close() error
}

// Roomy is a Writer that lends its buffer: Room is an empty slice over at least RoomBytes that
// are free. What is appended to it and handed to the next Write is not copied again.
type Roomy interface {
	io.Writer
	Room() []byte
}

// RoomBytes is how many bytes a Room has at least.
const RoomBytes = 4 << 10
