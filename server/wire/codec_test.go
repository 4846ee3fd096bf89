package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
)

func TestNumSet(t *testing.T) {
	for in, want := range map[string]string{
		"1":                "1",
		"2,4:7,9,12:*":     "2,4:7,9,12:*",
		"*:4,5:7":          "4:*",
		"5:7,*:4":          "4:*",
		"9:3":              "3:9",
		"*":                "*",
		"*:*":              "*",
		"3,*":              "3,*",
		"1:3,4,5:6":        "1:6",
		"5,1,3,1:2":        "1:3,5",
		"4294967295:*":     "4294967295:*",
		"4294967295,1":     "1,4294967295",
		"1:4294967295,2:3": "1:4294967295",
	} {
		seq, err := lexerOf(in + " ").SeqSet()
		if err != nil || seq.String() != want {
			t.Errorf("%q gives %q, %v; want %q", in, seq.String(), err, want)
		}
		uids, err := lexerOf(in + " ").UIDSet()
		if err != nil || uids.String() != want {
			t.Errorf("UIDs: %q gives %q, %v; want %q", in, uids.String(), err, want)
		}
	}
	for _, in := range []string{"0", "1,", ",1", "1:", "a", "1:0", "4294967296", "-1", "$,1"} {
		if set, err := lexerOf(in + " ").SeqSet(); err == nil {
			t.Errorf("%q gives %v", in, set)
		}
	}
	for _, uid := range []bool{true, false} {
		if set, err := lexerOf("$ ").NumSet(uid); err != nil || !imap.IsSearchRes(set) {
			t.Errorf("$ gives %v, %v", set, err)
		}
	}
}

// 20,000 UIDs in one command, as Horde sends them, backwards: sorted, not inserted
// one by one.
func TestNumSetLarge(t *testing.T) {
	var b []byte
	for n := uint32(60000); n > 0; n -= 3 {
		b = append(AppendSet(b, []uint32{n}), ',')
	}
	set, err := lexerOf(string(b) + "1 ").SeqSet()
	if err != nil || len(set) != 20001 {
		t.Errorf("%d ranges, %v", len(set), err)
	}
}

func TestAppendSet(t *testing.T) {
	for want, in := range map[string][]imap.UID{
		"":          nil,
		"1":         {1},
		"1:3,5,7:8": {1, 2, 3, 5, 7, 8},
		"9,4:5":     {9, 4, 5}, // COPYUID pairs: order counts
	} {
		if got := string(AppendSet(nil, in)); got != want {
			t.Errorf("%v gives %q, want %q", in, got, want)
		}
	}
}

func TestMailboxNames(t *testing.T) {
	for wire, name := range map[string]string{
		"INBOX":                           "INBOX",
		"~peter/mail/&U,BTFw-/&ZeVnLIqe-": "~peter/mail/台北/日本語", // RFC 3501 section 5.1.3
		"Hi Mom -&Jjo--!":                 "Hi Mom -☺-!",
		"&-":                              "&",
		"A&-&-B":                          "A&&B",
		"&2D3eAA-":                        "😀",
		"Entw&APw-rfe":                    "Entwürfe",
		"&AAo-":                           "\n",
	} {
		got, err := DecodeMailbox(wire)
		if err != nil || got != name {
			t.Errorf("%q is %q, %v; want %q", wire, got, err, name)
		}
		if got := EncodeMailbox(name); got != wire {
			t.Errorf("%q becomes %q, want %q", name, got, wire)
		}
	}
	for _, wire := range []string{"&", "a&b", "&A-", "&AAA-", "&2D0-", "&3gA-", "&@@@@-", "\xff"} {
		if got, err := DecodeMailbox(wire); err == nil {
			t.Errorf("%q is %q", wire, got)
		}
	}
	if got, err := DecodeMailbox("Entwürfe"); err != nil || got != "Entwürfe" {
		t.Errorf("UTF-8 gives %q, %v", got, err)
	}
}

