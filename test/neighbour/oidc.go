package neighbour

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
)

// Provider is an OpenID Connect provider of its own: test/oidc. Its users are all of
// example.org; its clients thunderbird, wiki, opaque (whose tokens are no JWTs), short
// (whose tokens have expired), and roost with a secret.
type Provider struct {
	Issuer string

	proc  *process
	stdin io.Closer
}

// ProviderSecret is that of the client roost.
const ProviderSecret = "s:cret +"

// StartProvider builds and starts one; top is the directory of this module.
func StartProvider(top, dir string) (*Provider, error) {
	bin := filepath.Join(dir, "provider")
	build := exec.Command("go", "build", "-o", bin, ".")
	build.Dir = filepath.Join(top, "test/oidc")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, Missing{"an OpenID Connect provider", fmt.Sprintf("nothing, but go mod download in test/oidc: %s", out)}
	}
	cmd := exec.Command(bin)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p := &Provider{stdin: stdin}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	p.proc = &process{cmd: cmd, done: make(chan struct{})}
	go func() { // ends with the program
		p.proc.err = cmd.Wait()
		close(p.proc.done)
	}()
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	p.Issuer = strings.TrimSpace(line)
	return p, nil
}

// Close ends it.
func (p *Provider) Close() error {
	p.stdin.Close()
	<-p.proc.done
	return nil
}

// Rotate gives it another key; drop withdraws the one before.
func (p *Provider) Rotate(drop bool) error {
	form := url.Values{}
	if drop {
		form.Set("drop", "1")
	}
	return posted(http.PostForm(p.Issuer+"/test/rotate", form))
}

// Revoke is RFC 7009.
func (p *Provider) Revoke(client, token string) error {
	return posted(http.PostForm(p.Issuer+"/revoke", url.Values{"client_id": {client}, "token": {token}}))
}

func posted(resp *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, b)
	}
	return nil
}

// Tokens logs a user in as a browser does, and gives what the program gets (RFC 6749
// section 4.1, RFC 7636).
func (p *Provider) Tokens(client, scope, user string) (access, id string, err error) {
	secret := rand.Text()
	sum := sha256.Sum256([]byte(secret))
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	next := func(resp *http.Response, err error) (*url.URL, error) {
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		to, err := resp.Location()
		if err != nil {
			b, _ := io.ReadAll(resp.Body)
			return nil, fmt.Errorf("%s: %s: %s", resp.Request.URL.Path, resp.Status, b)
		}
		return to, nil
	}
	const back = "http://localhost/callback"
	to, err := next(browser.Get(p.Issuer + "/auth?" + url.Values{
		"client_id": {client}, "redirect_uri": {back}, "response_type": {"code"}, "scope": {scope}, "state": {"x"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}.Encode()))
	if err != nil {
		return "", "", err
	}
	to, err = next(browser.PostForm(p.Issuer+"/login/username", url.Values{"id": {to.Query().Get("authRequestID")}, "username": {user}, "password": {"secret"}}))
	if err != nil {
		return "", "", err
	}
	if to, err = next(browser.Get(to.String())); err != nil {
		return "", "", err
	}
	resp, err := browser.PostForm(p.Issuer+"/oauth/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {to.Query().Get("code")}, "redirect_uri": {back}, "client_id": {client}, "code_verifier": {secret},
	})
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	var got struct {
		Access string `json:"access_token"`
		ID     string `json:"id_token"`
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", "", err
	}
	if err := json.Unmarshal(b, &got); err != nil || got.Access == "" {
		return "", "", fmt.Errorf("%s: %s", resp.Status, b)
	}
	return got.Access, got.ID, nil
}
