package main

import (
	"crypto/x509"
	"log/slog"

	"roost/auth"
	"roost/config"
	"roost/server"
)

// openAuth opens what a configuration says of users. watch is for a server: changes are
// seen as they happen, and not only at the next login.
func openAuth(c *config.Config, watch bool, log *slog.Logger) (*auth.Auth, error) {
	opt := auth.Options{
		File:      c.Auth.PasswdFile,
		KeepCase:  !c.Auth.Lowercase,
		Trusted:   trusted(c),
		Verifiers: c.Auth.Hashers,
		Remember:  c.Auth.Remember,
		NoWatch:   !watch,
		Log:       log,
	}
	if len(c.Auth.Mechanisms) > 0 {
		opt.Mechanisms = c.Auth.Mechanisms
	}
	var err error
	if opt.Certificates, err = clientCertificates(c); err != nil {
		return nil, err
	}
	return auth.New(opt)
}

// clientCertificates opens what auth.certificate says; nil where it says nothing.
func clientCertificates(c *config.Config) (*auth.ClientCertificates, error) {
	if c.Auth.Certificate.CA == "" {
		return nil, nil
	}
	return auth.OpenClientCertificates(auth.ClientCertOptions{
		CA: c.Auth.Certificate.CA, CRL: c.Auth.Certificate.CRL,
		User: c.Auth.Certificate.User, Map: c.Auth.Certificate.Map,
	})
}

// certOptions is what a configuration says of TLS.
func certOptions(c *config.Config) server.CertOptions {
	opt := server.CertOptions{Pairs: keyPairs(c), Min: minVersion(c)}
	if c.Auth.Certificate.CA != "" {
		opt.ClientCAs = func() *x509.CertPool {
			certs, err := clientCertificates(c)
			if err != nil { // logins by certificate say why they fail
				return nil
			}
			return certs.Authorities()
		}
	}
	return opt
}
