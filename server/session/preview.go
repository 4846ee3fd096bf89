package session

import (
	"io"

	"roost/message"
	"roost/server/wire"
)

// PREVIEW, an item of FETCH: RFC 8970. What is made once is kept; LAZY gives NIL for what
// is not there yet.

// previewNote is the form in which a preview is kept: a byte in front tells an empty one
// from none.
func previewNote(text string) []byte { return append([]byte{'='}, text...) }

// makePreview makes the preview of an opened message whose parts are known.
func (m *opened) makePreview() error {
	text, err := message.Preview(m.parts, func(w io.Writer, rg message.Range) error {
		_, err := m.WriteRange(w, rg.Off, rg.Len)
		return err
	})
	if err != nil {
		return err
	}
	m.derived.set(notePreview, previewNote(text))
	return nil
}

// writePreview writes the item.
func (f *fetcher) writePreview(m *opened, notes *rowNotes) {
	note := ready(notePreview, m, notes)
	f.enc.Raw("PREVIEW ")
	if len(note) == 0 {
		f.enc.Raw("NIL")
		return
	}
	f.enc.String(string(note[1:]))
}

// lazyList reads the list of modifiers behind PREVIEW, at which lex stands.
func lazyList(lex *wire.Lexer) error {
	empty := true
	err := lex.List(func() error {
		empty = false
		name, err := lex.Keyword()
		if err == nil && name != "LAZY" {
			err = bad("Unknown modifier %s of PREVIEW", shown(name))
		}
		return err
	})
	if err == nil && empty {
		err = bad("The list of modifiers is empty")
	}
	return err
}