func TestDates(t *testing.T) {
	want := time.Date(2024, 2, 1, 3, 4, 5, 0, time.UTC)
	for _, in := range []string{
		`" 1-Feb-2024 03:04:05 +0000"`, `"1-Feb-2024 03:04:05 -0000"`, `"01-feb-2024 04:04:05 +0100"`,
	} {
		got, err := lexerOf(in).DateTime()
		if err != nil || !got.Equal(want) {
			t.Errorf("%s is %v, %v", in, got, err)
		}
	}
	for _, in := range []string{`"32-Feb-2024 03:04:05 +0000"`, `"1-Feb-2024"`, `1-Feb-2024`, `""`, `NIL`} {
		if got, err := lexerOf(in).DateTime(); err == nil {
			t.Errorf("%s is %v", in, got)
		}
	}
	if got := string(AppendDateTime(nil, want)); got != `" 1-Feb-2024 03:04:05 +0000"` {
		t.Error(got)
	}
	if got := string(AppendDateTime(nil, time.Unix(1<<40, 0).UTC())); len(got) != 28 {
		t.Error(got)
	}
	for _, in := range []string{"1-Feb-2024 ", `"1-Feb-2024"`, `"01-FEB-2024"`} {
		if got, err := lexerOf(in).Date(); err != nil || got != time.Date(2024, 2, 1, 0, 0, 0, 0, time.UTC) {
			t.Errorf("%s is %v, %v", in, got, err)
		}
	}
}

func TestEncoder(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(*Encoder)
		utf8 bool
		want string
	}{
		{"quoted", func(e *Encoder) { e.String(`a "b" \c`) }, false, `"a \"b\" \\c"`},
		{"a line end needs a literal", func(e *Encoder) { e.String("a\r\nb") }, false, "{4}\r\na\r\nb"},
		{"8 bits need a literal", func(e *Encoder) { e.String("ü") }, false, "{2}\r\nü"},
		{"or UTF-8", func(e *Encoder) { e.String("ü") }, true, `"ü"`},
		{"which it must be", func(e *Encoder) { e.String("\xfc") }, true, "{1}\r\n\xfc"},
		{"NUL is left out", func(e *Encoder) { e.String("a\x00b") }, false, `"ab"`},
		{"what is long needs a literal", func(e *Encoder) { e.String(strings.Repeat("x", 4096)).String(strings.Repeat("x", 4097)) }, true,
			`"` + strings.Repeat("x", 4096) + "\"{4097}\r\n" + strings.Repeat("x", 4097)},
		{"NIL", func(e *Encoder) { e.NString("x", false).SP().NString("", true) }, false, `NIL ""`},
		{"a mailbox called NIL", func(e *Encoder) { e.Mailbox("NIL") }, false, `"NIL"`},
		{"a mailbox", func(e *Encoder) { e.Mailbox("a]b").SP().Mailbox("x y").SP().Mailbox("ü") }, false, `a]b "x y" &APw-`},
		{"a mailbox in UTF-8", func(e *Encoder) { e.Mailbox("ü&") }, true, `"ü&"`},
		{"flags", func(e *Encoder) { e.Flags(nil).Flags([]imap.Flag{`\Seen`, "x"}) }, false, `()(\Seen x)`},
		{"numbers", func(e *Encoder) { e.Untagged(7).Number(1<<64 - 1) }, false, "* 7 18446744073709551615"},
		{"sets", func(e *Encoder) { e.UIDs([]imap.UID{1, 2, 4}).SP().Nums([]uint32{3}) }, false, "1:2,4 3"},
		{"a literal holds no NUL", func(e *Encoder) {
			e.Literal(5, func(w io.Writer) error { _, err := w.Write([]byte("a\x00b\x00\x00")); return err })
		}, false, "{5}\r\na\x80b\x80\x80"},
		{"a literal8 does", func(e *Encoder) {
			e.Literal8(3, func(w io.Writer) error { _, err := w.Write([]byte("a\x00b")); return err })
		}, false, "~{3}\r\na\x00b"},
		{"what is too long is cut", func(e *Encoder) {
			e.Literal(2, func(w io.Writer) error { _, err := io.WriteString(w, "abc"); return err })
			e.Raw(")")
		}, false, "{2}\r\nab)"},
	} {
		var b bytes.Buffer
		e := NewEncoder(&b)
		e.UTF8 = tc.utf8
		tc.do(e)
		if b.Len() != 0 {
			t.Errorf("%s: written before Flush", tc.name)
		}
		if err := e.Flush(); err != nil || b.String() != tc.want {
			t.Errorf("%s: %q, %v; want %q", tc.name, b.String(), err, tc.want)
		}
		if e.buf != nil || e.Written() != int64(len(tc.want)) {
			t.Errorf("%s: buffer kept, or %d counted", tc.name, e.Written())
		}
	}
}

