package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Isolation says what the server takes away from itself.
type Isolation struct {
	Mode      string        // "user", "workers"
	FrontUser string        `toml:"front_user"`
	AuthUser  string        `toml:"auth_user"`
	ACMEUser  string        `toml:"acme_user"`
	MinUID    int           `toml:"min_uid"`
	MinGID    int           `toml:"min_gid"`
	Idle      time.Duration // how long a worker without sessions stays

	Landlock string // "auto", "required", "off"
	Seccomp  string // "auto", "required", "off"
	Read     []string
	Write    []string
}

func (k *checker) isolation() {
	iso := k.c.Isolation
	k.workers()
	for _, list := range []struct {
		key   string
		paths []string
	}{{"read", iso.Read}, {"write", iso.Write}} {
		for i, p := range list.paths {
			at := fmt.Sprintf("isolation.%s[%d]", list.key, i)
			switch {
			case !filepath.IsAbs(p):
				k.wrong(at, "%s: write the whole path, from / on", quote(p))
			case filepath.Clean(p) == "/" && list.key == "write":
				k.wrong(at, `/ is everything: name directories, or set isolation.landlock = "off"`)
			}
		}
	}
}

// Workers reports whether users have processes of their own.
func (i Isolation) Workers() bool { return i.Mode == "workers" }

// workers checks what goes with isolation.mode = "workers".
func (k *checker) workers() {
	iso := k.c.Isolation
	if iso.MinUID < 1 || iso.MinGID < 1 {
		k.wrong("isolation", "isolation.min_uid and isolation.min_gid are at least 1: root has no mail")
	}
	if !iso.Workers() {
		return
	}
	if k.c.Mail.User != "" {
		k.wrong("mail.user", `with isolation.mode = "workers" mail belongs to its own users: take mail.user out`)
	}
	if k.c.Auth.Certificate.CA != "" {
		k.wrong("auth.certificate.ca", `with isolation.mode = "workers" only the process that speaks with clients sees their certificates, and none of what it says is believed: `+
			"logins by certificate are not possible (docs/isolation.md)")
	}
	users := []struct{ key, name string }{{"front_user", iso.FrontUser}, {"auth_user", iso.AuthUser}}
	if len(k.c.TLS.ACME.Names) > 0 {
		users = append(users, struct{ key, name string }{"acme_user", iso.ACMEUser})
	}
	seen := map[int]string{}
	for _, u := range users {
		uid, _, err := lookUp(u.name)
		switch {
		case err != nil:
			k.wrong("isolation."+u.key, "isolation.%s is %s, and there is no such user: useradd --system --shell /usr/sbin/nologin %s", u.key, quote(u.name), u.name)
		case uid == 0:
			k.wrong("isolation."+u.key, "isolation.%s is root, whose rights are what it is there to lose", u.key)
		case seen[uid] != "":
			k.wrong("isolation."+u.key, "isolation.%s and isolation.%s are one user: each could get at the other's memory", u.key, seen[uid])
		}
		seen[uid] = u.key
	}
}

// Owner gives the numbers of the user whom a server becomes, or whose process speaks with
// clients; -1 for none.
func (c *Config) Owner() (uid, gid int, err error) {
	if c.Isolation.Workers() {
		return lookUp(c.Isolation.FrontUser)
	}
	return c.Mail.Owner()
}

// AuthOwner gives those of the user whose process knows the passwords.
func (c *Config) AuthOwner() (uid, gid int, err error) {
	if c.Isolation.Workers() {
		return lookUp(c.Isolation.AuthUser)
	}
	return c.Mail.Owner()
}

// ACMEOwner gives those of the user whose process asks for certificates.
func (c *Config) ACMEOwner() (uid, gid int, err error) { return lookUp(c.Isolation.ACMEUser) }

// lookUp is Mail.Owner for any user.
func lookUp(name string) (uid, gid int, err error) {
	if name == "" {
		return -1, -1, errors.New("no user is named")
	}
	return Mail{User: name}.Owner()
}
