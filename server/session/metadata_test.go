package session

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"roost/store"
)

// annotatedStore fails what is asked of annotations.
type annotatedStore struct {
	store.Store
	err error
}

func (s *annotatedStore) Account(ctx context.Context, who store.Identity) (store.Account, error) {
	a, err := s.Store.Account(ctx, who)
	return &annotatedAccount{a, s}, err
}

type annotatedAccount struct {
	store.Account
	s *annotatedStore
}

func (a *annotatedAccount) Annotations(ctx context.Context, n store.Name) ([]store.Annotation, error) {
	if a.s.err != nil {
		return nil, a.s.err
	}
	return a.Account.Annotations(ctx, n)
}

func (a *annotatedAccount) Annotate(ctx context.Context, n store.Name, set []store.Annotation) error {
	if a.s.err != nil {
		return a.s.err
	}
	return a.Account.Annotate(ctx, n, set)
}

// Each failure has its response code: RFC 5464 section 4.3, RFC 5530 section 3.
func TestAnnotationsThatFail(t *testing.T) {
	st, who := mailboxOf(t, []byte(small))
	w := &annotatedStore{Store: st}
	p := dial(t, w, who)
	for _, c := range []struct {
		err      error
		set, get string
	}{
		{store.ErrTooBig, "NO [METADATA MAXSIZE 65536] ", ""},
		{store.ErrLimit, "NO [METADATA TOOMANY] ", ""},
		{store.ErrUnsupported, "NO [METADATA NOPRIVATE] ", ""},
		{store.ErrCannot, "NO [USEATTR] ", ""},
		{store.ErrNotFound, "NO [NONEXISTENT] ", "NO [NONEXISTENT] "},
		{store.ErrReadOnly, "NO [NOPERM] ", "NO [NOPERM] "},
		{store.ErrNoPermission, "NO [NOPERM] ", "NO [NOPERM] "},
		{store.ErrOverQuota, "NO [OVERQUOTA] ", ""},
		{store.ErrInUse, "NO [INUSE] ", ""},
		{&store.Explained{Err: store.ErrDamaged, Text: "Line 7 is bad"}, "NO [CORRUPTION] Line 7 is bad", "NO [CORRUPTION] Line 7 is bad"},
	} {
		w.err = fmt.Errorf("annotate: %w", c.err)
		if _, got := p.do(`SETMETADATA INBOX (/private/x "y")`); !strings.HasPrefix(got, c.set) {
			t.Errorf("%v: %q, want %q", c.err, got, c.set)
		}
		if _, got := p.do(`GETMETADATA INBOX /private/x`); c.get != "" && !strings.HasPrefix(got, c.get) {
			t.Errorf("%v: %q, want %q", c.err, got, c.get)
		}
	}
	// LIST shows the mailbox all the same: RFC 9590 section 3.
	untagged, got := p.do(`LIST "" INBOX RETURN (METADATA (/private/x))`)
	if len(untagged) != 1 || !strings.HasPrefix(got, "OK") {
		t.Errorf("LIST: %q, %q", untagged, got)
	}
}

// What one command may bring is bounded before it comes to the store.
func TestTooManyAnnotations(t *testing.T) {
	st, who := mailboxOf(t, []byte(small))
	p := dial(t, st, who)
	var many strings.Builder
	for i := range store.MaxAnnotations + 1 {
		fmt.Fprintf(&many, ` /private/n%d ""`, i)
	}
	if _, got := p.do(`SETMETADATA INBOX (%s)`, many.String()[1:]); !strings.HasPrefix(got, "NO [METADATA TOOMANY] ") {
		t.Errorf("%d entries: %q", store.MaxAnnotations+1, got)
	}
	long := strings.Repeat("x", store.MaxAnnotation)
	p.ok(`SETMETADATA INBOX (/private/x "%s")`, long)
	if _, got := p.do(`SETMETADATA INBOX (/private/x "%sy")`, long); !strings.HasPrefix(got, "NO [METADATA MAXSIZE 65536] ") {
		t.Errorf("a long value: %q", got)
	}
	var big strings.Builder
	for i := range store.MaxAnnotationBytes/store.MaxAnnotation + 1 {
		fmt.Fprintf(&big, " /private/n%d {%d+}\r\n%s", i, len(long), long)
	}
	if _, got := p.do(`SETMETADATA INBOX (%s)`, big.String()[1:]); !strings.HasPrefix(got, "NO [METADATA TOOMANY] ") {
		t.Errorf("many bytes: %.100q", got)
	}
	if got := p.ok(`GETMETADATA INBOX (MAXSIZE 10) (/private/x)`); len(got) != 0 {
		t.Errorf("GETMETADATA: %.100q", got)
	}
}
