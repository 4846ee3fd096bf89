package session

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const mimeDir = "../../message/testdata/mime"

// mimeAnswer is what the reference server said of one message.
type mimeAnswer struct {
	Size      int64                      `json:"RFC822.SIZE"`
	Envelope  json.RawMessage            `json:"ENVELOPE"`
	Structure json.RawMessage            `json:"BODYSTRUCTURE"`
	Body      json.RawMessage            `json:"BODY"`
	Fetch     map[string]json.RawMessage `json:"fetch"`
	Parts     map[string]map[string]json.RawMessage
}

func mimeAnswers(t testing.TB) (map[string]mimeAnswer, []string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(mimeDir, "EXPECTED.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	delete(all, "_about")
	answers, names := map[string]mimeAnswer{}, []string{}
	for name, raw := range all {
		var a mimeAnswer
		if err := json.Unmarshal(raw, &a); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		answers[name], names = a, append(names, name)
	}
	slices.Sort(names)
	return answers, names
}

// surrogates are bytes that were not UTF-8, as the fixture writes them.
var surrogates = regexp.MustCompile(`\\udc([0-9a-f]{2})`)

func fixtureText(raw json.RawMessage) (string, bool) {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return "", false
	}
	return surrogates.ReplaceAllStringFunc(s, func(m string) string {
		b, _ := hex.DecodeString(m[4:])
		return string(b)
	}), true
}

const allNIL = `(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)`

// What Roost answers where the reference server departs from the RFC, or is free
// and does worse.
var mimeDepartures = map[string]map[string]string{
	// RFC 2045 section 5.2: a Content-Type that cannot be parsed is text/plain; us-ascii.
	"ctype-00": {"BODYSTRUCTURE": plainText},
	"ctype-01": {"BODYSTRUCTURE": plainText},
	"ctype-02": {"BODYSTRUCTURE": plainText},
	"ctype-04": {"BODYSTRUCTURE": plainText},
	"ctype-05": {"BODYSTRUCTURE": plainText},
	"ctype-15": {"BODYSTRUCTURE": plainText},
	// The same of a multipart that has no boundary, so that its text can be read.
	"ctype-06": {"BODYSTRUCTURE": plainText},
	"ctype-07": {"BODYSTRUCTURE": plainText},
	"ctype-08": {"BODYSTRUCTURE": plainText},
	// RFC 2046 section 5.1.1: behind a boundary there are only blanks; longer lines are text.
	"mp-text-after-boundary": {"BODYSTRUCTURE": `((` + textPart("18 2") + `)(` + textPart("13 1") + `) "mixed" ("boundary" "X") NIL NIL NIL)`},
	"mp-prefix-boundary": {"BODYSTRUCTURE": `(((` + textPart("26 2") + `) "mixed" ("boundary" "X") NIL NIL NIL)(` +
		textPart("9 0") + `) "mixed" ("boundary" "XY") NIL NIL NIL)`},
	"mp-boundary-long": {"BODYSTRUCTURE": `((` + textPart("3 0") + `) "mixed" ("boundary" "` + strings.Repeat("b", 200) + `") NIL NIL NIL)`},
	"nested-200":       {"BODYSTRUCTURE": ""}, // see TestDeepNestingIsCut
	// Only the boundary's own line end is no content, in a message without a blank line too.
	"rfc822-base64": {"BODYSTRUCTURE": `(("message" "rfc822" NIL NIL NIL "base64" 156 ` + allNIL + ` (` + textPart("0 0") +
		`) 0 NIL NIL NIL NIL) "mixed" ("boundary" "X") NIL NIL NIL)`},
	// RFC 9051 section 9, media-message: message/global holds a message as message/rfc822 does.
	"global": {"BODYSTRUCTURE": `(("message" "global" NIL NIL NIL "7bit" 44 (NIL "\u00fc" (("\u00dc" NIL "\u00fc" "x.example")) ` +
		`(("\u00dc" NIL "\u00fc" "x.example")) (("\u00dc" NIL "\u00fc" "x.example")) NIL NIL NIL NIL NIL) (` + textPart("4 0") + `) 3 NIL NIL NIL NIL)` +
		`("message" "partial" ("id" "x" "number" "1" "total" "2") NIL NIL "7bit" 18 NIL NIL NIL NIL)` +
		`("message" "external-body" ("access-type" "URL" "URL" "http://x") NIL NIL "7bit" 25 NIL NIL NIL NIL)` +
		`("message" "delivery-status" NIL NIL NIL "7bit" 53 NIL NIL NIL NIL) "mixed" ("boundary" "X") NIL NIL NIL)`},
	// A list of languages is read to its end, past what is broken in it.
	"lang-list": {"BODYSTRUCTURE": `(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0 "x" NIL ("en") "a b")` +
		`("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0 NIL ("attachment" NIL) ("en" "de" "q") NIL)` +
		`("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0 NIL ("" ("filename" "x")) NIL NIL) "mixed" ("boundary" "X") NIL NIL NIL)`},
	// RFC 2231 section 9: continuations are joined, encodings kept; the order is that of the field.
	"rfc2231": {"BODYSTRUCTURE": `("application" "x-stuff" ("title*" "us-ascii'en'This%20is%20even%20more%20%2A%2A%2Afun%2A%2A%2A%20isn't it!" ` +
		`"name*" "UTF-8''%e2%82%ac.txt" "a" "onetwo" "b*0" "x" "b*2" "z" "c*" "bad%zzy") NIL NIL "7bit" 6 NIL ` +
		`("attachment" ("filename*" "UTF-8'de'Gr%C3%BC%C3%9Fe.txt" "filename" "plain.txt")) NIL NIL)`},
	// After a fault the list goes on at the next comma.
	"broken-addr": {"ENVELOPE": `(NIL "broken" ((NIL NIL "a" "MISSING_DOMAIN"))((NIL NIL "=?broken" "MISSING_DOMAIN"))((NIL NIL "a" "MISSING_DOMAIN"))` +
		`((NIL NIL "MISSING_MAILBOX" "b.example")(NIL NIL "a" "MISSING_DOMAIN")(NIL NIL "MISSING_MAILBOX" "MISSING_DOMAIN")(NIL NIL "a" "b")` +
		`(NIL NIL "a" "MISSING_DOMAIN")("Joe" NIL "MISSING_MAILBOX" "MISSING_DOMAIN")(NIL NIL "joe" "b.example")` +
		`(NIL NIL "unclosed <a@b.example>" "MISSING_DOMAIN"))((NIL NIL "a" "b.example")("a b" NIL "c" "d.example")) NIL NIL NIL)`},
}

