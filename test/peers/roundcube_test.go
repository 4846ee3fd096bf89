package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/test/neighbour"
)

// roundcubeConf is Debian's Roundcube with directories of its own.
const roundcubeConf = `<?php
$config = [];
$config['db_dsnw'] = 'sqlite:///{home}/roundcube.db?mode=0600';
$config['log_driver'] = 'file';
$config['log_dir'] = '{home}/logs';
$config['temp_dir'] = '{home}/temp';
$config['des_key'] = 'twenty-four-bytes-of-key';
$config['plugins'] = [];
$config['skin'] = 'elastic';
$config['imap_conn_options'] = ['ssl' => ['verify_peer' => true, 'cafile' => '{home}/ca.pem', 'peer_name' => 'localhost']];
`

// Roundcube in a browser that draws nothing: log in, list, open a message and download
// what is attached, search, move, flag, delete, make a folder, keep a draft.
func TestRoundcube(t *testing.T) {
	php, node, browser := need(t, "php", "php-cli"), need(t, "node", "nodejs"), need(t, "chromium", "chromium")
	const program = "/var/lib/roundcube/public_html"
	if _, err := os.Stat(program + "/index.php"); err != nil {
		t.Skip(neighbour.Missing{Program: "roundcube", Package: "roundcube-core roundcube-sqlite3 php-sqlite3"})
	}
	if _, err := os.Stat("node_modules/playwright-core"); err != nil {
		t.Skip("playwright-core is not installed: npm ci in test/peers")
	}
	h := newHouse(t)
	h.serve(t)
	r := h.tap(t)
	neighbour.Compat(t, "client", "Roundcube in Chromium", version("roundcube-core"), "list, read, attachments, search, flag, move, delete, folders, drafts")
	c := login(t, h.roost.Addr, "ann", nil)
	for n := range 3 {
		appendMessage(t, c, "INBOX", sample(n))
	}
	appendMessage(t, c, "INBOX", withAttachment, imap.FlagSeen)

	g := h.guest(t)
	g.mkdir("logs", "temp", "out")
	g.write("config/config.inc.php", strings.ReplaceAll(roundcubeConf, "{home}", g.home)+g.settings("roundcube", r))
	for _, name := range []string{"defaults.inc.php", "mimetypes.php"} {
		if err := os.Symlink("/etc/roundcube/"+name, g.path("config", name)); err != nil {
			t.Fatal(err)
		}
	}
	g.run(php, "-r", `$db = new PDO("sqlite:`+g.path("roundcube.db")+`"); $db->exec(file_get_contents("/usr/share/roundcube/SQL/sqlite.initial.sql"));`)

	port, err := neighbour.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	web := g.command(php, "-S", address, "-t", program)
	web.Env = append(web.Env, "ROUNDCUBE_CONFIG_DIR="+g.path("config"), "PHP_CLI_SERVER_WORKERS=4")
	webLog, err := os.Create(filepath.Join(h.dir, "web.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer webLog.Close()
	web.Stdout, web.Stderr = webLog, webLog
	background(t, web)

	scriptPath, err := filepath.Abs("roundcube.mjs")
	if err != nil {
		t.Fatal(err)
	}
	cmd := g.command(node, scriptPath, "http://"+address+"/", "ann@example.org", password, g.path("out"), browser)
	out, err := cmd.CombinedOutput()
	keepArtifacts(t, g.path("out"))
	if err != nil {
		t.Errorf("%v\n%s\nthe web server's log:\n%s", err, out, read(t, webLog.Name()))
	}
	logs, err := filepath.Glob(g.path("logs/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range logs {
		t.Errorf("%s:\n%s", name, read(t, name))
	}
	far := h.maildir("ann")
	same(t, "INBOX", letters(t, far), []string{"Grüße mit Anhang S", "message 0 FS"})
	// Whether the preview was there long enough to mark it read is the browser's to say.
	moved := letters(t, far+"/.M&APw-hle &- S&APY-hne")
	for i := range moved {
		moved[i] = strings.TrimSuffix(moved[i], "S")
	}
	same(t, "the folder made", moved, []string{"message 1 "})
	same(t, "Trash", letters(t, far+"/.Trash"), []string{"message 2 S"})
	same(t, "Drafts", letters(t, far+"/.Drafts"), []string{"Entwurf für später S"})
}

// keepArtifacts copies the pictures of a run to where go test -artifacts keeps them.
func keepArtifacts(t *testing.T, dir string) {
	t.Helper()
	pictures, err := filepath.Glob(filepath.Join(dir, "*.png"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pictures {
		if err := os.WriteFile(filepath.Join(t.ArtifactDir(), filepath.Base(p)), []byte(read(t, p)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// withAttachment has a text with umlauts in a subject that is encoded, and a file.
const withAttachment = "From: Ann <ann@example.org>\r\nTo: bob@example.org\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe_mit_Anhang?=\r\n" +
	"Date: Tue, 24 Nov 2026 12:00:00 +0000\r\nMessage-ID: <attached@example.org>\r\nMIME-Version: 1.0\r\n" +
	"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" +
	"Im Anhang liegt die Liste, schöne Grüße.\r\n--b\r\nContent-Type: text/csv; name=\"liste.csv\"\r\n" +
	"Content-Disposition: attachment; filename=\"liste.csv\"\r\nContent-Transfer-Encoding: base64\r\n\r\nYSxiLGMKMSwyLDMK\r\n--b--\r\n"
