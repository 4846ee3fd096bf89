package config

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

const (
	kib Size = 1 << 10
	mib Size = 1 << 20
)

// A key is one row of the table that the decoder, the reference file, the manual
// and the reload all live on.
type key struct {
	name  string // "imap.idle_keepalive"; below an array of tables "listen.address"
	value any    // the default, which is also the type
	about string

	oneOf  []string // the values that a string may have
	off    bool     // "off" is a value
	live   bool     // a reload changes it for what comes next; else a restart does
	secret bool     // never shown
	kinds  []string // of an element's key kind, with which the key has a meaning; nil: all
	sample string   // what the reference file shows where the default says nothing
}

// sections gives each table of the file its sentence, in the order of the manual.
// The keys outside of any table come first, as TOML wants it.
var sections = []struct {
	name  string
	array bool
	about string
}{
	{"", false, "What stands before the first table."},
	{"tls", false, "Certificates. They are read again when their files change, and on SIGHUP."},
	{"tls.certificate", true, "Further certificates: the one that fits the name a client asks for (SNI) is shown, else the first."},
	{"tls.acme", false, "Certificates from Let's Encrypt or another authority that speaks ACME, got and renewed by Roost itself: for machines on which nothing else does it (certbot's and lego's files are read by tls.cert). The authority asks on port 80 of each name. They are kept in acme below state_dir."},
	{"listen", true, "Sockets to listen on; with any, the default goes. One that systemd passes is recognised by its address."},
	{"auth", false, "Who may log in."},
	{"auth.throttle", false, "How those who guess passwords are slowed down and turned away: docs/throttling.md. limits.trusted_networks are not."},
	{"auth.certificate", false, "Logins by client certificate: AUTHENTICATE EXTERNAL."},
	{"auth.oauth2", false, "Logins by bearer token: AUTHENTICATE OAUTHBEARER and XOAUTH2. docs/oauth2.md has an example. With an issuer and nothing else its tokens are checked by the keys that it publishes (OpenID Connect Discovery)."},
	{"auth.source", true, "Where users come from, asked in this order: the first that has a user decides. auth.passwd_file, where it is written, comes before them; where it is not, these are all there are. docs/users.md says more of each kind."},
	{"auth.listen", true, "Sockets on which other programs ask who may log in, in Dovecot's protocol: Postfix (smtpd_sasl_type = dovecot), Exim. docs/postfix.md has the lines. Whoever reaches one may try passwords in the clear."},
	{"mail", false, "Where mail lies. Paths may hold ~ %h (home), %u (user), %n (before the @), %d (behind it), with modifiers: %Lu, %2.256Nu, %1Mu, %{user | username | lower}."},
	{"mail.folder", true, "Mailboxes with a special use; with any, the default ones go."},
	{"limits", false, "What clients may cost. 0 is the default."},
	{"imap", false, "How Roost speaks to clients."},
	{"imap.filter", true, "Searches by name that all users have (RFC 5466): clients that know FILTERS search by FILTER and the name."},
	{"search", false, "How text is searched."},
	{"client", true, "Clients of which a mistake is known, and the capabilities that are hidden from them. All conditions of an entry have to hold, one value of each; an entry without any means everybody. `roost who` shows who is meant by which."},
	{"event", true, "What is done about something unusual: docs/events.md. Each is in the log and in `roost auth events` without an entry here."},
	{"log", false, "Logs go to standard error; systemd takes them from there."},
	{"isolation", false, "What Roost takes away from itself before it reads the first byte of a client: docs/isolation.md."},
	{"control", false, "How an admin asks the running server: `roost who`, `roost kick`, `roost trace`, `roost doctor`."},
}

var (
	defaultListen  = []Listen{{Address: ":993", ProxyNetworks: []string{}}}
	defaultFolders = []Folder{
		{Name: "Drafts", Use: `\Drafts`, Create: true, Subscribe: true},
		{Name: "Sent", Use: `\Sent`, Create: true, Subscribe: true},
		{Name: "Junk", Use: `\Junk`, Create: true, Subscribe: true},
		{Name: "Trash", Use: `\Trash`, Create: true, Subscribe: true},
		{Name: "Archive", Use: `\Archive`, Create: false, Subscribe: true},
	}
	// EventNames are those of what [[event]] can be about.
	EventNames = []string{"new_network", "many_users", "deletions", "app_password_revoked", "login_locked"}

	folderUses = []string{"", `\All`, `\Archive`, `\Drafts`, `\Flagged`, `\Important`, `\Junk`, `\Sent`, `\Trash`}
)

