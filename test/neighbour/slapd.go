package neighbour

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const slapdConf = `
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {dir}/slapd.pid
TLSCertificateFile {dir}/cert.pem
TLSCertificateKeyFile {dir}/key.pem
database mdb
maxsize 10485760
suffix "dc=example,dc=org"
rootdn "cn=admin,dc=example,dc=org"
rootpw adminsecret
directory {dir}/db
access to attrs=userPassword by dn.exact="cn=roost,dc=example,dc=org" read by anonymous auth by * none
access to * by dn.exact="cn=roost,dc=example,dc=org" read by users none by anonymous auth
`

// Slapd is a private OpenLDAP server on loopback, for dc=example,dc=org. The service is
// cn=roost with the password "servicesecret"; nobody else may search.
type Slapd struct {
	Addr    string // host:port for ldap://
	TLSAddr string // for ldaps://, of the name localhost
	CAFile  string
	dir     string
	prog    string
	proc    *process
}

// StartSlapd runs it in dir on the entries of an LDIF.
func StartSlapd(dir, ldif string) (*Slapd, error) {
	prog, err := Find("slapd", "slapd")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, "db"), 0o755); err != nil {
		return nil, err
	}
	if err := Certificate(dir); err != nil {
		return nil, err
	}
	ports := [2]int{}
	for i := range ports {
		if ports[i], err = FreePort(); err != nil {
			return nil, err
		}
	}
	conf := filepath.Join(dir, "slapd.conf")
	if err := os.WriteFile(conf, []byte(expand(slapdConf, "{dir}", dir)), 0o600); err != nil {
		return nil, err
	}
	service := "dn: dc=example,dc=org\nobjectClass: dcObject\nobjectClass: organization\no: Example\n\n" +
		"dn: cn=roost,dc=example,dc=org\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\nuserPassword: servicesecret\n\n"
	add := exec.Command(prog, "-T", "add", "-f", conf)
	add.Stdin = strings.NewReader(service + ldif)
	if out, err := add.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("slapadd: %w\n%s", err, out)
	}
	s := &Slapd{Addr: "127.0.0.1:" + strconv.Itoa(ports[0]), TLSAddr: "localhost:" + strconv.Itoa(ports[1]), CAFile: filepath.Join(dir, "cert.pem"), dir: dir, prog: prog}
	return s, s.Restart()
}

// Restart runs it again, after a Close.
func (s *Slapd) Restart() error {
	cmd := exec.Command(s.prog, "-d", "0", "-f", filepath.Join(s.dir, "slapd.conf"), "-h", "ldap://"+s.Addr+"/ ldaps://"+s.TLSAddr+"/")
	proc, err := start(cmd)
	if err != nil {
		return err
	}
	s.proc = proc
	if _, err := proc.reach(s.Addr); err != nil {
		proc.stop()
		return err
	}
	return nil
}

// PID is its process id.
func (s *Slapd) PID() int { return s.proc.cmd.Process.Pid }

// Close ends it and waits.
func (s *Slapd) Close() error { return s.proc.stop() }
