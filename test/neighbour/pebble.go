package neighbour

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// Pebble is Let's Encrypt's own ACME server for tests, which looks for proof as the real
// one does, with a DNS server under which every name is this machine.
type Pebble struct {
	Directory string // URL
	Roots     string // PEM of who vouches for it
	HTTPPort  int    // where it asks
	processes []*process
	log       *logBuffer
}

// pebbleSource is where both programs come from.
const pebbleSource = "Go: go install github.com/letsencrypt/pebble/v2/cmd/pebble@latest github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv@latest"

// StartPebble runs one in dir, with certificates that are good for some seconds.
func StartPebble(dir string, seconds int) (*Pebble, error) {
	server, err := Find("pebble", pebbleSource)
	if err != nil {
		return nil, err
	}
	names, err := Find("pebble-challtestsrv", pebbleSource)
	if err != nil {
		return nil, err
	}
	if err := Certificate(dir); err != nil {
		return nil, err
	}
	var ports [5]int // ACME, management, HTTP-01, DNS, the other's management
	for i := range ports {
		if ports[i], err = FreePort(); err != nil {
			return nil, err
		}
	}
	at := func(i int) string { return "127.0.0.1:" + strconv.Itoa(ports[i]) }
	conf := map[string]any{"pebble": map[string]any{
		"listenAddress": at(0), "managementListenAddress": at(1), "httpPort": ports[2], "tlsPort": 1,
		"certificate": filepath.Join(dir, "cert.pem"), "privateKey": filepath.Join(dir, "key.pem"),
		"retryAfter": map[string]int{"authz": 1, "order": 1}, "keyAlgorithm": "ecdsa",
		"profiles": map[string]any{"default": map[string]any{"description": "for a test", "validityPeriod": seconds}},
	}}
	text, err := json.Marshal(conf)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return nil, err
	}
	p := &Pebble{
		Directory: fmt.Sprintf("https://localhost:%d/dir", ports[0]), Roots: filepath.Join(dir, "cert.pem"), HTTPPort: ports[2], log: &logBuffer{},
	}
	for i, cmd := range []*exec.Cmd{
		exec.Command(names, "-defaultIPv6", "", "-dnsserver", at(3), "-doh", "", "-http01", "", "-https01", "", "-tlsalpn01", "", "-management", at(4)),
		exec.Command(server, "-config", file, "-dnsserver", at(3)),
	} {
		cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1")
		cmd.Stdout, cmd.Stderr = p.log, p.log
		proc, err := start(cmd)
		if err == nil {
			p.processes = append(p.processes, proc)
			_, err = proc.reach(at([]int{4, 0}[i]))
		}
		if err != nil {
			p.Close()
			return nil, fmt.Errorf("%w\n%s", err, p.Log())
		}
	}
	return p, nil
}

// Log is what both have said.
func (p *Pebble) Log() string { return p.log.String() }

// Close ends both.
func (p *Pebble) Close() error {
	for _, proc := range p.processes {
		proc.cmd.Process.Kill() // it has nothing to lose, and takes its time otherwise
		<-proc.done
	}
	return nil
}