// keys is the one table of keys and defaults.
var keys = []key{
	{name: "hostname", value: "", live: true, sample: "mail.example.org", about: "Name of this server in greetings; empty is the machine's own name."},
	{name: "state_dir", value: "/var/lib/roost", off: true, about: "Directory for what the server remembers across restarts: failed logins, when app passwords were used. Where it cannot be written, that is forgotten."},

	{name: "tls.cert", value: "", live: true, sample: "/etc/letsencrypt/live/mail.example.org/fullchain.pem", about: "File of the certificate and its chain, PEM."},
	{name: "tls.key", value: "", live: true, sample: "/etc/letsencrypt/live/mail.example.org/privkey.pem", about: "File of its private key, PEM; nobody else may read it."},
	{name: "tls.min_version", value: "1.2", live: true, oneOf: []string{"1.2", "1.3"}, about: "Oldest TLS version that is spoken."},

	{name: "tls.certificate.cert", value: "", live: true, sample: "/etc/letsencrypt/live/imap.example.net/fullchain.pem", about: "File of the certificate and its chain, PEM."},
	{name: "tls.certificate.key", value: "", live: true, sample: "/etc/letsencrypt/live/imap.example.net/privkey.pem", about: "File of its private key, PEM."},

	{name: "tls.acme.names", value: []string{}, sample: "mail.example.org", about: "Names to get certificates for; none: ACME is not used. Shown to clients that ask for one of them, the first also to those who ask for none where there is no tls.cert."},
	{name: "tls.acme.email", value: "", sample: "postmaster@example.org", about: "Where the authority writes to when something is wrong."},
	{name: "tls.acme.agree", value: false, about: "You agree to the authority's terms; nothing is asked of it before."},
	{name: "tls.acme.directory", value: "https://acme-v02.api.letsencrypt.org/directory", about: "The authority."},
	{name: "tls.acme.roots", value: "", sample: "/etc/roost/step-ca.pem", about: "Who vouches for the authority's own certificate, PEM, where that is a private one."},
	{name: "tls.acme.listen", value: ":80", about: "Where its challenges are answered. A web server that has port 80 passes /.well-known/acme-challenge/ on to another address."},

	{name: "listen.address", value: "", about: `Where to listen, host:port: ":993" is every address, "[2001:db8::1]:993" one.`},
	{name: "listen.starttls", value: false, about: "Start in the clear and let clients upgrade by STARTTLS: port 143. Passwords are refused until they did."},
	{name: "listen.plaintext", value: false, about: "Accept passwords in the clear; only on a loopback address, for a webmail or a proxy on this machine."},
	{name: "listen.proxy", value: false, about: "A proxy (HAProxy, nginx, a load balancer) connects here, and says by the PROXY protocol, version 1 or 2, whose connection it passes on. Nobody else is served. Where the proxy ends TLS and says so (version 2, send-proxy-v2-ssl), starttls = true takes passwords without another TLS."},
	{name: "listen.proxy_networks", value: []string{}, sample: "192.0.2.5", about: "Addresses and networks of these proxies; they have to be named."},

	{name: "auth.passwd_file", value: "/etc/roost/passwd", about: "File of users and password hashes, as Dovecot's passwd-file; read again when it changes. `roost passwd` edits it."},
	{name: "auth.lowercase", value: true, about: "Turn names into small letters before they are looked up."},
	{name: "auth.remember", value: time.Minute, off: true, about: "How long a verified password is known, in memory and hashed under a random key, so that a phone's 12 connections cost one slow hash."},
	{name: "auth.hashers", value: 0, about: "Passwords that are verified at once; 0 is one for each processor."},

	{name: "auth.app_passwords", value: "", sample: "/etc/roost/app-passwords", about: "File of app passwords, further passwords of users for one device each: `roost passwd app`. Empty is the first password file with .apps behind its name; \"off\" is none."},
	{name: "auth.apps_only", value: []string{}, sample: "imap", about: "Protocols, \"imap\" and \"smtp\", to which a user who has an app password cannot log in by the main one: that is for where it can be changed, and no device has to keep it."},
	{name: "auth.master_file", value: "", sample: "/etc/roost/masters", about: "Password file of master users: with their own password they open the mail of others, as user*admin. Empty: there are none. docs/users.md says more."},
	{name: "auth.master_separator", value: "*", about: "What stands between the user and the admin."},

	{name: "auth.mechanisms", value: []string{}, sample: "PLAIN", about: "SASL mechanisms that are offered, where they can succeed: with none named all of them. SCRAM-SHA-256, SCRAM-SHA-1 and their -PLUS forms need passwords that are stored for them or in the clear, of all users; EXTERNAL needs auth.certificate.ca, OAUTHBEARER and XOAUTH2 auth.oauth2.issuer. The LOGIN command goes with PLAIN and LOGIN."},

	{name: "auth.throttle.guesses", value: 12, live: true, about: "Different wrong passwords a minute from one address (of IPv6 a /64), over however many connections; the networks around it may send a few times as many. At least 3."},
	{name: "auth.throttle.lock_after", value: 20, live: true, about: "Failures until an address is refused for a time, half of it for a user at one address. One is forgiven every five minutes. At least 4."},
	{name: "auth.throttle.lock_time", value: 15 * time.Minute, off: true, live: true, about: "How long the first time; twice as long each further time within a day."},
	{name: "auth.throttle.lock_max", value: 4 * time.Hour, live: true, about: "How long at most."},

	{name: "auth.certificate.ca", value: "", sample: "/etc/roost/clients-ca.pem", about: "Certificates of the authorities whose client certificates are taken, PEM; empty: clients are not asked for any."},
	{name: "auth.certificate.crl", value: "", sample: "/etc/roost/clients.crl", about: "Revocation lists of these authorities, PEM; read again when the file changes. One that is out of date refuses all certificates of its authority."},
	{name: "auth.certificate.user", value: "email", oneOf: []string{"email", "cn", "map"}, about: "What names the user: the mail address of the certificate, its common name, or auth.certificate.map."},
	{name: "auth.certificate.map", value: "", sample: "/etc/roost/clients.map", about: "File with a line for each certificate: its SHA-256 fingerprint in hex, a blank, the user."},

	{name: "auth.oauth2.issuer", value: "", sample: "https://id.example.org/realms/example", about: "Who issues the tokens, as the tokens spell it (iss); empty: none are taken."},
	{name: "auth.oauth2.audience", value: []string{}, sample: "mail.example.org", about: "Names of which a token has to be for one (aud): else a token for any other service of the issuer, which that service sees, would open the mail too. Empty is the hostname alone; [\"*\"] takes tokens for anybody."},
	{name: "auth.oauth2.scope", value: []string{}, sample: "imap", about: "Scopes that a token has to have, all of them. The first is told to clients that come without."},
	{name: "auth.oauth2.claim", value: "email", sample: "preferred_username", about: "What in a token names the user. With email the token has to say too that the address was verified (email_verified)."},
	{name: "auth.oauth2.domains", value: []string{}, sample: "example.org", about: "Domains of which everybody whom a token names is let in, though no source of users has them; mail.home then says where their mail is. \"*\" is every name. Empty: a token is good for users of the sources only."},
	{name: "auth.oauth2.outlive", value: 24 * time.Hour, off: true, about: "How long a session may go on when the token that began it has expired. Tokens live for minutes, sessions for days, and nobody asks for the former to end the latter; but who has lost their account there is out after this time. \"off\" lets them go on."},
	{name: "auth.oauth2.client_id", value: "", sample: "roost", about: "With it the issuer is asked about each token (RFC 7662), by which it can be revoked at once and need not be a JWT: the name by which it knows this server."},
	{name: "auth.oauth2.client_secret_file", value: "", sample: "/etc/roost/oauth2.secret", about: "File with the secret to that name. It is read each time."},
	{name: "auth.oauth2.introspection_url", value: "", sample: "https://id.example.org/oauth2/introspect", about: "Where to ask; empty is where the issuer's configuration says."},
	{name: "auth.oauth2.ca", value: "", sample: "/etc/roost/ca.pem", about: "Certificates of authorities that the issuer's is signed by, PEM; empty are those of the machine."},

	{name: "auth.source.kind", value: "", oneOf: []string{"passwd", "system", "ldap", "command", "dovecot"}, sample: "passwd", about: "What it is: a password file (passwd), the accounts of this machine (system), a directory (ldap), a program that is asked (command), a Dovecot (dovecot)."},
	{name: "auth.source.file", value: "", kinds: []string{"passwd"}, sample: "/etc/roost/passwd.staff", about: "File of users and password hashes, as auth.passwd_file."},
	{name: "auth.source.command", value: []string{}, kinds: []string{"command"}, sample: "/usr/local/lib/roost/users", about: "The program and its arguments; docs/auth-command.md has what it reads and writes. It runs as the user that Roost became."},
	{name: "auth.source.processes", value: 0, kinds: []string{"command"}, about: "How many processes of it there are at most; 0 is 4."},
	{name: "auth.source.timeout", value: time.Duration(0), kinds: []string{"command", "dovecot", "ldap", "system"}, about: "How long an answer may take before the login is refused for now; 0 is 5 seconds, of a Dovecot 10, of PAM 15: they delay failures."},
	{name: "auth.source.socket", value: "", kinds: []string{"dovecot", "system"}, sample: "/run/dovecot/auth-client", about: "Unix socket on which Dovecot takes passwords; of saslauthd, where empty is /run/saslauthd/mux."},
	{name: "auth.source.userdb", value: "", kinds: []string{"dovecot"}, sample: "/run/dovecot/auth-userdb", about: "Unix socket on which it says where a user's mail is; without it mail.location has to."},
	{name: "auth.source.pam_service", value: "", kinds: []string{"system"}, sample: "imap", about: "File of /etc/pam.d that decides; empty is the protocol's: imap, smtp."},
	{name: "auth.source.first_uid", value: 0, kinds: []string{"system"}, about: "Accounts of lower numbers are the system's own and do not log in; 0 is 1000."},
	{name: "auth.source.url", value: []string{}, kinds: []string{"ldap"}, sample: "ldaps://ldap.example.org", about: "Servers of the directory, tried in their order: ldap://, ldaps:// or ldapi:///path."},
	{name: "auth.source.starttls", value: false, kinds: []string{"ldap"}, about: "Encrypt ldap:// connections by StartTLS."},
	{name: "auth.source.ca", value: "", kinds: []string{"ldap"}, sample: "/etc/ssl/certs/example-ca.pem", about: "Authorities of the servers' certificates, PEM; empty: those of this machine."},
	{name: "auth.source.bind_dn", value: "", kinds: []string{"ldap"}, sample: "cn=roost,dc=example,dc=org", about: "Whom Roost searches as; empty: nobody."},
	{name: "auth.source.bind_password_file", value: "", kinds: []string{"ldap"}, sample: "/etc/roost/ldap.password", about: "File with the password of bind_dn in its first line."},
	{name: "auth.source.base", value: "", kinds: []string{"ldap"}, sample: "ou=people,dc=example,dc=org", about: "Where users are, at any depth."},
	{name: "auth.source.filter", value: "", kinds: []string{"ldap"}, sample: "(&(objectClass=inetOrgPerson)(mail=%u))", about: "What finds one: %u is the name, %n and %d the parts before and behind the @."},
	{name: "auth.source.password_attribute", value: "", kinds: []string{"ldap"}, sample: "userPassword", about: "Attribute with a hash that Roost compares; empty: it binds as the user."},
	{name: "auth.source.attributes", value: []string{}, kinds: []string{"ldap"}, sample: "homeDirectory=userdb_home", about: "What attributes mean: attribute=field, in the words of the password file."},
	{name: "auth.source.list_filter", value: "", kinds: []string{"ldap"}, sample: "(objectClass=inetOrgPerson)", about: "What finds all users, for `roost doctor`; with name_attribute."},
	{name: "auth.source.name_attribute", value: "", kinds: []string{"ldap"}, sample: "mail", about: "What their name is in that list."},

	{name: "auth.listen.path", value: "", sample: "/var/spool/postfix/private/roost-auth", about: "Path of a unix socket."},
	{name: "auth.listen.address", value: "", about: "A loopback address, host:port, in place of path: any user of this machine can try passwords there."},
	{name: "auth.listen.mode", value: "", sample: "0660", about: "Mode of the socket, octal; empty is 0660."},
	{name: "auth.listen.user", value: "", sample: "postfix", about: "Its owner; to set one Roost has to be started as root."},
	{name: "auth.listen.group", value: "", sample: "postfix", about: "Its group; empty is that of the owner."},

	{name: "mail.location", value: "~/Maildir", live: true, about: `Where a user's mail is. Dovecot's form "maildir:~/Maildir:LAYOUT=fs:INDEX=/var/index/%u" is understood too; its options override the keys below. A user's own field userdb_mail overrides both.`},
	{name: "mail.home", value: "", live: true, sample: "/var/vmail/%d/%n", about: "Home of users whose passwd entry has none."},
	{name: "mail.layout", value: "maildir++", live: true, oneOf: []string{"maildir++", "fs"}, about: `How folders lie on disk: A/B is ".A.B" (maildir++, as Dovecot, Courier and Postfix have it) or "A/B" (fs).`},
	{name: "mail.separator", value: "/", live: true, oneOf: []string{"/", "."}, about: "What stands between the levels of folder names that clients see; some clients' settings break when it changes."},
	{name: "mail.prefix", value: "", live: true, sample: "INBOX.", about: `What all folder names but INBOX begin with: "INBOX." after Courier.`},
	{name: "mail.old_prefix", value: "", live: true, sample: "INBOX.", about: `A prefix that clients may go on writing in place of mail.prefix: "INBOX." where Courier's clients come to a server whose folders have none. It is accepted in every command; LIST shows it to those who ask for it.`},
	{name: "mail.escape", value: "none", live: true, oneOf: []string{"none", "backslash", "courier"}, about: "How characters that a folder's directory cannot hold are written: refused (none), as Dovecot's listescape does (backslash), as Courier does (courier)."},
	{name: "mail.utf8", value: false, live: true, about: "Directories of folders are named in UTF-8 instead of modified UTF-7."},
	{name: "mail.inbox_dir", value: "", live: true, sample: "/var/mail/%u", about: "INBOX, where it is not the location itself."},
	{name: "mail.control_dir", value: "", live: true, sample: "/var/vmail-control/%d/%n", about: "Where dovecot-uidlist, dovecot-keywords and subscriptions are kept; empty is beside the mail."},
	{name: "mail.index_dir", value: "", live: true, sample: "/var/cache/roost/%d/%n", about: "Where Roost's caches are kept; empty is beside the mail. They may be deleted while Roost is stopped."},
	{name: "mail.mail_dir", value: "", live: true, sample: "mAiLdIr", about: "With layout fs: directory of a folder that holds its mail (Dovecot's DIRNAME)."},
	{name: "mail.subscriptions_file", value: "subscriptions", live: true, about: "Name of the file of subscriptions."},
	{name: "mail.create", value: false, live: true, about: "Make a missing Maildir at the first login, with the folders below that say so. Off, so that a disk that is not mounted stays empty."},
	{name: "mail.user", value: "", sample: "vmail", about: "User whom the mail belongs to, by name or number; Roost becomes this user when it is started as root."},
	{name: "mail.group", value: "", about: "Group instead of that user's own."},
	{name: "mail.follow_links", value: []string{}, live: true, sample: "/var/vmail/shared", about: "Directories in which folders that are symbolic links may end; others are not shown."},

	{name: "mail.folder.name", value: "", live: true, about: "Name of the mailbox, as clients see it."},
	{name: "mail.folder.use", value: "", live: true, oneOf: folderUses, about: "Its special use (RFC 6154)."},
	{name: "mail.folder.create", value: false, live: true, about: "Make it in a new Maildir."},
	{name: "mail.folder.subscribe", value: false, live: true, about: "Subscribe to it there."},

	{name: "limits.login_time", value: 30 * time.Second, live: true, about: "Time to log in, whatever trickles in."},
	{name: "limits.prelogin_line", value: 8 * kib, live: true, about: "A line before login."},
	{name: "limits.prelogin_literal", value: 4 * kib, live: true, about: "A literal before login."},
	{name: "limits.auth_line", value: 24 * kib, live: true, about: "An answer in AUTHENTICATE; tokens are long. With the default, and all that TLS holds, one who has not logged in costs less than 64 KiB."},
	{name: "limits.bad_commands", value: 3, live: true, about: "Bad commands before login, then the connection ends."},
	{name: "limits.connections", value: 20000, live: true, about: "Connections in all."},
	{name: "limits.connections_per_address", value: 50, live: true, about: "Connections from one address that have not logged in."},
	{name: "limits.trusted_networks", value: []string{"127.0.0.0/8", "::1/128"}, live: true, about: "Networks to which limits by address do not apply: webmails and container gateways are one address for many."},
	{name: "limits.connections_per_user_address", value: 20, live: true, about: "Connections of one user from one address."},
	{name: "limits.connections_per_user", value: 100, live: true, about: "Connections of one user."},
	{name: "limits.make_room_after", value: 30 * time.Minute, off: true, live: true, about: "A connection idle for so long makes room for a new one that would be beyond these."},
	{name: "limits.silence", value: 30 * time.Minute, live: true, about: "Silence outside of IDLE, then the connection ends; RFC 9051 asks for at least 30 minutes."},
	{name: "limits.command", value: 1 * mib, live: true, about: "A command after login; webmails send 20,000 UIDs in one."},
	{name: "limits.message", value: 64 * mib, live: true, about: "A message that is appended."},
	{name: "limits.unpacked", value: 256 * mib, about: "A message that another server left compressed, when it is unpacked; a bigger one is not served."},
	{name: "limits.mime_depth", value: 100, live: true, about: "Parts inside each other that are told apart in a message; what lies deeper is one piece. This and the next two hold for messages that were not read before; delete roost.cache for the others."},
	{name: "limits.mime_parts", value: 10_000, live: true, about: "Parts of one message that are told apart."},
	{name: "limits.mime_header", value: 1 * mib, live: true, about: "A header that is taken apart; all of it is served. Four times as much for all headers of a message."},
	{name: "limits.shutdown_patience", value: 10 * time.Second, live: true, about: "Time that running commands have to end when Roost stops."},

	{name: "imap.idle_keepalive", value: 2 * time.Minute, off: true, live: true, about: "How often an idling client hears from us, so that routers keep its connection."},
	{name: "imap.message_limit", value: 0, live: true, about: "Messages that one FETCH, SEARCH, STORE, COPY, MOVE, APPEND or UID EXPUNGE is for at most (MESSAGELIMIT, RFC 9738); 0 is no limit. Few clients know how to go on when they meet it: with more messages in a mailbox the others show the newest only."},
	{name: "imap.save_limit", value: 0, live: true, about: "Messages that one COPY or APPEND adds at most (SAVELIMIT, RFC 9738), in place of the limit on all commands; 0 is no limit."},
	{name: "imap.contact", value: "", live: true, sample: "mailto:postmaster@example.org", about: "How users reach the administrator, as a URI (mailto:, tel:, https:); clients that know METADATA can show it: /shared/admin."},
	{name: "imap.comment", value: "", live: true, sample: "Mail of Example Ltd", about: "A note on this server for those clients: /shared/comment."},
	{name: "imap.filter.name", value: "", live: true, sample: "triage", about: "Name of the search: an atom without /."},
	{name: "imap.filter.search", value: "", live: true, sample: "UNSEEN NOT KEYWORD $Junk", about: "What would stand behind SEARCH."},

	{name: "search.index", value: "auto", oneOf: []string{"auto", "off"}, about: "Whether an index of text, roost.fts, is kept of mailboxes in which text is searched: made in the background at the first such search, about a third of the text in size. Searches find the same without it, and read all messages. With off a mailbox loses its index when it is opened."},

	{name: "client.name", value: "", live: true, sample: "old phones", about: "What `roost who` calls the entry."},
	{name: "client.id", value: []string{}, live: true, sample: "iPhone Mail 15*", about: "Name and version of the client, as it tells them by ID (RFC 2971) and `roost who` shows them, with a blank between; \"*\" is any text. Before a client has told, the entry does not mean it."},
	{name: "client.user", value: []string{}, live: true, sample: "*@example.org", about: "Who is logged in; \"*\" is any text. Before the login the entry means nobody."},
	{name: "client.network", value: []string{}, live: true, sample: "192.0.2.0/24", about: "Networks or addresses that the client comes from."},
	{name: "client.server_name", value: []string{}, live: true, sample: "old.example.org", about: "Names that the client asks for in TLS (SNI); \"*\" is any text."},
	{name: "client.hide", value: []string{}, live: true, sample: "COMPRESS=DEFLATE", about: "Capabilities that are not named and cannot be enabled; docs/support.md lists them, and \"THREAD\" stands for all that begin with \"THREAD=\". Their commands are still understood; only a hidden UNAUTHENTICATE is not."},

	{name: "event.name", value: "", live: true, oneOf: EventNames, sample: "new_network", about: "What happened."},
	{name: "event.run", value: []string{}, live: true, sample: "/usr/local/bin/alert", about: "A program, with its arguments, that finds the event in its environment: ROOST_EVENT, ROOST_TIME, ROOST_USER, ROOST_ADDR, ROOST_CLIENT, ROOST_DETAIL. It has 30 seconds; at most 30 are started a minute. It runs confined as Roost is."},
	{name: "event.mail", value: false, live: true, about: "Put a note into the user's INBOX."},

	{name: "log.audit", value: "off", about: "Who deleted, moved or flagged which messages, from which client and address: \"off\", \"log\", or a file of its own, whose directory must be writable for Roost, with workers for isolation.auth_user (SIGHUP opens it again)."},
	{name: "log.level", value: "info", live: true, oneOf: []string{"debug", "info", "warn", "error"}, about: "Least weight of what is logged."},
	{name: "log.format", value: "text", oneOf: []string{"text", "json"}, about: "How a line is written."},

	{name: "isolation.mode", value: "user", oneOf: []string{"user", "workers"}, about: "With user one process has all mail, as mail.user. With workers mail belongs to users of the system: started as root, Roost has a process for each that has a session, one without rights that speaks with clients, and one that knows passwords. Users without userdb_uid in their entry are looked up in the system (getent), with their homes."},
	{name: "isolation.front_user", value: "roost", about: "With workers: whom the process that speaks with clients becomes. It reads certificates and keys, nothing else."},
	{name: "isolation.auth_user", value: "roost-auth", about: "With workers: whom the process that knows passwords becomes. It reads the password files."},
	{name: "isolation.acme_user", value: "roost-acme", about: "With workers and tls.acme: whom the process that asks for certificates becomes. It has the directory acme below state_dir, nothing else."},
	{name: "isolation.min_uid", value: 1000, about: "With workers: users of the system below this one have no mail here."},
	{name: "isolation.min_gid", value: 1000, about: "With workers: the least group that a user's own may be; of the further groups those below are left out. 100 where mail belongs to a common group users."},
	{name: "isolation.idle", value: 10 * time.Minute, about: "With workers: how long a user's process stays after the last session."},
	{name: "isolation.landlock", value: "auto", oneOf: []string{"auto", "required", "off"}, about: "Landlock: Roost cannot open any file but the mail, its own files and what every program reads of the system. With auto a kernel that cannot is told of in the log; with required Roost does not start there."},
	{name: "isolation.seccomp", value: "auto", oneOf: []string{"auto", "required", "off"}, about: "A filter of system calls: those that neither Roost nor a program that it starts needs (ptrace, mount, bpf, ...) fail."},
	{name: "isolation.read", value: []string{}, sample: "/opt/auth", about: "Further files and directories that may be read, and programs in them be run: those that an external command needs."},
	{name: "isolation.write", value: []string{}, sample: "/srv/mail", about: "Further directories that may be written: places of mail that neither mail.* nor a password file names, and what an external command writes."},

	{name: "control.socket", value: "/run/roost/control", off: true, about: "Unix socket for root and the user whom Roost runs as, nobody else. Its directory is made where only that is missing."},
}

