// Command oidc is an OpenID Connect provider for the tests: ZITADEL's library, a certified
// provider, with the storage of its example. It is a module of its own because it needs
// some thirty others that nothing else here does.
//
// It prints its issuer, a URL on loopback, and serves until standard input ends. Beside
// what a provider has, POST /test/rotate gives it another key to sign with; with drop=1
// the old one is withdrawn.
package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	issuer := "http://" + l.Addr().String()
	const back = "http://localhost/callback"
	storage.RegisterClients(storage.NativeClient("thunderbird", back), storage.NativeClient("wiki", back), storage.NativeClient("short", back),
		storage.NativeClient("opaque", back), storage.WebClient("roost", "s:cret +", back))
	s := &store{Storage: storage.NewStorage(people{}), tokens: map[string]known{}}
	s.rotate(true)
	provider := exampleop.SetupServer(issuer, s, slog.New(slog.DiscardHandler), false)
	mux := http.NewServeMux()
	mux.Handle("/", provider)
	mux.HandleFunc("POST /test/rotate", func(w http.ResponseWriter, r *http.Request) { s.rotate(r.FormValue("drop") != "") })
	go http.Serve(l, mux) // ends with the process
	fmt.Println(issuer)
	io.Copy(io.Discard, os.Stdin)
}

// people log in by their address; the password is "secret".
type people struct{}

func (people) GetUserByID(id string) *storage.User {
	if !strings.HasSuffix(id, "@example.org") {
		return nil
	}
	return &storage.User{ID: id, Username: id, Password: "secret", Email: id, EmailVerified: !strings.HasPrefix(id, "unverified")}
}
func (p people) GetUserByUsername(name string) *storage.User { return p.GetUserByID(name) }
func (people) ExampleClientID() string                       { return "service" }

// store is the example's, with keys that change, and tokens that say whom they are for.
type store struct {
	*storage.Storage

	mu     sync.Mutex // guards all below
	keys   []*key     // the last one signs
	serial int
	tokens map[string]known
}

type known struct {
	audience []string
	client   string
	expires  time.Time
}

type key struct {
	id      string
	private *rsa.PrivateKey
	public  bool
}

func (k *key) ID() string                                  { return k.id }
func (k *key) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k *key) Algorithm() jose.SignatureAlgorithm          { return jose.RS256 }
func (k *key) Use() string                                 { return "sig" }
func (k *key) Key() any {
	if k.public {
		return &k.private.PublicKey
	}
	return k.private
}

func (s *store) rotate(drop bool) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		log.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if drop {
		s.keys = nil
	}
	s.serial++
	s.keys = append(s.keys, &key{id: fmt.Sprint("key ", s.serial), private: private})
}

func (s *store) SigningKey(context.Context) (op.SigningKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[len(s.keys)-1], nil
}

func (s *store) KeySet(context.Context) (list []op.Key, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys {
		list = append(list, &key{k.id, k.private, true})
	}
	return list, nil
}

func (s *store) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.RS256}, nil
}

// client gets JWTs, but for "opaque", and any scope that it asks for.
type client struct{ op.Client }

func (c client) IsScopeAllowed(string) bool { return true }
func (c client) AccessTokenType() op.AccessTokenType {
	if c.GetID() == "opaque" {
		return op.AccessTokenTypeBearer
	}
	return op.AccessTokenTypeJWT
}

func (s *store) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := s.Storage.GetClientByClientID(ctx, id)
	if err != nil {
		return nil, err
	}
	return client{c}, nil
}

func (s *store) CreateAccessToken(ctx context.Context, r op.TokenRequest) (string, time.Time, error) {
	id, expires, err := s.Storage.CreateAccessToken(ctx, r)
	if err != nil {
		return "", time.Time{}, err
	}
	if slices.Contains(r.GetAudience(), "short") { // its time was over before it began
		expires = time.Now().Add(-10 * time.Minute)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[id] = known{r.GetAudience(), r.GetAudience()[0], expires}
	return id, expires, nil
}

// GetPrivateClaimsFromRequest is what else an access token says.
func (s *store) GetPrivateClaimsFromRequest(_ context.Context, r op.TokenRequest, _ []string) (map[string]any, error) {
	c := map[string]any{"scope": strings.Join(r.GetScopes(), " ")}
	if u := (people{}).GetUserByID(r.GetSubject()); u != nil && slices.Contains(r.GetScopes(), "email") {
		c["email"], c["email_verified"] = u.Email, u.EmailVerified
	}
	return c, nil
}

// SetIntrospectionFromToken answers the mail server, which no token was issued to.
func (s *store) SetIntrospectionFromToken(ctx context.Context, resp *oidc.IntrospectionResponse, id, subject, asks string) error {
	s.mu.Lock()
	k, ok := s.tokens[id]
	s.mu.Unlock()
	if !ok || asks != "roost" {
		return errors.New("not known")
	}
	if err := s.Storage.SetIntrospectionFromToken(ctx, resp, id, subject, k.client); err != nil {
		return err
	}
	resp.Audience = k.audience
	return nil
}
