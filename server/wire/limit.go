package wire

import (
	"errors"
	"fmt"
	"strconv"
)

// Limits bound what a client can make us hold or read. The zero value of a field
// is its default.
type Limits struct {
	Command int64 // bytes of one command, gathered literals included; 1 MiB
	Literal int64 // bytes of one literal that is gathered as a string; as Command
	Swallow int64 // bytes that Skip reads past for one command; 64 MiB and 64 KiB
}

// The defaults of Limits.
const (
	DefaultCommand = 1 << 20
	DefaultSwallow = 64<<20 + 64<<10
)

func (l Limits) withDefaults() Limits {
	if l.Command <= 0 {
		l.Command = DefaultCommand
	}
	if l.Literal <= 0 {
		l.Literal = l.Command
	}
	if l.Swallow <= 0 {
		l.Swallow = DefaultSwallow
	}
	return l
}

// SyntaxError says what a command should have had, and where. Offset counts the
// bytes of the command, its tag and its literals included, from 0.
type SyntaxError struct {
	Offset    int64
	Want, Got string
}

func (e *SyntaxError) Error() string {
	if e.Got == "" {
		return fmt.Sprintf("%s at byte %d", e.Want, e.Offset)
	}
	return fmt.Sprintf("expected %s at byte %d, got %s", e.Want, e.Offset, e.Got)
}

// shown makes a word of the client fit for a line of text.
func shown(s string) string {
	if len(s) > 40 {
		s = s[:40] + "..."
	}
	return strconv.QuoteToASCII(s)
}

// LimitError says that a command or one of its literals is longer than Limits allow.
type LimitError struct {
	Offset int64
	What   string // "command", "literal"
	Limit  int64  // bytes
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s is longer than %d bytes at byte %d", e.What, e.Limit, e.Offset)
}

// ErrSwallow is what Skip returns when a refused command is longer than
// Limits.Swallow: only the end of the connection keeps its rest from being read
// as commands.
var ErrSwallow = errors.New("refused command is too long to skip")
