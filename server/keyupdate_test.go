package server

import (
	"bufio"
	"crypto/tls"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A client that has been silent for longer than a write may take, and then wants new keys, is
// answered by TLS itself, whose write had the session's deadline of long ago: the connection
// broke with the client's next command.
func TestNewKeysForAClientThatWasSilent(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("needs openssl: apt-get install openssl")
	}
	dir := t.TempDir()
	writePair(t, dir+"/cert.pem", dir+"/key.pem", "localhost")
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	client := exec.CommandContext(t.Context(), openssl, "s_client", "-tls1_3", "-connect", l.Addr().String())
	stdin, err := client.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := client.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	client.Stderr = client.Stdout
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	defer client.Wait()
	defer stdin.Close()
	said := bufio.NewReader(stdout)
	wait := func(text string) {
		t.Helper()
		for {
			line, err := said.ReadString('\n')
			if strings.Contains(line, text) {
				return
			}
			if err != nil {
				t.Fatalf("openssl ended before %q", text)
			}
		}
	}

	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := &heardConn{Conn: tls.Server(resting(nc), &tls.Config{Certificates: []tls.Certificate{cert}}), on: &presence{}}
	if _, err := c.Write([]byte("greeting\n")); err != nil {
		t.Fatal(err)
	}
	wait("greeting")
	c.SetWriteDeadline(time.Unix(1, 0))
	stdin.Write([]byte("K\n"))
	wait("KEYUPDATE")
	stdin.Write([]byte("hello\n"))
	b := make([]byte, 100)
	if n, err := c.Read(b); err != nil || string(b[:n]) != "hello\n" {
		t.Fatalf("%q came: %v", b[:n], err)
	}
	c.SetWriteDeadline(time.Time{})
	if _, err := c.Write([]byte("answer\n")); err != nil {
		t.Fatal(err)
	}
	wait("answer")
}