const plainText = `("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 6 1 NIL NIL NIL NIL)`

func textPart(size string) string {
	return `"text" "plain" ("charset" "us-ascii") NIL NIL "7bit" ` + size + ` NIL NIL NIL NIL`
}

// Sections that differ for the same reasons.
var sectionDepartures = map[string]string{
	"ctype-06": `^(BODY\.PEEK|BINARY\.PEEK|BINARY\.SIZE)\[1`, "ctype-07": `\[1`, "ctype-08": `\[1`,
	"mp-text-after-boundary": `\[[0-9]`, "mp-prefix-boundary": `\[[0-9]`, "mp-boundary-long": `\[2`, "nested-200": `\[[0-9]`,
	"rfc822-base64": `\[1|BINARY`, "global": `\[1\.|\[1\]`,
}

func TestMIMEFixtureAnswersAsTheReferenceServer(t *testing.T) {
	answers, names := mimeAnswers(t)
	var messages [][]byte
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(mimeDir, name+".eml"))
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, b)
	}
	st, who := mailboxOf(t, messages...)
	p := dial(t, st, who)
	p.ok("SELECT INBOX")
	for round, what := range []string{"cold", "warm"} {
		for i, name := range names {
			c := mimeCase{t: t, p: p, uid: i + 1, name: name, what: what}
			c.structures(answers[name])
			if round == 0 {
				c.sections(answers[name])
			}
		}
	}
}

type mimeCase struct {
	t    *testing.T
	p    *peer
	uid  int
	name string
	what string
}

