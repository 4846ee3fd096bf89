package config

import (
	"path"
	"strings"
	"testing"
)

// Answers of Dovecot 2.3.19.1 for the same templates and users.
func TestTemplateAsDovecot23(t *testing.T) {
	for _, user := range []struct {
		name  string
		wants map[string]string
	}{
		{"ann.lee@example.org", map[string]string{
			"%Lu": "ann.lee@example.org", "%Un": "ANN.LEE", "%d": "example.org",
			"%2.256Nu": "25", "%256Nu": "25", "%2.256Hu": "17", "%256Hu": "17", "%Nu": "5fddd725", "%Hu": "81c0017",
			"%1Mu": "7", "%2.1Mu": "4", "%Mu": "7b46be4e5fddd72590cfecc67a89132a", "%2.2Mu": "46", "%1Mn": "4",
			"%2u": "an", "%2.1u": "n", "%05n": "ann.lee", "%LRn": "eel.nna", "%3.4096Nd": "0c8", "%0.16Lu": "ann.lee@example.",
			"%{user}": "ann.lee@example.org", "%L{user}": "ann.lee@example.org", "%2.256N{user}": "25",
			"%{username}": "ann.lee", "%{domain}": "example.org", "%1.1n": "n", "%-3.2n": "le", "%%": "%", "%8.3Nu": "00000000",
		}},
		{"bob", map[string]string{
			"%2.256Nu": "ca", "%256Nu": "ca", "%2.256Hu": "52", "%Nu": "70ef21ca", "%Hu": "6952", "%1Mu": "9", "%2.1Mu": "9",
			"%Mu": "9f9d51bc70ef21ca5c14f307980a29d8", "%2u": "bo", "%2.1u": "b", "%05n": "00bob", "%3.4096Nd": "204", "%d": "",
			"%-3.2n": "bo", "%8.3Nu": "00000001",
		}},
		{"a", map[string]string{"%2.256Nu": "a8", "%2.256Hu": "61", "%Nu": "c0f1b6a8", "%2u": "a", "%2.1u": "", "%05n": "0000a", "%1.1n": ""}},
		{"b@c", map[string]string{"%2.256Nu": "62", "%256Hu": "63", "%Hu": "6663", "%2u": "b@", "%2.1u": "c", "%3.4096Nd": "737", "%8.3Nu": "00000002"}},
	} {
		for in, want := range user.wants {
			checkExpand(t, "/v/"+in+"/x", user.name, path.Clean("/v/"+want+"/x"))
		}
	}
}

// The forms of Dovecot 2.4; values as in its own tests, for the user "hello".
func TestTemplateAsDovecot24(t *testing.T) {
	for in, want := range map[string]string{
		"%{user}": "hello", "%{ user | upper }": "HELLO", "%{user|upper|lower}": "hello",
		"%{user | substr(1, 2)}": "el", "%{user | substr(-2, 2)}": "lo", "%{user | substr(2, -2)}": "l",
		"%{user | substr(0, -1)}": "hell", "%{user | substr(-5)}": "hello", "%{user | reverse}": "olleh",
		"%{user | sha1}":                          "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d",
		"%{user | truncate(4)}":                   "hell",
		"%{user | truncate(40)}":                  "hello",
		"%{user | md5 | hexlify(8)}":              "5d41402a",
		"%{user | md5 | substr(4,4)}":             "bc4b2a76",
		"%{user | md5 | substr(0,8) % 256 | hex}": "76",
		"%{user | md5 % 256 | hex}":               "92",
		"%{user | md5 % 30 | hex(2)}":             "16",
		"%{user | md5 % 30 | hex(4)}":             "0016",
		"%{user | md5 % 30 | hex(-4)}":            "1600",
		"%{user | sha512 % 256 | hex}":            "43",
	} {
		checkExpand(t, "/v/"+in, "hello", "/v/"+want)
	}
	checkExpand(t, "/v/%{user | domain | lower}/%{user | username}", "Ann@EXAMPLE.org", "/v/example.org/Ann")
	checkExpand(t, "%{home}/Maildir", "ann", "/home/ann/Maildir")
	checkExpand(t, "~/Maildir", "ann", "/home/ann/Maildir")
	checkExpand(t, "%h", "ann", "/home/ann")
	// A 2.3 user without a domain, as Dovecot has it.
	checkExpand(t, "/var/vmail/%d/%n", "bob", "/var/vmail/bob")
}

