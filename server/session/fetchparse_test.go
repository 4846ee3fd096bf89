package session

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"roost/server/wire"
)

func parseFetchItems(s string) ([]fetchItem, error) {
	lex := wire.NewLexer(strings.NewReader(s+"\r\n"), nil, wire.Limits{}, wire.Hooks{})
	if err := lex.Wait(); err != nil {
		return nil, err
	}
	items, err := parseItems(lex)
	if err == nil {
		err = lex.End()
	}
	return items, err
}

// FuzzFetchItems: an item, written as a response names it, is read as the same.
func FuzzFetchItems(f *testing.F) {
	for _, s := range []string{"ALL", "(UID FLAGS RFC822.TEXT)", "BODY.PEEK[HEADER.FIELDS (a \"b c\")]<1.2>",
		"(BINARY[1.2]<0.5> BINARY.SIZE[] BODY[1.2.MIME] BODY[3.HEADER.FIELDS.NOT ({3+}\r\na\"b)])"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		items, err := parseFetchItems(s)
		if err != nil {
			return
		}
		if len(items) == 0 || len(items) > maxItems+5 {
			t.Fatalf("%q gives %d items", s, len(items))
		}
		for _, item := range items {
			if item.kind < fetchSection || item.bare {
				continue
			}
			var b bytes.Buffer
			enc := wire.NewEncoder(&b)
			enc.UTF8 = true
			enc.Raw(item.name)
			item.section.write(enc, partial{})
			enc.Flush()
			again, err := parseFetchItems(b.String())
			if err != nil || len(again) != 1 || again[0].kind != item.kind || !reflect.DeepEqual(again[0].section, item.section) {
				t.Fatalf("%q is written as %q and read as %+v, %v", s, b.String(), again, err)
			}
		}
	})
}
