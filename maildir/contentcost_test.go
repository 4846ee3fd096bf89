package maildir

import (
	"bytes"
	"io"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"roost/test/usage"
)

// A search reads the header and the text of each part of a message by itself. Of a message
// of many parts each piece was converted from the beginning of what was held of the file.
func TestPiecesOfAMessageCostTheirLength(t *testing.T) {
	for _, c := range []struct {
		name  string
		end   string // of lines
		lines int    // four times as many too
	}{
		{"held, LF", "\n", 3_000},
		{"held, CRLF", "\r\n", 3_000},
		{"long, LF", "\n", 20_000},
		{"long, CRLF", "\r\n", 20_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			// cost gives the processor time of all pieces each time that it is called.
			cost := func(lines int) func() time.Duration {
				const text = "a line of many" // 16 bytes with its end
				m, err := writeMessage(t, bytes.Repeat([]byte(text+c.end), lines))
				if err != nil {
					t.Fatal(err)
				}
				if size, err := m.Size(); err != nil || size != 16*int64(lines) {
					t.Fatal(size, err)
				}
				return func() time.Duration {
					// A collection costs what other tests have left, and a short round may have none.
					runtime.GC()
					defer debug.SetGCPercent(debug.SetGCPercent(-1))
					before := usage.Processor(t)
					for off := int64(0); off < int64(16*lines); off += 48 {
						piece := make([]byte, 16)
						if _, err := m.ReadAt(piece, off); err != nil && err != io.EOF || string(piece) != text+"\r\n" {
							t.Fatalf("%q %v at %d", piece, err, off)
						}
						var out bytes.Buffer
						if _, err := m.WriteRange(&out, off+14, 3); err != nil || out.String() != "\r\na"[:out.Len()] || out.Len() < 2 {
							t.Fatalf("%q %v at %d", out.String(), err, off+1)
						}
					}
					return usage.Processor(t) - before
				}
			}
			short, long := cost(c.lines), cost(4*c.lines)
			// What disturbs a round adds to it: the least counts, of more rounds where it is much.
			one, four := time.Duration(1<<63-1), time.Duration(1<<63-1)
			for round := 0; round < 3 || round < 20 && four > 8*one; round++ {
				one, four = min(one, short()), min(four, long())
			}
			if four > 8*one {
				t.Errorf("%d pieces cost %v, %d cost %v", c.lines, one, 4*c.lines, four)
			}
			t.Logf("%d pieces: %v, %d: %v", c.lines/3, one, 4*c.lines/3, four)
		})
	}
}
