package auth

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestCosts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwd")
	text := "ann:{PLAIN}x\nben:$2y$05$UyiUa9WvKqRkEGPwrjJ4MeHhkg0GlO0fxKaUDsgBidwGSGtc8ENR2\nCarl:{PLAIN}x\ncarl:{SHA}IGyAQTualsExLMNGt9JRe4RGPt0=\ndan:!{PLAIN}x\neve:{PLAIN}y\nfay:{NOPE}x\ngus:$1$tQFWP7XZ$kBTaN1JfNTWdtwk6LA6pM0\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := Costs(path, false)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, c := range list {
		got += fmt.Sprintf("%s %v %v\n", c.Scheme, c.Users, c.Weak)
		if c.Measure() <= 0 {
			t.Errorf("%s costs nothing", c.Class)
		}
	}
	if want := "BLF-CRYPT [ben] false\nMD5-CRYPT [gus] true\nPLAIN [ann eve] true\nSHA [carl] true\n"; got != want {
		t.Errorf("%swant\n%s", got, want)
	}
}