func (c mimeCase) structures(want mimeAnswer) {
	items, order := fetched(c.t, c.p.ok("UID FETCH %d (BODYSTRUCTURE ENVELOPE RFC822.SIZE BODY)", c.uid)[0])
	if got := strings.Join(order, " "); got != "UID BODYSTRUCTURE ENVELOPE RFC822.SIZE BODY" {
		c.t.Errorf("%s: items in the order %s", c.name, got)
	}
	if got := items["RFC822.SIZE"].text; got != strconv.FormatInt(want.Size, 10) {
		c.t.Errorf("%s: size %s, want %d", c.name, got, want.Size)
	}
	for item, raw := range map[string]json.RawMessage{"ENVELOPE": want.Envelope, "BODYSTRUCTURE": want.Structure, "BODY": want.Body} {
		text, ok := fixtureText(raw)
		if own, differs := mimeDepartures[c.name]; differs && own["BODYSTRUCTURE"] != "" && item == "BODYSTRUCTURE" || differs && own["ENVELOPE"] != "" && item == "ENVELOPE" {
			text, ok = own[item], true
			text = strings.NewReplacer(`\u00fc`, "ü", `\u00dc`, "Ü").Replace(text)
		} else if differs && (item == "BODY" || own["BODYSTRUCTURE"] == "" && item == "BODYSTRUCTURE") {
			continue
		}
		got := items[item].show()
		if !ok {
			var sum struct{ SHA256 string }
			json.Unmarshal(raw, &sum)
			if sum.SHA256 == "" {
				c.t.Errorf("%s: %s of the fixture: %s", c.name, item, raw)
			}
			continue // too long for the fixture, see TestManyPartsAreAnswered and others
		}
		n, rest, err := parseNode(text)
		if err != nil || rest != "" {
			c.t.Fatalf("%s: fixture %s: %v", c.name, text, err)
		}
		if got != n.show() {
			c.t.Errorf("%s (%s): %s is\n\t%s\nwant\n\t%s", c.name, c.what, item, got, n.show())
		}
	}
}

func (c mimeCase) sections(want mimeAnswer) {
	for item, raw := range want.Fetch {
		c.section(item, raw)
	}
	for n, items := range want.Parts {
		for item, raw := range items {
			if name, spec, ok := strings.Cut(item, "[n"); ok {
				if name != "BINARY.SIZE" {
					name += ".PEEK"
				}
				c.section(name+"["+n+spec, raw)
			}
		}
	}
}

func (c mimeCase) section(item string, raw json.RawMessage) {
	if skip, ok := sectionDepartures[c.name]; ok && regexp.MustCompile(skip).MatchString(item) {
		return
	}
	lines, tagged := c.p.do("UID FETCH %d (%s)", c.uid, item)
	if strings.HasPrefix(item, "BINARY.SIZE") {
		c.binarySize(item, lines, tagged)
		return
	}
	var want struct {
		Len      *int
		SHA256   string
		Error    string
		Literal8 bool
	}
	if err := json.Unmarshal(raw, &want); err != nil {
		c.t.Fatal(err)
	}
	if want.Error != "" && strings.Contains(want.Error, "UNKNOWN-CTE") {
		if !strings.HasPrefix(tagged, "NO [UNKNOWN-CTE]") || len(lines) > 0 {
			c.t.Errorf("%s: %s: %q %s", c.name, item, lines, tagged)
		}
		return
	}
	if !strings.HasPrefix(tagged, "OK") || len(lines) != 1 {
		c.t.Errorf("%s: %s: %q %s", c.name, item, lines, tagged)
		return
	}
	items, order := fetched(c.t, lines[0])
	got := items[order[len(order)-1]]
	if want.Len == nil {
		return // damaged data: that there is an answer is what counts; TestDecoders has the bytes
	}
	sum := sha256.Sum256([]byte(got.text))
	if got.kind == 'a' || len(got.text) != *want.Len || hex.EncodeToString(sum[:])[:32] != want.SHA256 {
		c.t.Errorf("%s: %s is %.100q (%d bytes), want %s", c.name, item, got.text, len(got.text), raw)
	}
	if strings.HasPrefix(item, "BINARY") && (got.kind == '8') != want.Literal8 {
		c.t.Errorf("%s: %s: literal8 is %v, want %v", c.name, item, got.kind == '8', want.Literal8)
	}
}

// binarySize must be the length of what BINARY gives; the reference server's is not
// always.
func (c mimeCase) binarySize(item string, lines []string, tagged string) {
	if !strings.HasPrefix(tagged, "OK") {
		if !strings.HasPrefix(tagged, "NO [UNKNOWN-CTE]") {
			c.t.Errorf("%s: %s: %s", c.name, item, tagged)
		}
		return
	}
	items, order := fetched(c.t, lines[0])
	size := items[order[1]].text
	items, order = fetched(c.t, c.p.ok("UID FETCH %d (%s)", c.uid, strings.Replace(item, "SIZE", "PEEK", 1))[0])
	if got := strconv.Itoa(len(items[order[1]].text)); got != size {
		c.t.Errorf("%s: %s is %s, BINARY has %s bytes", c.name, item, size, got)
	}
}
