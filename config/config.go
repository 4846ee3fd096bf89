package config

import (
	"io/fs"
	"strconv"
	"time"
)

// Off is the value of a duration or size that was written as "off".
const Off = -1

// Config is the whole configuration, every default filled in. What each key means
// stands in the table of default.go.
type Config struct {
	Hostname  string `toml:"hostname"`  // as greeted with; never empty after Load
	StateDir  string `toml:"state_dir"` // what outlives a restart
	TLS       TLS    `toml:"tls"`
	Listen    []Listen
	Auth      Auth
	Mail      Mail
	Limits    Limits
	IMAP      IMAP
	Search    Search
	Client    []Client
	Event     []Event
	Log       Log
	Control   Control
	Isolation Isolation

	src *source // where it was read from; nil for Default
}

// TLS says how connections are encrypted.
type TLS struct {
	Cert        string        // PEM, the chain behind the certificate
	Key         string        // PEM
	MinVersion  string        `toml:"min_version"` // "1.2", "1.3"
	Certificate []Certificate // further ones, chosen by SNI
	ACME        ACME          `toml:"acme"`
}

// ACME says how certificates are had from an authority.
type ACME struct {
	Names     []string // empty: not used
	Email     string
	Directory string // URL
	Roots     string // PEM file; "" for the system's
	Listen    string // host:port of the challenges
	Agree     bool   // to the authority's terms
}

// Certificate is one more certificate for other names.
type Certificate struct {
	Cert string
	Key  string
}

// Listen is one listening socket.
type Listen struct {
	Address   string // host:port; ":993" is every address of the machine
	STARTTLS  bool   `toml:"starttls"` // starts in the clear
	Plaintext bool   // passwords in the clear, on loopback only; starts in the clear

	Proxy         bool     // a PROXY header is before everything else
	ProxyNetworks []string `toml:"proxy_networks"` // whose
}

// Implicit reports whether the socket speaks TLS from its first byte.
func (l Listen) Implicit() bool { return !l.STARTTLS && !l.Plaintext }

// Auth says who may log in.
type Auth struct {
	PasswdFile string        `toml:"passwd_file"` // the first source; "" for none
	Lowercase  bool          // names are folded before they are looked up
	Remember   time.Duration // how long a verified password is known; Off never
	Hashers    int           // passwords verified at once; 0 as many as processors

	Throttle     Throttle
	AppPasswords string   `toml:"app_passwords"` // file; "" beside the first password file, "off" none
	AppsOnly     []string `toml:"apps_only"`     // protocols barred from main passwords of those who have app passwords

	MasterFile      string `toml:"master_file"` // "" for no master users
	MasterSeparator string `toml:"master_separator"`

	Mechanisms  []string // of SASL, that may be offered; empty for all
	Certificate ClientCertificate
	OAuth2      OAuth2
	Source      []Source // asked behind PasswdFile, in their order
	Listen      []AuthListen
}

// PasswdFiles are the password files among the sources, in their order.
func (a Auth) PasswdFiles() (files []string) {
	if a.PasswdFile != "" {
		files = append(files, a.PasswdFile)
	}
	for _, s := range a.Source {
		if s.Kind == "passwd" {
			files = append(files, s.File)
		}
	}
	return files
}

// Source is one place that knows users. Which fields count depends on Kind: the table of
// keys says it.
type Source struct {
	Kind      string
	File      string
	Command   []string
	Processes int
	Timeout   time.Duration
	Socket    string
	Userdb    string

	PAMService string `toml:"pam_service"`
	FirstUID   int    `toml:"first_uid"`

	URL           []string `toml:"url"`
	StartTLS      bool     `toml:"starttls"`
	CA            string   `toml:"ca"`
	BindDN        string   `toml:"bind_dn"`
	BindPassword  string   `toml:"bind_password_file"`
	Base          string
	Filter        string
	PasswordAttr  string `toml:"password_attribute"`
	Attributes    []string
	ListFilter    string `toml:"list_filter"`
	NameAttribute string `toml:"name_attribute"`
}

// AuthListen is a socket on which other programs, such as Postfix, ask who may log in.
type AuthListen struct {
	Path    string // of a unix socket
	Address string // loopback host:port, in place of it
	Mode    string // octal; "" is 0660
	User    string // owner
	Group   string
}

// FileMode is Mode as the file has it.
func (l AuthListen) FileMode() fs.FileMode {
	n, err := strconv.ParseUint(l.Mode, 8, 9)
	if err != nil {
		n = 0o660
	}
	return fs.FileMode(n)
}

