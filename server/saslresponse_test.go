package server

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"roost/server/wire"
)

// A SASL response is what encoding/base64 reads of the line, or none.
func FuzzSASLResponse(f *testing.F) {
	f.Add("AGFubgBzZWNyZXQ=", true)
	f.Add("=", true)
	f.Add("=", false)
	f.Add("*", false)
	f.Add("QQ==QQ==", false)
	f.Add("QR==", false)
	f.Add("Q", true)
	f.Add("QUI\x00", false)
	f.Fuzz(func(t *testing.T, line string, initial bool) {
		if strings.ContainsAny(line, "\r\n ") || len(line) > 1000 {
			return
		}
		d := &door{lex: wire.NewLexer(strings.NewReader(line+"\r\n"), nil, wire.Limits{}, wire.Hooks{})}
		got, err := d.response(initial)
		want, werr := base64.StdEncoding.DecodeString(line)
		switch {
		case initial && line == "=":
			want, werr = nil, nil
		case !initial && line == "*":
			if !errors.Is(err, errCancelled) {
				t.Errorf("%q: %v", line, err)
			}
			return
		}
		if (err == nil) != (werr == nil) || err == nil && !bytes.Equal(got, want) {
			t.Errorf("%q: %q %v, want %q %v", line, got, err, want, werr)
		}
		if err == nil && !d.lex.AtEnd() {
			t.Errorf("%q: not read to its end", line)
		}
	})
}
