package peers

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"roost/test/neighbour"
)

// provider starts an OpenID Connect provider, and gives tokens of ann's for its clients.
func provider(t *testing.T) (p *neighbour.Provider, token func(client string) string) {
	t.Helper()
	p, err := neighbour.StartProvider("../..", t.TempDir())
	var missing neighbour.Missing
	if errors.As(err, &missing) {
		t.Skip(missing)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p, func(client string) string {
		t.Helper()
		access, _, err := p.Tokens(client, "openid email imap", "ann@example.org")
		if err != nil {
			t.Fatal(err)
		}
		return access
	}
}

// curl logs in with tokens of a real provider by both mechanisms, and not with those that
// are for another service, over, or revoked; the log says why, and never the token.
func TestTokensOfAProvider(t *testing.T) {
	curl := need(t, "curl", "curl")
	p, token := provider(t)
	good := token("thunderbird")
	var h *house
	for _, mech := range []string{"OAUTHBEARER", "XOAUTH2"} {
		h = newHouse(t)
		h.auth = "mechanisms = [\"" + mech + "\"]\n" // where there are both, this curl takes the first
		h.extra = "[auth.oauth2]\nissuer = \"" + p.Issuer + "\"\naudience = [\"thunderbird\", \"short\"]\nscope = [\"imap\"]\n"
		r := h.serve(t)
		list := func(user, token string) (string, error) {
			out, err := exec.Command(curl, "-sS", "-v", "--cacert", r.CertFile, "--user", user+":", "--oauth2-bearer", token, "imaps://"+r.Addr+"/").CombinedOutput()
			return string(out), err
		}
		if out, err := list("ann@example.org", good); err != nil || !strings.Contains(out, `"/" INBOX`) {
			t.Errorf("%s: %v\n%s", mech, err, out)
		}
		if !logged(r, "event=login user=ann@example.org login=ann@example.org method="+mech) {
			t.Error("the log has no login by " + mech)
		}
		all := []string{good}
		for _, c := range []struct{ client, user, answer, log string }{
			{"wiki", "ann@example.org", "NO [AUTHENTICATIONFAILED]", "token: claim aud: "},
			{"short", "ann@example.org", "NO [EXPIRED]", "event=token_expired user=ann@example.org method=" + mech},
			{"thunderbird", "bob@example.org", "NO [AUTHORIZATIONFAILED]", `the client wants to be \"bob@example.org\"`},
		} {
			bad := token(c.client)
			if mech == "XOAUTH2" && c.client != "thunderbird" { // this curl hangs up then
				c.answer = "< + eyJzdGF0dXMiOiI0MDEi" // {"status":"401"
			}
			all = append(all, bad)
			if out, err := list(c.user, bad); err == nil || !strings.Contains(out, c.answer) {
				t.Errorf("%s, %s: %v\n%s", mech, c.client, err, out)
			}
			if !logged(r, c.log) {
				t.Errorf("%s, %s: the log has no %q", mech, c.client, c.log)
			}
		}
		for _, secret := range all {
			for part := range strings.SplitSeq(secret, ".") {
				if strings.Contains(r.Log(), part) {
					t.Error("the log has a part of a token")
				}
			}
		}
	}

	explain := func(token string, args ...string) (string, error) {
		cmd := exec.Command(roostBin, append([]string{"auth", "test", "--config", filepath.Join(h.dir, "roost", "roost.toml"), "--token", "--stdin"}, args...)...)
		cmd.Stdin = strings.NewReader(token + "\n")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := explain(good, "ann@example.org")
	for _, want := range []string{"alg \"RS256\"", "the signature is that of a key of " + p.Issuer, `aud is ["thunderbird"]`, `names "ann@example.org"`, "the session ends", "the login would succeed"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("roost auth test has no %q: %v\n%s", want, err, out)
		}
	}
	if out, err := explain(token("wiki")); err == nil || !strings.Contains(out, "refused: token: claim aud") {
		t.Errorf("roost auth test: %v\n%s", err, out)
	}
}

// With a client id the provider is asked: tokens need not be JWTs, and what it revoked
// does not let in any more.
func TestTokensAreRevoked(t *testing.T) {
	curl := need(t, "curl", "curl")
	p, token := provider(t)
	h := newHouse(t)
	secret := filepath.Join(h.dir, "secret")
	if err := os.WriteFile(secret, []byte(neighbour.ProviderSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := neighbour.Own(secret); err != nil {
		t.Fatal(err)
	}
	h.auth = "remember = \"off\"\n"
	h.extra = "[auth.oauth2]\nissuer = \"" + p.Issuer + "\"\naudience = [\"opaque\"]\nclient_id = \"roost\"\nclient_secret_file = \"" + secret + "\"\n"
	r := h.serve(t)
	list := func(token string) (string, error) {
		out, err := exec.Command(curl, "-sS", "-v", "--cacert", r.CertFile, "--user", "ann@example.org:", "--oauth2-bearer", token, "imaps://"+r.Addr+"/").CombinedOutput()
		return string(out), err
	}
	good := token("opaque")
	if out, err := list(good); err != nil || !strings.Contains(out, `"/" INBOX`) {
		t.Errorf("%v\n%s", err, out)
	}
	if err := p.Revoke("opaque", good); err != nil {
		t.Fatal(err)
	}
	if out, err := list(good); err == nil || !strings.Contains(out, "NO [AUTHENTICATIONFAILED]") || !logged(r, "token: claim active: ") {
		t.Errorf("%v\n%s", err, out)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := list(good); err == nil || !strings.Contains(out, "NO [UNAVAILABLE]") {
		t.Errorf("the provider is down: %v\n%s", err, out)
	}
}

// imapflow logs in by token, and understands what is wrong with one.
func TestImapflowToken(t *testing.T) {
	node := imapflow(t, "OAUTHBEARER")
	p, token := provider(t)
	h := newHouse(t)
	h.extra = "[auth.oauth2]\nissuer = \"" + p.Issuer + "\"\naudience = [\"thunderbird\"]\n"
	host, port, err := net.SplitHostPort(h.serve(t).Addr)
	if err != nil {
		t.Fatal(err)
	}
	script(t, node, "imapflow_token.mjs", host, port, "ann@example.org", token("thunderbird"), token("wiki"))
}
