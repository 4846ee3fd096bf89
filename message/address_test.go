package message

import (
	"slices"
	"strings"
	"testing"
)

// showAddresses writes a list as name<@route:mailbox@host>, groups as name{ and }.
func showAddresses(list []Address) string {
	var out []string
	for _, a := range list {
		switch a.Kind {
		case GroupStart:
			out = append(out, a.Mailbox+"{")
		case GroupEnd:
			out = append(out, "}")
		default:
			s := a.Name + "<"
			if a.Route != "" {
				s += a.Route + ":"
			}
			out = append(out, s+a.Mailbox+"@"+a.Host+">")
		}
	}
	return strings.Join(out, " ")
}

func TestAddresses(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		// RFC 5322 appendix A.1 and A.5, A.6.1
		{`John Doe <jdoe@machine.example>`, `John Doe<jdoe@machine.example>`},
		{`"Joe Q. Public" <john.q.public@example.com>`, `Joe Q. Public<john.q.public@example.com>`},
		{`Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>`, `Mary Smith<mary@x.test> <jdoe@example.org> Who?<one@y.test>`},
		{`<boss@nil.test>, "Giant; \"Big\" Box" <sysservices@example.net>`, `<boss@nil.test> Giant; "Big" Box<sysservices@example.net>`},
		{`A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;`, `A Group{ Ed Jones<c@a.test> <joe@where.test> John<jdoe@one.test> }`},
		{`Undisclosed recipients:;`, `Undisclosed recipients{ }`},
		{"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", `Pete<pete@silly.test>`},
		{`Mary Smith <@node.test,@node2.test:mary@example.net>, , jdoe@test  . example`, `Mary Smith<@node.test,@node2.test:mary@example.net> <jdoe@test.example>`},
		{"A Group(Some people)\r\n     :Chris Jones <c@(Chris's host.)public.example>,\r\n joe@example.org;", `A Group{ Chris Jones<c@public.example> <joe@example.org> }`},
		// What people write
		{`a@b (Real Name)`, `Real Name<a@b>`},
		{`<a@b> (Real Name)`, `Real Name<a@b>`},
		{`[List] x.y <a@b>`, `[List] x.y<a@b>`},
		{`a@b; c@d`, `<a@b> <c@d>`},
		{`a b c@d`, `a b<c@d>`},
		{`"a".b@c, a."b"@c, a . b@c`, `<a.b@c> <a.b@c> <a.b@c>`},
		{`"" <a@b>`, `<a@b>`},
		{`root`, `<root@MISSING_DOMAIN>`},
		{`Joe <>`, `Joe<MISSING_MAILBOX@MISSING_DOMAIN>`},
		{`a@[IPv6:::1], a@[un, closed`, `<a@[IPv6:::1]> <a@MISSING_DOMAIN>`},
		{`a@b..c, d@e`, `<a@MISSING_DOMAIN> <d@e>`},
		{`<a@b`, `<a@b>`},
		{`<a@b, c@d>`, `<a@b> <c@d>`},
		{`G: a@b, H: c@d;, e@f`, `G{ <a@b> H<c@d> } <e@f>`},
		{`G: a@b`, `G{ <a@b> }`},
		{`G: x <a@b>; y@z`, `G{ x<a@b> } <y@z>`},
		{`(only a comment)`, ``},
		{`,;:,<`, `<MISSING_MAILBOX@MISSING_DOMAIN>`},
		{`(open comment a@b`, ``},
		{`"open quote a@b`, `<open quote a@b@MISSING_DOMAIN>`},
		{`a@b\`, `<a@b>`},
		{"\xff\x00 <\xfe@\xfd>", "\xff\ufffd<\xfe@\xfd>"},
	} {
		if got := showAddresses(appendAddresses(nil, []byte(c.in))); got != c.want {
			t.Errorf("%q\n\tis   %s\n\twant %s", c.in, got, c.want)
		}
	}
}

func FuzzAddresses(f *testing.F) {
	f.Add([]byte(`A Group:Ed Jones <c@a.test>,joe@where.test (x),John <@a,@b:jdoe@one.test>; "q" . x@[1\]2]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		list := appendAddresses(nil, b)
		if len(list) > 2*len(b)+1 {
			t.Fatalf("%d addresses from %d bytes", len(list), len(b))
		}
		in := false
		for _, a := range list {
			switch a.Kind {
			case GroupStart:
				if in {
					t.Fatal("a group in a group")
				}
				in = true
			case GroupEnd:
				if !in {
					t.Fatal("the end of no group")
				}
				in = false
			default:
				if a.Host == "" {
					t.Fatal("an address without a host would be a group")
				}
			}
			for _, s := range []string{a.Name, a.Route, a.Mailbox, a.Host} {
				if strings.ContainsAny(s, "\x00") {
					t.Fatalf("NUL in %q", s)
				}
			}
		}
		if in {
			t.Fatal("a group without end")
		}
		// What was read is read the same when a comma and another address follow, unless
		// something in it was left open.
		if !slices.ContainsFunc(b, func(c byte) bool { return strings.IndexByte(`"([<\:;@`, c) >= 0 }) {
			more := appendAddresses(nil, append(slices.Clone(b), ", z@z"...))
			if len(more) != len(list)+1 {
				t.Fatalf("%d addresses, with one more %d", len(list), len(more))
			}
		}
	})
}

// The cost of an address list is its length, whatever is in it.
func TestAddressesAreLinear(t *testing.T) {
	for _, piece := range []string{"(", "(a) ", `"`, "<", "a.", "@a,", "<@a,", "a:", "[", `\`, "a@b,", ";", "g:a@b;"} {
		n := testing.AllocsPerRun(1, func() { appendAddresses(nil, []byte(strings.Repeat(piece, 2000))) })
		m := testing.AllocsPerRun(1, func() { appendAddresses(nil, []byte(strings.Repeat(piece, 20_000))) })
		if m > 12*n+100 {
			t.Errorf("%q: %.0f allocations for 2,000, %.0f for 20,000", piece, n, m)
		}
	}
}

func TestAddressesEndAtTheirLimit(t *testing.T) {
	list := appendAddresses(nil, []byte(strings.Repeat("g:a,", MaxAddresses)))
	if n := len(list); n > MaxAddresses+2 || list[n-1].Kind != GroupEnd {
		t.Errorf("%d entries, the last %+v", n, list[n-1])
	}
}
