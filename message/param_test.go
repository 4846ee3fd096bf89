package message

import (
	"slices"
	"strings"
	"testing"
)

func TestParams(t *testing.T) {
	for in, want := range map[string][]Param{
		`a=b; c="d e"`:                {{"a", "b"}, {"c", "d e"}},
		` ; ;a=b;;`:                   {{"a", "b"}},
		`a = (x) b (y); c`:            {{"a", "b"}},
		`=x; a=b; "q"=r; c=`:          {{"a", "b"}, {"c", ""}},
		`a="open; b=c`:                nil,
		`a=/b:c?d`:                    {{"a", "/b:c?d"}},
		`x*0=a; x*1=b; y=z`:           {{"x", "ab"}, {"y", "z"}},
		`x*1=b; x*0=a`:                {{"x", "ab"}},
		`x*0=a; x*2=b`:                {{"x*0", "a"}, {"x*2", "b"}},
		`x*0=a; x*0=b`:                {{"x*0", "a"}, {"x*0", "b"}},
		`x*0*=u''%41; X*1="100%"`:     {{"x*", "u''%41100%25"}},
		`x*=u''%41; x=a`:              {{"x*", "u''%41"}, {"x", "a"}},
		`x*00=a; x*+0=b; x**=c; *0=d`: {{"x*00", "a"}, {"x*+0", "b"}, {"x**", "c"}, {"*0", "d"}},
	} {
		l := lexer{b: []byte(in)}
		if got := l.params(); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

func FuzzContentHeaders(f *testing.F) {
	f.Add([]byte("Content-Type: text/plain; a*0=b; a*1*=\"c\"\nContent-Disposition: x; y=(z)\nContent-Language: a, b\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, boundary := parseInfo(b, false)
		if info.Type == "" || info.Subtype == "" || info.Encoding == "" {
			t.Fatalf("%+v", info)
		}
		if strings.EqualFold(info.Type, "multipart") != (boundary != "") {
			t.Fatalf("%s/%s with boundary %q", info.Type, info.Subtype, boundary)
		}
		for _, p := range append(info.Params, info.DispositionParams...) {
			if p.Name == "" || strings.ContainsAny(p.Name+p.Value, "\x00\r\n") {
				t.Fatalf("parameter %q", p)
			}
		}
	})
}
