package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Place is where one user's mail is, every path absolute.
type Place struct {
	Mail    string
	Inbox   string // "" where it is Mail itself
	Control string // "" where it is beside the mail
	Index   string // "" where it is beside the mail

	Layout   string // "maildir++", "fs"
	Escape   string // "none", "backslash", "courier"
	UTF8     bool
	MailDir  string
	SubsFile string
}

// Locator turns users into places. It is immutable.
type Locator struct {
	base location
	home *Template // of users without one; nil for none
}

// location is a parsed mail location.
type location struct {
	mail, inbox, control, index *Template // nil where not given
	place                       Place     // what is the same for everybody
}

// Locator reads the templates of mail.*; the error joins one for each key that is
// wrong, and names it.
func (m Mail) Locator() (*Locator, error) {
	var wrong []error
	l := &Locator{base: location{place: Place{Layout: m.Layout, Escape: m.Escape, UTF8: m.UTF8, MailDir: m.MailDir, SubsFile: m.SubsFile}}}
	for _, t := range []struct {
		key, text string
		to        **Template
	}{
		{"mail.home", m.Home, &l.home},
		{"mail.inbox_dir", m.InboxDir, &l.base.inbox},
		{"mail.control_dir", m.ControlDir, &l.base.control},
		{"mail.index_dir", m.IndexDir, &l.base.index},
	} {
		if t.text == "" {
			continue
		}
		var err error
		if *t.to, err = ParseTemplate(t.text); err != nil {
			wrong = append(wrong, &keyError{t.key, err})
		}
	}
	if err := l.base.parse(m.Location); err != nil {
		wrong = append(wrong, &keyError{"mail.location", err})
	}
	if wrong != nil {
		return nil, errors.Join(wrong...)
	}
	return l, nil
}

// keyError is an error of one key's value.
type keyError struct {
	key string
	err error
}

func (e *keyError) Error() string { return e.key + " " + e.err.Error() }
func (e *keyError) Unwrap() error { return e.err }

// Place gives the place of one user. home and mail are what the user's own entry
// says, "" for nothing; mail is a location as in mail.location.
func (l *Locator) Place(name, home, mail string) (Place, error) {
	who := Person{Name: name, Home: home}
	if home == "" && l.home != nil {
		var err error
		if who.Home, err = l.home.Expand(who); err != nil {
			return Place{}, fmt.Errorf("mail.home %w", err)
		}
	}
	loc := l.base
	if mail != "" {
		if err := loc.parse(mail); err != nil {
			return Place{}, fmt.Errorf("mail location of user %q: %w", name, err)
		}
	}
	p := loc.place
	for _, t := range []struct {
		from *Template
		to   *string
	}{{loc.mail, &p.Mail}, {loc.inbox, &p.Inbox}, {loc.control, &p.Control}, {loc.index, &p.Index}} {
		if t.from == nil {
			continue
		}
		var err error
		if *t.to, err = t.from.Expand(who); err != nil {
			return Place{}, fmt.Errorf("mail location %w", err)
		}
	}
	return p, nil
}

// Prefixes are the directories in which the configuration alone places mail, whoever the
// user is, and beside those in which it places what Roost keeps about it (control and
// index), which need not be there before. Of what is in homes of which the configuration
// does not say where they are it knows nothing.
func (l *Locator) Prefixes() (mail, beside []string) {
	for i, t := range []*Template{l.base.mail, l.base.inbox, l.base.control, l.base.index} {
		if t == nil {
			continue
		}
		prefix, list := t.Prefix(), &mail
		if prefix == "" && l.home != nil {
			prefix = l.home.Prefix()
		} else if i >= 2 {
			list = &beside
		}
		if prefix != "" && !slices.Contains(*list, prefix) {
			*list = append(*list, prefix)
		}
	}
	return mail, beside
}

// ignored are Dovecot's options that change nothing of what Roost keeps.
var ignored = map[string]bool{
	"VOLATILEDIR": true, "LISTINDEX": true, "ITERINDEX": true, "NO-NOSELECT": true,
	"NO-FS-VALIDATION": true, "INDEXCACHE": true, "KEEP-NOSELECT": true, "BROKENCHAR": true,
}

// parse reads a path, or Dovecot's "maildir:PATH:OPTION:KEY=VALUE", over what l
// holds already. "::" is a colon.
func (l *location) parse(s string) (err error) {
	driver, options, ok := strings.Cut(s, ":")
	switch {
	case s == "":
		return errors.New("is empty; write a path such as ~/Maildir")
	case strings.HasPrefix(s, "/") || strings.HasPrefix(s, "~") || strings.HasPrefix(s, "%"):
		l.mail, err = ParseTemplate(trimSlash(s))
		return err
	case !ok:
		return fmt.Errorf("%q: a path starts with /, ~ or %%h", s)
	case driver != "maildir":
		return fmt.Errorf("%q: Roost serves Maildirs only, not %s", s, driver)
	}
	fields := splitColons(options)
	if l.mail, err = ParseTemplate(trimSlash(fields[0])); err != nil {
		return err
	}
	for _, f := range fields[1:] {
		if err := l.option(f); err != nil {
			return fmt.Errorf("%q: %w", s, err)
		}
	}
	return nil
}

// option takes one option of Dovecot's form.
func (l *location) option(f string) (err error) {
	key, value, _ := strings.Cut(f, "=")
	switch strings.ToUpper(key) {
	case "":
	case "LAYOUT":
		switch strings.ToLower(value) {
		case "fs", "maildir++":
			l.place.Layout = strings.ToLower(value)
		default:
			return fmt.Errorf("LAYOUT=%s is not supported, only Maildir++ and fs are", value)
		}
	case "INBOX":
		l.inbox, err = ParseTemplate(trimSlash(value))
	case "CONTROL":
		l.control, err = ParseTemplate(trimSlash(value))
	case "INDEX":
		if value == "MEMORY" {
			return errors.New("INDEX=MEMORY is not supported; leave it out, or give a directory that may be emptied")
		}
		l.index, err = ParseTemplate(trimSlash(value))
	case "UTF-8":
		l.place.UTF8 = true
	case "SUBSCRIPTIONS":
		l.place.SubsFile = value
		return checkComponent(value)
	case "DIRNAME", "FULLDIRNAME":
		l.place.MailDir = value
		return checkComponent(value)
	default:
		if !ignored[strings.ToUpper(key)] {
			return fmt.Errorf("the option %s is not supported", key)
		}
	}
	return err
}

// checkComponent refuses what cannot be one name in a directory.
func checkComponent(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q cannot be the name of a file", name)
	}
	return nil
}

// trimSlash drops the slash with which MTAs end the path of a Maildir.
func trimSlash(s string) string {
	if t := strings.TrimRight(s, "/"); t != "" {
		return t
	}
	return s
}

// splitColons splits at single colons; a double one is a colon.
func splitColons(s string) (fields []string) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != ':':
			b.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == ':':
			b.WriteByte(':')
			i++
		default:
			fields = append(fields, b.String())
			b.Reset()
		}
	}
	return append(fields, b.String())
}
