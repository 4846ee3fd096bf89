package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pki writes certificates with their keys: good, other (another key), old (ended).
func pki(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for i, name := range []string{"good", "other", "old"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), NotBefore: time.Unix(0, 0), NotAfter: time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC)}
		if name == "old" {
			template.NotAfter = time.Date(2020, 2, 3, 0, 0, 0, 0, time.UTC)
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		put(t, filepath.Join(dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
	}
	put(t, filepath.Join(dir, "passwd"), []byte("ann:{PLAIN}x\n"))
	return dir
}

func put(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// What Check finds, all at once; DIR stands for the directory of the files.
func TestCheck(t *testing.T) {
	dir := pki(t)
	good, err := os.ReadFile(filepath.Join(dir, "good.key"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "open.key"), good)
	if err := os.Chmod(filepath.Join(dir, "open.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	const right = "tls.cert='DIR/good.pem'\ntls.key='DIR/good.key'\nauth.passwd_file='DIR/passwd'\n"
	for _, tt := range []struct{ in, want string }{
		{right, ""},
		{"auth.passwd_file='DIR/passwd'", "f: there is no certificate: set tls.cert and tls.key, for instance to certbot's fullchain.pem and privkey.pem"},
		{"auth.passwd_file='DIR/passwd'\nlisten=[{address='127.0.0.1:143', plaintext=true}]", ""},
		{"auth.passwd_file='DIR/passwd'\n[tls]\ncert='DIR/good.pem'", "f:3:6: tls.cert and tls.key belong together: one of them is missing"},
		{"auth.passwd_file='DIR/passwd'\n[tls]\ncert='DIR/good.pem'\nkey='DIR/other.key'", "f:4:5: the key DIR/other.key does not belong to the certificate DIR/good.pem: take both from the same renewal"},
		{"auth.passwd_file='DIR/passwd'\n[tls]\ncert='DIR/good.pem'\nkey='DIR/open.key'", "f:4:5: every user of this machine can get at the private key (mode 0644): chmod o= DIR/open.key"},
		{"auth.passwd_file='DIR/passwd'\n[tls]\ncert='DIR/old.pem'\nkey='DIR/old.key'", "f:3:6: the certificate DIR/old.pem ended on 2020-02-03: renew it"},
		{right + "auth.mechanisms=['PLAIN','SCRAM']", "f:4:17: there is no mechanism \"SCRAM\": there are PLAIN, SCRAM-SHA-256"},
		{right + "[[auth.source]]\nkind='passwd'\nfile='DIR/none'\n[[auth.source]]\n[[auth.source]]\nkind='passwd'\n[[auth.source]]\nkind='passwd'\nfile='DIR/passwd'",
			"f:6:6: there is no file DIR/none: `roost passwd add` makes it with its first user\n" +
				"f:7:3: this [[auth.source]] has no kind; it is one of \"passwd\", \"system\", \"ldap\", \"command\", \"dovecot\"\n" +
				"f:8:3: this [[auth.source]] of kind \"passwd\" needs file, such as \"/etc/roost/passwd.staff\"\n" +
				"f:12:6: \"DIR/passwd\" is a source already"},
		{strings.Replace(right, "auth.passwd_file='DIR/passwd'", "auth.source=[{kind='passwd', file='DIR/passwd'}]", 1), ""},
		{strings.Replace(right, "auth.passwd_file='DIR/passwd'", "auth.source=[]\nauth.passwd_file=''", 1), "f:4:18: nobody could log in: auth.passwd_file is empty"},
		{"auth.passwd_file='DIR/passwd'\n[tls.acme]\nnames=['mail.example.org']\nagree=true\n", ""},
		{right + "[tls.acme]\nnames=['mail.example.org']", "f:5:7: the authority wants its terms agreed to: read them and set tls.acme.agree = true"},
		{right + "[tls.acme]\nagree=true\nnames=['*.example.org']\ndirectory='x'\nlisten='80'", "f:6:8: \"*.example.org\" is no name of a host in small letters; an authority that asks by HTTP knows no wildcards\nf:7:11: \"x\" is no https:// address\nf:8:8: \"80\" is not host:port: write \":80\""},
		{right + "auth.apps_only=['pop3']", "f:4:16: there is no protocol \"pop3\": there are imap, smtp"},
		{right + "[[auth.source]]\nkind='command'\n[[auth.source]]\nkind='command'\nfile='x'\ncommand=['users']\n[[auth.source]]\nkind='command'\ncommand=['DIR/passwd']",
			"f:4:3: this [[auth.source]] of kind \"command\" needs command, such as \"/usr/local/lib/roost/users\"\n" +
				"f:8:6: file means nothing in a source of kind \"command\", but of passwd\n" +
				"f:9:9: \"users\": write the whole path, from / on\n" +
				"f:12:9: DIR/passwd cannot be run: chmod +x DIR/passwd"},
		{right + "[[auth.source]]\nkind='ldap'\nurl=['ldap://ldap.example.org', 'http://x', 'ldapi://x', 'ldap://127.0.0.1', 'ldaps://']\nbase='dc=org'\nfilter='(uid=ann)'\nbind_dn='cn=x'\nca='DIR/none'\nlist_filter='(a=b)'\nattributes=['x']",
			"f:4:3: bind_dn and bind_password_file belong together: one of them is missing\n" +
				"f:4:3: list_filter and name_attribute belong together: one of them is missing\n" +
				"f:6:6: passwords would cross the network to \"ldap://ldap.example.org\" in the clear: write ldaps://, or set starttls = true\n" +
				"f:6:33: \"http://x\" is no URL of a directory: write \"ldaps://ldap.example.org\"\n" +
				"f:6:45: \"ldapi://x\" names no socket: write \"ldapi:///run/slapd/ldapi\"\n" +
				"f:6:78: \"ldaps://\" names no server\n" +
				"f:8:8: \"(uid=ann)\" finds the same entry for all users: it needs %u or %n\n" +
				"f:10:4: there is no file DIR/none: is the path right?\n" +
				"f:12:13: \"x\" is not attribute=field: write \"homeDirectory=userdb_home\""},
		{right + "auth.master_file='DIR/passwd'\nauth.master_separator='@'",
			"f:4:18: DIR/passwd has the users: master users stand in a file of their own\n" +
				"f:5:23: \"@\": write one of ! # $ % & * + = ? ^ | ~ , ;"},
		{right + "[[auth.listen]]\n[[auth.listen]]\naddress='192.0.2.1:12345'\n[[auth.listen]]\naddress='12345'\n[[auth.listen]]\npath='roost-auth'\nmode='666'\nuser='no-such-user-here'\n" +
			"[[auth.listen]]\naddress='[::1]:12345'\nmode='0660'\n[[auth.listen]]\npath='/run/roost/auth'\n[[auth.listen]]\npath='/run/roost/auth'",
			"f:4:3: this [[auth.listen]] needs a path or an address, one of them\n" +
				"f:6:9: passwords cross this socket in the clear: it is possible on a loopback address only, not on \"192.0.2.1:12345\"\n" +
				"f:8:9: \"12345\" is not host:port: write \"127.0.0.1:12345\"\n" +
				"f:10:6: \"roost-auth\": write the whole path, from / on\n" +
				"f:11:6: \"666\" is no mode for it: write \"0660\" or \"0600\"; others may not try passwords\n" +
				"f:12:6: there is no such user as \"no-such-user-here\"\n" +
				"f:13:3: mode, user and group belong to a path, not to an address\n" +
				"f:18:3: \"/run/roost/auth\" is listened on already"},
		{right + "auth.certificate.crl='DIR/passwd'", "f:4:22: a revocation list means nothing without auth.certificate.ca"},
		{right + "auth.certificate.ca='DIR/none.pem'", "f:4:21: there is no file DIR/none.pem: is the path right?"},
		{right + "auth.certificate.ca='DIR/good.pem'\nauth.certificate.user='map'", "f:4:1: auth.certificate.user is map, so name the file"},
		{right + "auth.certificate.ca='DIR/good.pem'\nauth.certificate.map='DIR/passwd'", "f:5:22: it is not looked at: set auth.certificate.user to map"},
		{"auth.passwd_file='DIR/nobody'\n[tls]\ncert='DIR/none.pem'\nkey='key.pem'",
			"f:1:18: there is no file DIR/nobody: `roost passwd add` makes it with its first user\n" +
				"f:3:6: there is no file DIR/none.pem: is the path right?\nf:4:5: \"key.pem\": write the whole path, from / on"},
		{right + "[[listen]]\naddress=':1143'\nplaintext=true\n[[listen]]\naddress='993'\n[[listen]]\nstarttls=true\n[[listen]]\naddress=':993'\nstarttls=true\n[[listen]]\naddress=':143'\n[[listen]]\naddress=':1143'\nstarttls=true",
			"f:6:11: passwords would cross the network in the clear: plaintext is possible on a loopback address only, not on \":1143\"; remove it and set starttls = true\n" +
				"f:8:9: \"993\" is not host:port: write \":993\"\n" +
				"f:9:3: this [[listen]] has no address: add address = \":993\"\n" +
				"f:11:3: clients expect TLS from the first byte on port 993: remove starttls and plaintext here, or use port 143\n" +
				"f:14:3: clients expect no TLS at first on port 143: set starttls = true here, or use port 993\n" +
				"f:17:9: \":1143\" is listened on already, by listen number 1"},
		{right + "listen=[]", "f:4:8: there is nothing to listen on: leave listen out for \":993\""},
		{right + "[mail]\nlocation='mbox:~/mail'\nprefix='INBOX'\nmail_dir='a/b'\nfollow_links=['x']\nuser='no-such-user-here'",
			"f:5:10: mail.location \"mbox:~/mail\": Roost serves Maildirs only, not mbox\n" +
				"f:6:8: mail.prefix has to end in the separator: write \"INBOX/\"\n" +
				"f:7:10: mail.mail_dir has a meaning with mail.layout = \"fs\" only\n" +
				"f:7:10: mail.mail_dir: \"a/b\" cannot be the name of a file\n" +
				"f:8:15: \"x\": write the whole path, from / on\n" +
				"f:9:6: mail.user is \"no-such-user-here\", and there is no such user: useradd --system no-such-user-here"},
		{right + "[mail]\nprefix='INBOX.'\nold_prefix='mail'",
			"f:5:8: mail.prefix ends in another separator than mail.separator, which is \"/\": set mail.separator = \".\"\n" +
				"f:6:12: mail.old_prefix has to end in the separator: write \"mail/\""},
		{right + "[mail]\nseparator='.'\nold_prefix='INBOX.'", ""},
		{right + "[[client]]\nid=['iPhone*']\nuser=['*@example.org']\nnetwork=['192.0.2.1','2001:db8::/32']\nserver_name=['x']\nhide=['qresync','THREAD','COMPRESS=DEFLATE']", ""},
		{right + "[[client]]\nid=['']\n[[client]]\nnetwork=['x']\nhide=['COMPRES=DEFLATE', 'IMAP4rev1', 'starttls', 'ZZ9']",
			"f:4:3: this [[client]] hides nothing: add hide = [\"COMPRESS=DEFLATE\"]\n" +
				"f:5:5: client.id is empty and would mean nobody: write \"*\" for any, or leave it out\n" +
				"f:7:10: \"x\" is no network: write 192.0.2.0/24, 2001:db8::/32, or an address\n" +
				"f:8:7: there is no capability \"COMPRES=DEFLATE\" (did you mean \"COMPRESS=DEFLATE\"?); docs/support.md lists them\n" +
				"f:8:26: IMAP4rev1 cannot be hidden: clients speak no other protocol\n" +
				"f:8:39: STARTTLS cannot be hidden: passwords would travel in the clear\n" +
				"f:8:51: there is no capability \"ZZ9\"; docs/support.md lists them"},
		{right + "control.socket='off'", ""},
		{right + "control.socket=''", "f:4:16: control.socket is empty: write \"off\" for none, or leave it out for \"/run/roost/control\""},
		{right + "control.socket='run/control'", "f:4:16: \"run/control\": write the whole path, from / on"},
		{right + "control.socket='/" + strings.Repeat("x", 107) + "'", "f:4:16: the path of a socket has at most 107 bytes, this one has 108: name a shorter one"},
		{right + "[[mail.folder]]\nuse='\\Sent'\n[[mail.folder]]\nname='a//b'\n[[mail.folder]]\nname='x'\n[[mail.folder]]\nname='x'\n[[mail.folder]]\nname='inbox'",
			"f:4:3: this [[mail.folder]] has no name\n" +
				"f:7:6: \"a//b\" has an empty level; levels are parted by \"/\"\n" +
				"f:11:6: \"x\" stands here twice\n" +
				"f:13:6: INBOX is there always and has no special use"},
		{right + "[limits]\ntrusted_networks=['10.0.0.0/8','ten']\nprelogin_line=100\nconnections_per_user=5\nlogin_time='10ms'\n[imap]\nidle_keepalive='1ms'\ncontact='me@example.org'",
			"f:5:32: \"ten\" is no network: write 192.0.2.0/24, 2001:db8::/32, or an address\n" +
				"f:6:15: limits.prelogin_line is 100 bytes, too little: clients could not log in; the least is 512\n" +
				"f:7:22: limits.connections_per_user_address is 20, more than limits.connections_per_user, which is 5\n" +
				"f:8:12: nobody can log in within 10ms\n" +
				"f:10:16: imap.idle_keepalive is 1ms: phones would never sleep; \"2m\" is the default\n" +
				"f:11:9: imap.contact is \"me@example.org\", no URI; write it as \"mailto:postmaster@example.org\""},
		{right + "imap.contact='mailto:me@example.org'\n[[imap.filter]]\nname='a'\nsearch='SEEN'\n[[imap.filter]]\nname='A'\nsearch='bad'",
			"f:8:3: this [[imap.filter]] is wrong: no search\n" +
				"f:9:6: \"A\" stands here twice"},
		{right + "[imap]\nmessage_limit=1000", ""},
		{right + "[imap]\nmessage_limit=999\nsave_limit=1",
			"f:5:15: imap.message_limit is 999: the least that RFC 9738 allows is 1000; 0 is no limit\n" +
				"f:6:12: imap.save_limit is 1: the least that RFC 9738 allows is 1000; 0 is no limit\n" +
				"f:6:12: imap.message_limit is a limit for COPY and APPEND too: leave imap.save_limit out"},
	} {
		c, err := Parse("f", strings.ReplaceAll(tt.in, "DIR", dir))
		if err != nil {
			t.Errorf("%s: %v", tt.in, err)
			continue
		}
		got := ""
		var p Problems
		if err := c.Check(time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC), Protocol{Filter: badFilter, Capabilities: []string{"IMAP4rev1", "STARTTLS", "COMPRESS=DEFLATE", "QRESYNC", "THREAD=REFERENCES"}, Mechanisms: []string{"PLAIN", "SCRAM-SHA-256"}}); errors.As(err, &p) {
			got = strings.ReplaceAll(p.Error(), dir, "DIR")
		} else if err != nil {
			t.Errorf("error is no Problems: %v", err)
		}
		if got != tt.want {
			t.Errorf("%s:\ngot\n%s\nwant\n%s", tt.in, got, tt.want)
		}
	}
}

// badFilter stands for the check of the protocol.
func badFilter(_, search string) error {
	if search == "bad" {
		return errors.New("no search")
	}
	return nil
}
