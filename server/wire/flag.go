package wire

import "github.com/emersion/go-imap/v2"

// Flag reads one flag: a keyword, or an atom behind a backslash.
// RFC 9051 section 9, flag.
func (l *Lexer) Flag() (imap.Flag, error) {
	prefix := ""
	if l.Accept('\\') {
		if l.Accept('*') {
			return imap.FlagWildcard, nil
		}
		prefix = `\`
	}
	s, err := l.class("a flag", classAtom)
	return imap.Flag(prefix + s), err
}

// FlagList reads flags in parentheses.
func (l *Lexer) FlagList() ([]imap.Flag, error) {
	flags := []imap.Flag{}
	err := l.List(func() error {
		f, err := l.Flag()
		flags = append(flags, f)
		return err
	})
	return flags, err
}