func checkExpand(t *testing.T, template, user, want string) {
	t.Helper()
	tm, err := ParseTemplate(template)
	if err != nil {
		t.Errorf("%s: %v", template, err)
		return
	}
	got, err := tm.Expand(Person{Name: user, Home: "/home/ann/"})
	if err != nil || got != want {
		t.Errorf("%s for %s: %q, %v; want %q", template, user, got, err, want)
	}
}

func TestTemplateErrors(t *testing.T) {
	for in, want := range map[string]string{
		"Maildir":                       "a path starts with",
		"":                              "a path starts with",
		"%u/Maildir":                    "a path starts with",
		"~ann/Maildir":                  "one's own home",
		"/v/%x":                         `unknown variable "x"`,
		"/v/%s":                         `unknown variable "s"`,
		"/v/%":                          "ends before its variable",
		"/v/%2.256N":                    "ends before its variable",
		"/v/%{user":                     "has no }",
		"/v/%L{user":                    "has no }",
		"/v/%{u}":                       "unknown variable",
		"/v/%{passwd}":                  "unknown variable",
		"/v/%-2u":                       "cannot be negative",
		"/v/%99999999999999999999u":     "too large",
		"/v/%2.99999999999999999999Nu":  "too large",
		"/v/%{user | base64}":           "unknown filter",
		"/v/%{user | substr}":           "unknown filter",
		"/v/%{user | substr(1}":         "has no )",
		"/v/%{user | substr('1')}":      "is no number",
		"/v/%{user | md5 % 0 | hex(2)}": "is no number",
		"/v/\x00/%u":                    "NUL",
	} {
		if _, err := ParseTemplate(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseTemplate(%q): %v, want %q", in, err, want)
		}
	}
}

// No name leads out of the place that the template gives.
func TestExpandRefuses(t *testing.T) {
	for _, tt := range []struct{ template, user, home, want string }{
		{"/v/%u/M", "../root", "", "cannot be part of a path"},
		{"/v/%u/M", "..", "", `".." cannot be part`},
		{"/v/%u/M", ".", "", `"." cannot be part`},
		{"/v/%n/M", "..@example.org", "", `".." cannot be part`},
		{"/v/.%n", ".", "", `".." cannot be part`},
		{"/v/%1u%1u", ".x", "", `".." cannot be part`},
		{"/v/%u", "a/b", "", "cannot be part of a path"},
		{"/v/%u", "a\x00b", "", "cannot be part of a path"},
		{"/v/%u", "a\nb", "", "cannot be part of a path"},
		{"/v/%d", "bob", "", "no variable may be empty"},
		{"/v/%u", "", "", "no variable may be empty"},
		{"/v/%{user | substr(3)}", "ab", "", "substr leaves"},
		{"/v/%{user | hex(2)}", "ab", "", "no number"},
		{"~/M", "ann", "", "no home directory is known"},
		{"~/M", "ann", "home/ann", "no home directory is known"},
	} {
		tm, err := ParseTemplate(tt.template)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tm.Expand(Person{tt.user, tt.home}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s for %q: %q, %v; want error %q", tt.template, tt.user, got, err, tt.want)
		}
	}
}

// Whatever the template and the name, what comes out is an absolute clean path
// below the template's literal beginning.
func FuzzTemplate(f *testing.F) {
	f.Add("%d/%n/Maildir", "ann@example.org")
	f.Add("%2.256Nu/%1Mu/%{user | md5 % 256 | hex(2)}", "..")
	f.Add("%-3.2n.%05n%{user | substr(-2, 1)}", "../../x")
	f.Fuzz(func(t *testing.T, template, user string) {
		tm, err := ParseTemplate("/srv/mail/" + template)
		if err != nil {
			return
		}
		got, err := tm.Expand(Person{Name: user})
		if err != nil {
			return
		}
		if got != path.Clean(got) || !strings.HasPrefix(got, "/srv/mail") || strings.ContainsRune(got, 0) && !strings.ContainsRune(template, 0) {
			t.Fatalf("%q for %q gives %q", template, user, got)
		}
		if strings.Count(got, "/") > 3+strings.Count(template, "/") {
			t.Fatalf("%q for %q gives %q: a level more than the template has", template, user, got)
		}
	})
}

