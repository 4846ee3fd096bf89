package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"

	"roost/auth"
	"roost/auth/command"
	"roost/auth/dovecot"
	"roost/auth/ldap"
	"roost/auth/oidc"
	accounts "roost/auth/system"
	"roost/config"
	"roost/server"
	"roost/server/acme"
)

// openAuth opens what a configuration says of users. watch is for a server: changes are
// seen as they happen, and not only at the next login.
func openAuth(c *config.Config, watch bool, log *slog.Logger) (*auth.Auth, error) {
	opt := auth.Options{
		KeepCase:  !c.Auth.Lowercase,
		Trusted:   trusted(c),
		Throttle:  throttle(c),
		Verifiers: c.Auth.Hashers,
		Remember:  c.Auth.Remember,
		NoWatch:   !watch,

		MasterFile:      c.Auth.MasterFile,
		MasterSeparator: c.Auth.MasterSeparator,

		Log:      log,
		Apps:     appFile(c),
		AppsOnly: c.Auth.AppsOnly,
	}
	if watch {
		opt.AppUses = appUses(c)
	}
	if len(c.Auth.Mechanisms) > 0 {
		opt.Mechanisms = c.Auth.Mechanisms
	}
	var err error
	if opt.Certificates, err = clientCertificates(c); err != nil {
		return nil, err
	}
	if c.Auth.OAuth2.Issuer != "" {
		// A nil pointer would be no nil interface.
		tokens, err := openTokens(c, watch, log)
		if err != nil {
			return nil, err
		}
		opt.Tokens, opt.TokenDomains, opt.TokenOutlive = tokens, c.Auth.OAuth2.Domains, c.Auth.OAuth2.Outlive
	}
	if opt.Sources, err = openSources(c, watch, log); err != nil {
		return nil, err
	}
	return auth.New(opt)
}

// openSources opens the sources of users, in their order.
func openSources(c *config.Config, watch bool, log *slog.Logger) (list []auth.Source, err error) {
	defer func() {
		if err != nil {
			for _, src := range list {
				src.Close()
			}
		}
	}()
	kinds := c.Auth.Source
	if c.Auth.PasswdFile != "" {
		kinds = append([]config.Source{{Kind: "passwd", File: c.Auth.PasswdFile}}, kinds...)
	}
	for _, s := range kinds {
		src, err := openSource(c, s, watch, log)
		if err != nil {
			return list, err
		}
		list = append(list, src)
	}
	return list, nil
}

func openSource(c *config.Config, s config.Source, watch bool, log *slog.Logger) (auth.Source, error) {
	switch s.Kind {
	case "passwd":
		return auth.OpenFile(s.File, auth.FileOptions{KeepCase: !c.Auth.Lowercase, NoWatch: !watch, Log: log})
	case "command":
		return command.Open(command.Options{Args: s.Command, Processes: s.Processes, Timeout: s.Timeout, Log: log}), nil
	case "dovecot":
		return dovecot.Open(dovecot.SourceOptions{Socket: s.Socket, Userdb: s.Userdb, Timeout: s.Timeout}), nil
	case "ldap":
		return ldap.Open(ldap.Options{
			URLs: s.URL, StartTLS: s.StartTLS, CA: s.CA, BindDN: s.BindDN, PasswordFile: s.BindPassword,
			Base: s.Base, Filter: s.Filter, Password: s.PasswordAttr, Attributes: s.Attributes,
			ListFilter: s.ListFilter, NameAttribute: s.NameAttribute, Timeout: s.Timeout, Log: log,
		})
	case "system":
		return accounts.Open(accounts.Options{Socket: s.Socket, Service: s.PAMService, FirstUID: s.FirstUID, Timeout: s.Timeout}), nil
	}
	return nil, fmt.Errorf("users of kind %q are not known", s.Kind) // the check of the configuration was first
}

// throttle is what a configuration says of those who guess.
func throttle(c *config.Config) auth.ThrottleOptions {
	t := c.Auth.Throttle
	return auth.ThrottleOptions{Guesses: t.Guesses, LockAfter: t.LockAfter, LockTime: t.LockTime, LockMax: t.LockMax}
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

// certOptions is what a configuration says of TLS. issued gives certificates that come from
// elsewhere than files; nil for none.
func certOptions(c *config.Config, issued func(*tls.ClientHelloInfo) (*tls.Certificate, error)) server.CertOptions {
	opt := server.CertOptions{Pairs: keyPairs(c), Min: minVersion(c), Issued: issued}
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

// openIssuer opens what gets certificates from an authority; nil where nobody asked for it.
func openIssuer(c *config.Config, log *slog.Logger) (*acme.Issuer, error) {
	if len(c.TLS.ACME.Names) == 0 {
		return nil, nil
	}
	return acme.Open(acmeOptions(c, log))
}

func acmeOptions(c *config.Config, log *slog.Logger) acme.Options {
	a := c.TLS.ACME
	return acme.Options{
		Names: a.Names, Email: a.Email, Directory: a.Directory, Roots: a.Roots, Listen: a.Listen,
		Dir: acmeDir(c), Log: log,
	}
}

// openTokens opens what auth.oauth2 says. A server asks the issuer at once, so that the log
// has what is wrong before a user finds out.
func openTokens(c *config.Config, server bool, log *slog.Logger) (*oidc.Verifier, error) {
	o := c.Auth.OAuth2
	return oidc.Open(oidc.Options{
		Issuer: o.Issuer, Audience: c.Audiences(), Scopes: o.Scope, Claim: o.Claim,
		ClientID: o.ClientID, SecretFile: o.ClientSecretFile, IntrospectionURL: o.IntrospectionURL,
		CA: o.CA, Ahead: server, Log: log,
	})
}