func TestEncoderShortLiteral(t *testing.T) {
	e := NewEncoder(io.Discard)
	broken := errors.New("broken")
	err := e.Literal(5, func(w io.Writer) error { io.WriteString(w, "abc"); return broken })
	if !errors.Is(err, ErrShortLiteral) || !errors.Is(err, broken) || !errors.Is(e.Flush(), ErrShortLiteral) {
		t.Errorf("got %v, then %v", err, e.Err())
	}
}

// Large answers go out in pieces, whole and in order.
func TestEncoderLarge(t *testing.T) {
	var b bytes.Buffer
	e := NewEncoder(&b)
	var want strings.Builder
	for i := range 5000 {
		s := strings.Repeat(string(rune('a'+i%26)), i%97)
		want.WriteString(s)
		if i%2 == 0 {
			e.Raw(s)
		} else {
			io.WriteString(e, s)
		}
	}
	e.Flush()
	if b.String() != want.String() {
		t.Error("bytes differ")
	}
}

func TestUnixTimeIsTheDateTimeOfThatMoment(t *testing.T) {
	check := func(sec int64) {
		t.Helper()
		want := string(AppendDateTime(nil, time.Unix(sec, 0).UTC()))
		if got := string(AppendUnixTime(nil, sec)); got != want {
			t.Fatalf("%d: %s, want %s", sec, got, want)
		}
	}
	for _, sec := range []int64{0, -1, 1, -62135596800, -62135596801, 253402300799, 253402300800, 1 << 40, -1 << 40, -1 << 62, 1 << 62} {
		check(sec)
	}
	for day := int64(-719_162); day <= 2_932_896; day += 17 {
		check(day * 86400)
		check(day*86400 + 86399 - day%7)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		check(r.Int64N(400*366*86400) - 86400*366*50)
	}
}

// What is made in the buffer itself comes out as what is handed over, NULs and all, wherever
// the buffer ends.
func TestLiteralMadeInItsRoom(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 2))
		text := make([]byte, rng.IntN(3*wideBytes))
		for i := range text {
			text[i] = "ab\x00\r\n"[rng.IntN(5)]
		}
		var got, want bytes.Buffer
		e := NewEncoder(&got)
		for range 3 {
			before := strings.Repeat("x", rng.IntN(encoderBytes))
			e.Write(append(e.Free(2), before...)) // more than there need be room for
			fmt.Fprintf(&want, "%s{%d}\r\n%s", before, len(text), strings.ReplaceAll(string(text), "\x00", "\x80"))
			e.Literal(int64(len(text)), func(w io.Writer) error {
				roomy := w.(interface{ Room() []byte })
				for b := text; len(b) > 0; {
					room := roomy.Room()
					if cap(room) < literalRoom {
						t.Fatalf("room of %d bytes", cap(room))
					}
					k := min(len(b), 1+rng.IntN(cap(room)))
					if _, err := w.Write(append(room, b[:k]...)); err != nil {
						return err
					}
					b = b[k:]
				}
				return nil
			})
		}
		if e.Flush() != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Fatalf("seed %d: another text", seed)
		}
	}
}
