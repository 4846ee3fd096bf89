package config

import (
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// OAuth2 says whose bearer tokens let in.
type OAuth2 struct {
	Issuer   string   // URL; "" for none
	Audience []string // one has to be in a token's; never empty behind Audiences
	Scope    []string // all have to be in a token's
	Claim    string   // names the user
	Domains  []string // whose users need no source
	Outlive  time.Duration

	ClientID         string `toml:"client_id"` // with it the issuer is asked about each token
	ClientSecretFile string `toml:"client_secret_file"`
	IntrospectionURL string `toml:"introspection_url"`
	CA               string `toml:"ca"`
}

// Audiences are the names of this service of which a token has to be for one.
func (c *Config) Audiences() []string {
	if len(c.Auth.OAuth2.Audience) > 0 {
		return c.Auth.OAuth2.Audience
	}
	return []string{c.Hostname}
}

func (k *checker) oauth2() {
	o := k.c.Auth.OAuth2
	const table = "auth.oauth2."
	if o.Issuer == "" {
		for _, key := range []struct {
			name string
			set  bool
		}{
			{"audience", len(o.Audience) > 0}, {"scope", len(o.Scope) > 0}, {"domains", len(o.Domains) > 0}, {"client_id", o.ClientID != ""},
			{"client_secret_file", o.ClientSecretFile != ""}, {"introspection_url", o.IntrospectionURL != ""}, {"ca", o.CA != ""},
		} {
			if key.set {
				k.wrong(table+key.name, "%s%s means nothing without auth.oauth2.issuer", table, key.name)
			}
		}
		return
	}
	k.secureURL(table+"issuer", o.Issuer, false)
	if o.IntrospectionURL != "" {
		k.secureURL(table+"introspection_url", o.IntrospectionURL, true)
	}
	if o.Claim == "" {
		k.wrong(table+"claim", "auth.oauth2.claim is empty: it names the user, and %s is the default", quote(Default().Auth.OAuth2.Claim))
	}
	for _, list := range []struct {
		name   string
		values []string
	}{{"audience", o.Audience}, {"scope", o.Scope}, {"domains", o.Domains}} {
		for _, v := range list.values {
			if v == "" || list.name != "audience" && strings.ContainsAny(v, " \t@") {
				k.wrong(table+list.name, "%s cannot be in %s%s: it is a list of single words", quote(v), table, list.name)
			}
		}
	}
	if slices.Contains(o.Audience, "*") && len(o.Audience) > 1 {
		k.wrong(table+"audience", `"*" takes tokens for anybody: let it stand alone, or take it out`)
	}
	switch {
	case (o.ClientID == "") != (o.ClientSecretFile == ""):
		k.wrong(table+"client_id", "auth.oauth2.client_id and auth.oauth2.client_secret_file belong together: one of them is missing")
	case o.ClientID == "" && o.IntrospectionURL != "":
		k.wrong(table+"introspection_url", "it is not looked at: the issuer is asked where there is auth.oauth2.client_id")
	}
	if o.ClientSecretFile != "" {
		k.file(table+"client_secret_file", o.ClientSecretFile)
		if info, err := os.Stat(o.ClientSecretFile); err == nil && info.Mode().Perm()&0o007 != 0 {
			k.wrong(table+"client_secret_file", "every user of this machine can get at the secret (mode %04o): chmod o= %s", info.Mode().Perm(), o.ClientSecretFile)
		}
	}
	if o.CA != "" {
		k.file(table+"ca", o.CA)
	}
}

// secureURL checks a URL to which secrets go.
func (k *checker) secureURL(path, text string, query bool) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || !query && u.RawQuery != "" || u.Scheme != "https" && u.Scheme != "http":
		k.wrong(path, "%s is no URL such as https://id.example.org/realms/example", quote(text))
	case u.Scheme == "http" && !loopback(u.Hostname()):
		k.wrong(path, "%s would not be encrypted: write https, but for a loopback address", quote(text))
	}
}
