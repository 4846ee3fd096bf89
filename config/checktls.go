package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

func (k *checker) listeners() {
	if len(k.c.Listen) == 0 {
		k.wrong("listen", `there is nothing to listen on: leave listen out for ":993"`)
	}
	seen := map[string]int{}
	for i, l := range k.c.Listen {
		path := fmt.Sprintf("listen[%d]", i)
		host, port, err := net.SplitHostPort(l.Address)
		switch {
		case l.Address == "":
			k.wrong(path, `this [[listen]] has no address: add address = ":993"`)
			continue
		case err != nil && !strings.Contains(l.Address, ":"):
			full := net.JoinHostPort(l.Address, "993")
			if _, err := strconv.Atoi(l.Address); err == nil {
				full = ":" + l.Address
			}
			k.wrong(path+".address", "%s is not host:port: write %s", quote(l.Address), quote(full))
			continue
		case err != nil:
			k.wrong(path+".address", "%s is no address (%v); it is host:port, an IPv6 host in brackets", quote(l.Address), err)
			continue
		}
		n, err := net.LookupPort("tcp", port)
		if err != nil {
			k.wrong(path+".address", "%s is no port", quote(port))
			continue
		}
		same := net.JoinHostPort(host, strconv.Itoa(n))
		if other, ok := seen[same]; ok && n != 0 {
			k.wrong(path+".address", "%s is listened on already, by listen number %d", quote(l.Address), other+1)
		}
		seen[same] = i
		if l.Plaintext && !loopback(host) {
			k.wrong(path+".plaintext", "passwords would cross the network in the clear: plaintext is possible on a loopback address only, not on %s; "+
				"remove it and set starttls = true", quote(l.Address))
		}
		for j, network := range l.ProxyNetworks {
			if _, err := ParseNetwork(network); err != nil {
				k.wrong(fmt.Sprintf("%s.proxy_networks[%d]", path, j), "%s is no network: write 192.0.2.0/24, 2001:db8::/32, or an address", quote(network))
			}
		}
		switch {
		case l.Proxy && len(l.ProxyNetworks) == 0:
			k.wrong(path+".proxy", "anybody could take any address: name the proxies' own, proxy_networks = [\"127.0.0.1\"]")
		case !l.Proxy && len(l.ProxyNetworks) > 0:
			k.wrong(path+".proxy_networks", "it is not looked at: set proxy = true")
		}
		if n == 993 && !l.Implicit() && !l.Proxy {
			k.wrong(path, "clients expect TLS from the first byte on port 993: remove starttls and plaintext here, or use port 143")
		}
		if n == 143 && l.Implicit() {
			k.wrong(path, "clients expect no TLS at first on port 143: set starttls = true here, or use port 993")
		}
	}
}

// loopback reports whether only this machine can reach an address.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

func (k *checker) certificates(now time.Time) {
	c := k.c
	needed := ""
	for i, l := range c.Listen {
		if l.Implicit() || l.STARTTLS {
			needed = fmt.Sprintf("listen[%d]", i)
			break
		}
	}
	if c.TLS.Cert == "" && c.TLS.Key == "" {
		if needed != "" && len(c.TLS.ACME.Names) == 0 {
			at := "tls"
			if k.c.src == nil || k.c.src.places[at] == (place{}) {
				at = needed
			}
			k.wrong(at, "there is no certificate: set tls.cert and tls.key, for instance to certbot's fullchain.pem and privkey.pem")
		}
	} else {
		k.pair("tls.", c.TLS.Cert, c.TLS.Key, now)
	}
	for i, extra := range c.TLS.Certificate {
		k.pair(fmt.Sprintf("tls.certificate[%d].", i), extra.Cert, extra.Key, now)
	}
}

// acme checks what is asked of an authority.
func (k *checker) acme() {
	a := k.c.TLS.ACME
	if len(a.Names) == 0 {
		return
	}
	if !a.Agree {
		k.wrong("tls.acme.names", "the authority wants its terms agreed to: read them and set tls.acme.agree = true")
	}
	for i, name := range a.Names {
		if strings.ToLower(name) != name || !strings.Contains(name, ".") || strings.ContainsAny(name, "*:/ ") {
			k.wrong(fmt.Sprintf("tls.acme.names[%d]", i), "%s is no name of a host in small letters; an authority that asks by HTTP knows no wildcards", quote(name))
		}
	}
	if u, err := url.Parse(a.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
		k.wrong("tls.acme.directory", "%s is no https:// address", quote(a.Directory))
	}
	if _, _, err := net.SplitHostPort(a.Listen); err != nil {
		k.wrong("tls.acme.listen", "%s is not host:port: write \":80\"", quote(a.Listen))
	}
	if a.Roots != "" {
		k.file("tls.acme.roots", a.Roots)
	}
	if k.c.State() == "" {
		k.wrong("tls.acme.names", "certificates are kept in state_dir, and that is off")
	}
}

// pair checks one certificate with its key.
func (k *checker) pair(prefix, certFile, keyFile string, now time.Time) {
	if certFile == "" || keyFile == "" {
		k.wrong(prefix+"cert", "%scert and %skey belong together: one of them is missing", prefix, prefix)
		return
	}
	cert, certOK := k.file(prefix+"cert", certFile)
	key, keyOK := k.file(prefix+"key", keyFile)
	if info, err := os.Stat(keyFile); err == nil && info.Mode().Perm()&0o007 != 0 {
		k.wrong(prefix+"key", "every user of this machine can get at the private key (mode %04o): chmod o= %s", info.Mode().Perm(), keyFile)
	}
	if !certOK || !keyOK {
		return
	}
	both, err := tls.X509KeyPair(cert, key)
	switch {
	case err != nil && strings.Contains(err.Error(), "switched"):
		k.wrong(prefix+"cert", "%s is a private key: %scert and %skey stand the wrong way round", certFile, prefix, prefix)
		return
	case err != nil && strings.Contains(err.Error(), "does not match"):
		k.wrong(prefix+"key", "the key %s does not belong to the certificate %s: take both from the same renewal", keyFile, certFile)
		return
	case err != nil:
		at := prefix + "cert"
		if strings.Contains(err.Error(), "key") && !strings.Contains(err.Error(), "certificate") {
			at = prefix + "key"
		}
		k.wrong(at, "%s with %s: %s", certFile, keyFile, strings.TrimPrefix(err.Error(), "tls: "))
		return
	}
	leaf, err := x509.ParseCertificate(both.Certificate[0])
	if err != nil {
		k.wrong(prefix+"cert", "%s: %v", certFile, err)
		return
	}
	if now.After(leaf.NotAfter) {
		k.wrong(prefix+"cert", "the certificate %s ended on %s: renew it", certFile, leaf.NotAfter.UTC().Format("2006-01-02"))
	}
}
