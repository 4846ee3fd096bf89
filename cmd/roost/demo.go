package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"roost/auth"
	"roost/cmd/roost/sample"
	"roost/config"
	"roost/unixsocket"
)

var demoVerb = verb{
	name:  "demo",
	about: "Serve a sample Maildir on this machine's loopback, to look at with any mail program.",
	more: "Mail, certificate and a random password are made in a directory that only you can read, and\n" +
		"removed at the end; a directory of your own is kept. Now and then a message is delivered as an\n" +
		"MTA does. With --check a client inside looks at all of it, and the exit code is 0 only if all\n" +
		"was right.",
	example: "roost demo --check",
	setup: func(fs *flag.FlagSet) runner {
		var d demo
		fs.BoolVar(&d.check, "check", false, "look at it with a client, print what it saw, and end")
		fs.BoolVar(&d.verbose, "verbose", false, "with --check: print the whole dialogue; without: the server's log")
		fs.StringVar(&d.dir, "dir", "", "`directory` to make everything in, which must not be there yet; it is kept")
		fs.DurationVar(&d.every, "every", 20*time.Second, "`time` between deliveries")
		return func(ctx context.Context, env *environment, args []string) error {
			if err := noArguments(args); err != nil {
				return err
			}
			return d.run(ctx, env)
		}
	},
}

// demo is a server with sample mail, and what a client needs to know of it.
type demo struct {
	check, verbose bool
	dir            string
	every          time.Duration

	password string
	cert     []byte // PEM
	imaps    string // host:port
	starttls string
	mail     []sample.Message
}

const demoUser = "demo"

func (d *demo) maildir() string         { return filepath.Join(d.dir, "Maildir") }
func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

// run lays everything out, serves it, and either checks it or waits for ctx.
func (d *demo) run(ctx context.Context, env *environment) error {
	keep := d.dir != ""
	if err := d.lay(); err != nil {
		return err
	}
	if !keep {
		defer os.RemoveAll(d.dir)
	}
	log := env.stderr
	if !d.verbose || d.check {
		f, err := os.Create(d.path("log"))
		if err != nil {
			return err
		}
		defer f.Close()
		log = f
	}
	serving, stop := context.WithCancel(ctx)
	defer stop()
	ready := make(chan struct{})
	served := make(chan error, 1)
	quiet := &environment{stdin: env.stdin, stdout: env.stdout, stderr: log, getenv: func(string) string { return "" }}
	go func() { // ends with serving; joined below
		served <- serve(serving, quiet, d.path("roost.toml"), func() { close(ready) })
	}()
	select {
	case <-ready:
	case err := <-served:
		return err
	}
	var err error
	if d.check {
		err = d.look(ctx, env)
	} else {
		d.explain(env)
		err = d.deliver(ctx, env, served)
	}
	stop()
	err = errors.Join(err, <-served)
	if err != nil && d.check {
		if b, rerr := os.ReadFile(d.path("log")); rerr == nil {
			fmt.Fprintf(env.stderr, "the server's log:\n%s", b)
		}
	}
	return err
}

// lay makes directory, mail, certificate, passwd file and configuration.
func (d *demo) lay() (err error) {
	if d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "roost-demo-"); err != nil {
			return err
		}
	} else {
		if d.dir, err = filepath.Abs(d.dir); err != nil {
			return err
		}
		if err := os.Mkdir(d.dir, 0o700); err != nil {
			return fmt.Errorf("%w; name one that is not there yet", err)
		}
	}
	now := time.Now()
	if d.mail, err = sample.Messages(now); err != nil {
		return err
	}
	if err := sample.Lay(d.maildir(), d.mail); err != nil {
		return err
	}
	d.password = rand.Text()[:16]
	hash, err := auth.NewHash("argon2id", d.password, false)
	if err != nil {
		return err
	}
	key, err := d.certify(now)
	if err != nil {
		return err
	}
	if d.imaps, err = freeAddress("10993"); err != nil {
		return err
	}
	if d.starttls, err = freeAddress("10143"); err != nil {
		return err
	}
	socket := d.path("control")
	if len(socket) > unixsocket.MaxPath {
		socket = "off"
	}
	conf := fmt.Sprintf(`# The configuration of roost demo.
hostname = "localhost"
state_dir = "off"

[tls]
cert = %q
key = %q

[[listen]]
address = %q

[[listen]]
address = %q
starttls = true

[auth]
passwd_file = %q

[control]
socket = %q

[mail]
location = %q
create = true
`, d.path("cert.pem"), d.path("key.pem"), d.imaps, d.starttls, d.path("passwd"), socket, d.maildir())
	for _, f := range []struct {
		name string
		b    []byte
	}{
		{"cert.pem", d.cert},
		{"key.pem", key},
		{"passwd", fmt.Appendf(nil, "%s:%s\n", demoUser, hash)},
		{"roost.toml", []byte(conf)},
	} {
		if err := os.WriteFile(d.path(f.name), f.b, 0o600); err != nil {
			return err
		}
	}
	_, err = config.Load(d.path("roost.toml")) // serve checks the rest
	return err
}

// certify makes a certificate for this machine's loopback, and gives its key.
func (d *demo) certify(now time.Time) (key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "roost demo"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(30 * 24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true, // so that clients can be told to trust it
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return nil, err
	}
	d.cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	b, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b}), nil
}

// freeAddress gives a loopback address with the preferred port when it is free,
// else with one of the kernel's choice.
func freeAddress(preferred string) (string, error) {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", preferred))
	if err != nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return "", err
		}
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// explain prints what a mail program has to be told.
func (d *demo) explain(env *environment) {
	_, imaps, _ := net.SplitHostPort(d.imaps)
	_, starttls, _ := net.SplitHostPort(d.starttls)
	ca := d.path("cert.pem")
	fmt.Fprintf(env.stdout, `Roost serves %d messages from %s

Settings for a mail program
  server    localhost
  port      %s with TLS, or %s with STARTTLS
  user      %s
  password  %s
  The certificate is the demo's own: %s

Commands to paste
  curl --cacert %[7]s -u %[5]s:%[6]s imaps://localhost:%[3]s/INBOX
  curl --cacert %[7]s -u %[5]s:%[6]s 'imaps://localhost:%[3]s/INBOX;MAILINDEX=1'
  openssl s_client -quiet -crlf -CAfile %[7]s -connect localhost:%[3]s
  openssl s_client -quiet -crlf -CAfile %[7]s -starttls imap -connect localhost:%[4]s
    a login %[5]s %[6]s
  neomutt -n -F /dev/null -e 'set folder=imaps://localhost:%[3]s certificate_file=%[7]s imap_user=%[5]s imap_pass=%[6]s' -f imaps://localhost:%[3]s/INBOX

Every %[8]s a message is delivered to INBOX. Control-C ends it.
`, len(d.mail), d.maildir(), imaps, starttls, demoUser, d.password, ca, d.every)
}

// deliver drops a message now and then until ctx ends, or the server.
func (d *demo) deliver(ctx context.Context, env *environment, served chan error) error {
	tick := time.NewTicker(max(d.every, time.Second))
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			fmt.Fprintln(env.stdout, "Goodbye.")
			return nil
		case err := <-served:
			served <- nil
			return err
		case now := <-tick.C:
			if _, err := sample.Deliver(d.maildir(), sample.Letter(n, now)); err != nil {
				return err
			}
			fmt.Fprintf(env.stdout, "%s delivered message number %d\n", now.Format(time.TimeOnly), n)
		}
	}
}
