package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An issuer and nothing else does, for tokens of this host and its known users.
func TestOAuth2(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "secret"), []byte("x"))
	put(t, filepath.Join(dir, "open"), []byte("x"))
	if err := os.Chmod(filepath.Join(dir, "open"), 0o604); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, want string }{
		{`issuer = "https://id.example.org/realms/x"`, ""},
		{`issuer = "http://127.0.0.1:8080"`, ""},
		{`issuer = "http://id.example.org"`, "would not be encrypted"},
		{`issuer = "id.example.org"`, "is no URL"},
		{`issuer = "https://ann:secret@id.example.org"`, "is no URL"},
		{`issuer = "https://id.example.org/?x=y"`, "is no URL"},
		{`scope = ["imap"]`, "means nothing without auth.oauth2.issuer"},
		{`domains = ["example.org"]`, "means nothing without auth.oauth2.issuer"},
		{"issuer = \"https://id.example.org\"\nscope = [\"imap smtp\"]", "single words"},
		{"issuer = \"https://id.example.org\"\ndomains = [\"@example.org\"]", "single words"},
		{"issuer = \"https://id.example.org\"\nclaim = \"\"", "names the user"},
		{"issuer = \"https://id.example.org\"\naudience = [\"*\", \"mail\"]", "let it stand alone"},
		{"issuer = \"https://id.example.org\"\nclient_id = \"roost\"", "belong together"},
		{"issuer = \"https://id.example.org\"\nintrospection_url = \"https://id.example.org/i\"", "not looked at"},
		{"issuer = \"https://id.example.org\"\nclient_id = \"roost\"\nclient_secret_file = \"DIR/secret\"", ""},
		{"issuer = \"https://id.example.org\"\nclient_id = \"roost\"\nclient_secret_file = \"DIR/open\"", "chmod o="},
		{"issuer = \"https://id.example.org\"\nclient_id = \"roost\"\nclient_secret_file = \"DIR/none\"", "there is no file"},
	} {
		cfg, err := Parse("roost.toml", "hostname = \"mail.example.org\"\n[auth.oauth2]\n"+strings.ReplaceAll(c.text, "DIR", dir))
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if got := cfg.Audiences(); c.want == "" && (len(got) != 1 || got[0] != "mail.example.org" || cfg.Auth.OAuth2.Claim != "email" || len(cfg.Auth.OAuth2.Domains) > 0) {
			t.Errorf("%s: %q, %+v", c.text, got, cfg.Auth.OAuth2)
		}
		var mine []string
		for line := range strings.SplitSeq(cfg.Check(time.Now(), Protocol{}).Error(), "\n") {
			if strings.Contains(line, "oauth2") || strings.Contains(line, "roost.toml:3") || strings.Contains(line, "roost.toml:4") || strings.Contains(line, "roost.toml:5") {
				mine = append(mine, line)
			}
		}
		if text := strings.Join(mine, "\n"); (c.want == "") != (text == "") || !strings.Contains(text, c.want) {
			t.Errorf("%s: %s", c.text, text)
		}
	}
}