// lookup gives the row of a key; indexes of arrays are passed over.
func lookup(path string) (key, bool) {
	name := withoutIndexes(path)
	for _, k := range keys {
		if k.name == name {
			return k, true
		}
	}
	return key{}, false
}

// sectionOf gives the table that a key stands in.
func sectionOf(name string) string {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return name[:i]
	}
	return ""
}

// keysOf lists the rows of one table.
func keysOf(section string) (rows []key) {
	for _, k := range keys {
		if sectionOf(k.name) == section {
			rows = append(rows, k)
		}
	}
	return rows
}

// leaf is a key's name inside of its table.
func (k key) leaf() string { return strings.TrimPrefix(k.name[len(sectionOf(k.name)):], ".") }

// fits reports whether a key has a meaning in an element of a kind.
func (k key) fits(kind string) bool { return k.kinds == nil || slices.Contains(k.kinds, kind) }

// Reference writes the commented reference file: every key with its default,
// each commented out, so that the file as it stands says nothing new.
func Reference(w io.Writer) {
	fmt.Fprint(w, "# Roost's configuration, with every key at its default. The file /etc/roost/roost.toml\n"+
		"# needs only what differs. `roost config check` finds mistakes; SIGHUP reads it again.\n"+
		"# Durations are \"90s\", \"2m\", \"1h\"; sizes are bytes or \"8KiB\", \"64MiB\".\n")
	def := Default()
	for _, s := range sections {
		fmt.Fprintln(w)
		wrap(w, "# ", s.about)
		if s.array {
			referenceArray(w, def, s.name)
			continue
		}
		if s.name != "" {
			fmt.Fprintf(w, "[%s]\n", s.name)
		}
		for _, k := range keysOf(s.name) {
			fmt.Fprintln(w)
			wrap(w, "# ", k.note())
			fmt.Fprintf(w, "#%s = %s\n", k.leaf(), k.show(k.value))
		}
	}
}