// ClientCertificate says how clients log in by certificate.
type ClientCertificate struct {
	CA   string `toml:"ca"`  // PEM; "" for none
	CRL  string `toml:"crl"` // PEM
	User string // "email", "cn", "map"
	Map  string // file
}

// Throttle says how those who guess are slowed down.
type Throttle struct {
	Guesses   int           // a minute from one address
	LockAfter int           `toml:"lock_after"` // failures
	LockTime  time.Duration `toml:"lock_time"`  // of the first lock; Off for none
	LockMax   time.Duration `toml:"lock_max"`
}

// Mail says where mail lies, and as whom it is read and written.
type Mail struct {
	Location   string
	Home       string // for users whose passwd entry has none
	Layout     string // "maildir++", "fs"
	Separator  string // "/" or "."
	Prefix     string // of all personal mailboxes but INBOX, with its separator: "INBOX."
	OldPrefix  string `toml:"old_prefix"` // that clients may write in its place
	Escape     string // "none", "backslash", "courier"
	UTF8       bool   `toml:"utf8"`
	InboxDir   string `toml:"inbox_dir"`
	ControlDir string `toml:"control_dir"`
	IndexDir   string `toml:"index_dir"`
	MailDir    string `toml:"mail_dir"`
	SubsFile   string `toml:"subscriptions_file"`
	Create     bool
	User       string
	Group      string
	LinkTo     []string `toml:"follow_links"`
	Folder     []Folder
}

// Folder is a mailbox with a special use (RFC 6154).
type Folder struct {
	Name      string // in the user's own spelling: UTF-8, levels by mail.separator
	Use       string // `\Sent`; "" for none
	Create    bool
	Subscribe bool
}

// Limits bound what clients cost.
type Limits struct {
	LoginTime        time.Duration `toml:"login_time"`
	PreLoginLine     Size          `toml:"prelogin_line"`
	PreLoginLiteral  Size          `toml:"prelogin_literal"`
	AuthLine         Size          `toml:"auth_line"`
	BadCommands      int           `toml:"bad_commands"`
	Connections      int
	PerAddress       int           `toml:"connections_per_address"`
	TrustedNetworks  []string      `toml:"trusted_networks"`
	PerUserAddress   int           `toml:"connections_per_user_address"`
	PerUser          int           `toml:"connections_per_user"`
	MakeRoomAfter    time.Duration `toml:"make_room_after"`
	Silence          time.Duration
	Command          Size
	Message          Size
	Unpacked         Size
	MIMEDepth        int           `toml:"mime_depth"`
	MIMEParts        int           `toml:"mime_parts"`
	MIMEHeader       Size          `toml:"mime_header"`
	ShutdownPatience time.Duration `toml:"shutdown_patience"`
}

// IMAP says how Roost speaks to clients.
type IMAP struct {
	IdleKeepalive time.Duration `toml:"idle_keepalive"` // Off for none
	MessageLimit  int           `toml:"message_limit"`  // 0 for none
	SaveLimit     int           `toml:"save_limit"`     // 0 for none
	Contact       string        // URI of the administrator
	Comment       string        // on the server, for its users
	Filter        []Filter
}

// Filter is a named search that all users have (RFC 5466).
type Filter struct {
	Name   string
	Search string // what stands behind SEARCH
}

// Search says how text is searched.
type Search struct {
	Index string // "auto", "off"
}

// Client names clients of which a mistake is known. What is not given is any; of a list
// one has to fit. Patterns know "*".
type Client struct {
	Name       string
	ID         []string `toml:"id"` // of name and version as ID (RFC 2971) tells them
	User       []string
	Network    []string
	ServerName []string `toml:"server_name"` // SNI
	Hide       []string // capabilities
}

// Event says what is done about something unusual.
type Event struct {
	Name string
	Run  []string // a program and its arguments
	Mail bool     // a note in the user's INBOX
}

// Log says what is logged.
type Log struct {
	Audit  string // "off", "log", or a file
	Level  string // "debug", "info", "warn", "error"
	Format string // "text", "json"
}

// Control says where an admin asks the running server.
type Control struct {
	Socket string // absolute; "off" for none: Path tells
}

// State is the directory for what outlives a restart; "" for none.
func (c *Config) State() string {
	if c.StateDir == "off" {
		return ""
	}
	return c.StateDir
}

// Path is the control socket's path; "" for none.
func (c Control) Path() string {
	if c.Socket == "off" {
		return ""
	}
	return c.Socket
}

// Size is a number of bytes.
type Size int64

// AuditFile is the file that Audit names; "" for none.
func (l Log) AuditFile() string {
	if l.Audit == "off" || l.Audit == "log" {
		return ""
	}
	return l.Audit
}