func TestLocator(t *testing.T) {
	for _, tt := range []struct {
		about            string
		mail             Mail
		user, home, over string
		want             Place
		wantErr          string
	}{
		{about: "plain", mail: Mail{Location: "~/Maildir/", Layout: "maildir++"}, user: "ann", home: "/home/ann",
			want: Place{Mail: "/home/ann/Maildir", Layout: "maildir++"}},
		{about: "home from the template", mail: Mail{Location: "~/mail", Home: "/var/vmail/%d/%n"}, user: "ann@x.org",
			want: Place{Mail: "/var/vmail/x.org/ann/mail"}},
		{about: "the keys", mail: Mail{Location: "/v/%u", InboxDir: "/in/%u", ControlDir: "/c/%u", IndexDir: "/i/%u", Layout: "fs", Escape: "backslash", UTF8: true, MailDir: "mbox", SubsFile: "subs"}, user: "ann",
			want: Place{Mail: "/v/ann", Inbox: "/in/ann", Control: "/c/ann", Index: "/i/ann", Layout: "fs", Escape: "backslash", UTF8: true, MailDir: "mbox", SubsFile: "subs"}},
		{about: "Dovecot's form", mail: Mail{Location: "maildir:~/Maildir:LAYOUT=fs:INBOX=~/in:INDEX=/i/%u:CONTROL=~/c/:UTF-8:SUBSCRIPTIONS=subs:DIRNAME=dbox:NO-NOSELECT", Layout: "maildir++", IndexDir: "/old"}, user: "ann", home: "/h",
			want: Place{Mail: "/h/Maildir", Inbox: "/h/in", Control: "/h/c", Index: "/i/ann", Layout: "fs", UTF8: true, MailDir: "dbox", SubsFile: "subs"}},
		{about: "colon", mail: Mail{Location: "maildir:/a::b/%u"}, user: "ann", want: Place{Mail: "/a:b/ann"}},
		{about: "the user's own", mail: Mail{Location: "~/Maildir", ControlDir: "/c/%u"}, user: "ann", home: "/h", over: "maildir:/own/%n:INDEX=/i",
			want: Place{Mail: "/own/ann", Control: "/c/ann", Index: "/i"}},
		{about: "the user's own, wrong", mail: Mail{Location: "~/Maildir"}, user: "ann", home: "/h", over: "mbox:~/mail", wantErr: `user "ann"`},
		{about: "mbox", mail: Mail{Location: "mbox:~/mail"}, wantErr: "Maildirs only"},
		{about: "relative", mail: Mail{Location: "Maildir"}, wantErr: "a path starts with"},
		{about: "nothing", mail: Mail{}, wantErr: "is empty"},
		{about: "layout", mail: Mail{Location: "maildir:~/M:LAYOUT=index"}, wantErr: "LAYOUT=index"},
		{about: "memory", mail: Mail{Location: "maildir:~/M:INDEX=MEMORY"}, wantErr: "INDEX=MEMORY"},
		{about: "option", mail: Mail{Location: "maildir:~/M:ALT=/x"}, wantErr: "ALT"},
		{about: "component", mail: Mail{Location: "maildir:~/M:SUBSCRIPTIONS=../x"}, wantErr: "name of a file"},
	} {
		l, err := tt.mail.Locator()
		var got Place
		if err == nil {
			got, err = l.Place(tt.user, tt.home, tt.over)
		}
		if tt.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("%s: %+v, %v; want error %q", tt.about, got, err, tt.wantErr)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("%s:\ngot  %+v, %v\nwant %+v", tt.about, got, err, tt.want)
		}
	}
}