// referenceArray writes an array of tables: its keys with their docs, then the
// elements that are there by default, or one sample.
func referenceArray(w io.Writer, def *Config, section string) {
	for _, k := range keysOf(section) {
		wrap(w, "#   ", k.leaf()+": "+k.note())
	}
	elements := def.elements(section)
	if len(elements) == 0 {
		fmt.Fprintf(w, "#[[%s]]\n", section)
		kind := ""
		for _, k := range keysOf(section) {
			if k.leaf() == "kind" {
				kind = k.sample
			}
			if !k.fits(kind) {
				continue
			}
			sample := k.value
			switch k.value.(type) {
			case string:
				sample = k.sample
			case []string:
				sample = []string{k.sample}
			}
			fmt.Fprintf(w, "#%s = %s\n", k.leaf(), k.show(sample))
		}
	}
	for _, values := range elements {
		fmt.Fprintf(w, "#[[%s]]\n", section)
		for i, k := range keysOf(section) {
			fmt.Fprintf(w, "#%s = %s\n", k.leaf(), k.show(values[i]))
		}
	}
}

// Manual writes docs/config.md.
func Manual(w io.Writer) {
	fmt.Fprint(w, "# What can stand in roost.toml?\n\n"+
		"One TOML file, by default `/etc/roost/roost.toml`. Every key has a default; an unknown key is an error. "+
		"Durations are `\"90s\"`, `\"2m\"`, `\"1h\"`; sizes are bytes or `\"8KiB\"`, `\"64MiB\"`. "+
		"`roost config check` finds mistakes, `roost config show` prints what is in force, `roost config default` prints this page as a file to start from. "+
		"Keys marked *restart* wait for one; all others are taken over on SIGHUP, by what comes next: new connections, new logins.\n")
	for _, s := range sections {
		switch {
		case s.name == "":
			fmt.Fprint(w, "\n## Top level\n\n")
		case s.array:
			fmt.Fprintf(w, "\n## [[%s]]\n\n%s\n\n", s.name, s.about)
		default:
			fmt.Fprintf(w, "\n## [%s]\n\n%s\n\n", s.name, s.about)
		}
		for _, k := range keysOf(s.name) {
			fmt.Fprintf(w, "- `%s` = `%s`", k.leaf(), k.show(k.value))
			if !k.live {
				fmt.Fprint(w, " *restart*")
			}
			fmt.Fprintf(w, ": %s\n", k.note())
		}
	}
}

// note is what the manual says: the sentence, the values, an example.
func (k key) note() string {
	s := k.about
	if k.kinds != nil {
		s = "(" + strings.Join(k.kinds, ", ") + ") " + s
	}
	if k.oneOf != nil {
		var quoted []string
		for _, v := range k.oneOf {
			quoted = append(quoted, quote(v))
		}
		s += " One of " + strings.Join(quoted, ", ") + "."
	}
	if k.off {
		s += ` "off" turns it off.`
	}
	if k.sample != "" {
		s += " Example: " + quote(k.sample) + "."
	}
	return s
}

// show writes a value as TOML.
func (k key) show(v any) string {
	if k.secret && fmt.Sprint(v) != "" {
		return `"(secret)"`
	}
	switch v := v.(type) {
	case string:
		return quote(v)
	case []string:
		var quoted []string
		for _, s := range v {
			quoted = append(quoted, quote(s))
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	case time.Duration:
		if v == Off {
			return `"off"`
		}
		return quote(showDuration(v))
	case Size:
		if v == Off {
			return `"off"`
		}
		return showSize(v)
	}
	return fmt.Sprint(v)
}

// quote writes a TOML string, a literal one where that is easier to read.
func quote(s string) string {
	if strings.Contains(s, `\`) && !strings.ContainsFunc(s, func(r rune) bool { return r == '\'' || r < ' ' || r == 0x7f }) {
		return "'" + s + "'"
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// showDuration drops the zero units that time.Duration prints.
func showDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func showSize(n Size) string {
	for _, u := range []struct {
		size Size
		name string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {mib, "MiB"}, {kib, "KiB"}} {
		if n != 0 && n%u.size == 0 {
			return fmt.Sprintf(`"%d%s"`, n/u.size, u.name)
		}
	}
	return fmt.Sprint(int64(n))
}

// wrap writes text in lines of at most 100 columns, each behind prefix.
func wrap(w io.Writer, prefix, text string) {
	line := prefix
	for word := range strings.FieldsSeq(text) {
		if len(line)+len(word) > 100 && line != prefix {
			fmt.Fprintln(w, strings.TrimRight(line, " "))
			line = prefix
		}
		line += word + " "
	}
	fmt.Fprintln(w, strings.TrimRight(line, " "))
}
