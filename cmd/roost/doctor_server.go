package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"roost/server/control"
)

// askTime is how long a server may take to answer the doctor.
const askTime = 10 * time.Second

// ask finds out whether the server runs, and whether it is the one that the
// configuration means.
func (d *doctor) ask(ctx context.Context) {
	path := d.config.Control.Path()
	if path == "" {
		d.add("server-unseen", finding{Where: d.path, What: "control.socket is off, so the server cannot be asked", Do: "what a client sees is looked at all the same", Weight: remark})
		return
	}
	timed, cancel := context.WithTimeout(ctx, d.patience)
	defer cancel()
	var owners []int
	if uid, _, err := d.config.Owner(); err == nil && uid > 0 {
		owners = append(owners, uid)
	}
	_, err := control.Ask(timed, path, control.Request{Do: "status"}, func(r control.Reply) error {
		d.server = r.Status
		return nil
	}, owners...)
	hangs := timed.Err() != nil
	d.asked = err == nil || hangs || errors.Is(err, control.ErrNobody)
	switch {
	case ctx.Err() != nil:
		return
	case hangs:
		d.server = nil
		d.add("server-down", finding{Where: path, What: fmt.Sprintf("the server takes the question and gives no answer in %v", d.patience), Do: "restart it: systemctl restart roost; its log may say more"})
		return
	case errors.Is(err, control.ErrNobody):
		d.add("server-down", finding{Where: path, What: "no server answers", Do: "start it: systemctl start roost, or roost serve; its log says why it ended (journalctl -u roost)"})
		return
	case err != nil || d.server == nil:
		d.server = nil
		d.add("server-unseen", finding{Where: path, What: "the server cannot be asked: " + strings.TrimPrefix(fmt.Sprint(err), path+": "), Do: "run this as root"})
		return
	}
	st := d.server
	hup := fmt.Sprintf("kill -HUP %d", st.PID)
	if !sameFile(st.Config, d.path) {
		d.add("server-other", finding{Where: path, What: fmt.Sprintf("process %d answers, which has the configuration %s", st.PID, st.Config), Do: "look at it with roost doctor --config " + shellWord(st.Config) + ", or give the two their own control.socket"})
		d.server = nil
		return
	}
	if st.Version != version {
		d.add("server-version", finding{Where: path, What: fmt.Sprintf("version %s runs, %s is installed", st.Version, version), Do: "restart it: systemctl restart roost"})
	}
	if fi, err := os.Stat(d.path); err == nil && fi.ModTime().After(st.Read) {
		d.add("server-config", finding{Where: d.path, What: "it was changed at " + fi.ModTime().Format(time.DateTime) + ", after the server read it", Run: hup})
	}
	if len(st.Restart) > 0 {
		d.add("server-restart", finding{Where: d.path, What: "the server goes by the old value of " + strings.Join(st.Restart, ", "), Do: "restart it: systemctl restart roost"})
	}
}

// sameFile reports whether two paths are one file.
func sameFile(a, b string) bool {
	x, errA := os.Stat(a)
	y, errB := os.Stat(b)
	return absolute(a) == absolute(b) || errA == nil && errB == nil && os.SameFile(x, y)
}

// socket is one that somebody listens on.
type socket struct {
	addr  net.TCPAddr
	inode string
	uid   int
}

// listening reads the sockets of this machine that are listened on.
func (d *doctor) listening() (list []socket) {
	for _, name := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile(filepath.Join(d.proc, "net", name))
		if err != nil {
			continue // no IPv6, or no /proc: then nothing is known of ports
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line) // sl local remote state queues timer retransmits uid timeout inode
			if len(f) < 10 || f[3] != "0A" {
				continue
			}
			host, port, _ := strings.Cut(f[1], ":")
			n, err := strconv.ParseUint(port, 16, 16)
			ip, ok := hexIP(host)
			uid, uerr := strconv.Atoi(f[7])
			if err == nil && ok && uerr == nil {
				list = append(list, socket{net.TCPAddr{IP: ip, Port: int(n)}, f[9], uid})
			}
		}
	}
	return list
}

// hexIP reads an address as the kernel writes it: words in the machine's order.
func hexIP(s string) (net.IP, bool) {
	if len(s) != 8 && len(s) != 32 {
		return nil, false
	}
	var ip net.IP
	for i := 0; i < len(s); i += 8 {
		n, err := strconv.ParseUint(s[i:i+8], 16, 32)
		if err != nil {
			return nil, false
		}
		ip = append(ip, byte(n), byte(n>>8), byte(n>>16), byte(n>>24)) // little-endian machines, all that Go's Linux ports in use are
	}
	return ip, true
}

// sockets gives the processes that have a socket open, by its inode, as far as that may
// be known.
func (d *doctor) sockets() map[string][]int {
	held := map[string][]int{}
	links, _ := filepath.Glob(filepath.Join(d.proc, "[0-9]*", "fd", "*"))
	for _, link := range links {
		target, err := os.Readlink(link)
		inode, ok := strings.CutPrefix(target, "socket:[")
		if err != nil || !ok {
			continue
		}
		inode = strings.TrimSuffix(inode, "]")
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(link))))
		if !slices.Contains(held[inode], pid) {
			held[inode] = append(held[inode], pid)
		}
	}
	return held
}

// program is the name of a process.
func (d *doctor) program(pid int) string {
	b, _ := os.ReadFile(filepath.Join(d.proc, strconv.Itoa(pid), "comm"))
	return strings.TrimSpace(string(b))
}

// ports looks at who listens where the configuration says.
func (d *doctor) ports(context.Context) {
	sockets, held := d.listening(), d.sockets()
	for _, l := range d.config.Listen {
		host, port, err := net.SplitHostPort(l.Address)
		if err != nil {
			continue // a mistake of the configuration
		}
		n, err := net.LookupPort("tcp", port)
		if err != nil || n == 0 {
			continue // the kernel's choice: nobody can know it
		}
		i := slices.IndexFunc(sockets, func(s socket) bool { return s.addr.Port == n && meets(host, s.addr.IP) })
		if i < 0 {
			switch {
			case d.server != nil:
				d.add("port-silent", finding{Where: l.Address, What: "the server does not listen there", Do: "a [[listen]] that was added waits for a restart: systemctl restart roost"})
			case !d.asked:
				d.add("port-silent", finding{Where: l.Address, What: "nobody listens there", Do: "start the server: systemctl start roost"})
			}
			continue
		}
		if f, foreign := d.foreign(sockets[i], held[sockets[i].inode]); foreign {
			f.Where = l.Address
			d.add("port-busy", f)
		}
	}
}

// meets reports whether a socket's address is in the way of listening on a host.
func meets(host string, ip net.IP) bool {
	want := net.ParseIP(host)
	return host == "" || want == nil || want.IsUnspecified() || ip.IsUnspecified() || want.Equal(ip)
}

// foreign tells whose a socket is that is not the server's. pids have it open; none, when
// that may not be known.
func (d *doctor) foreign(s socket, pids []int) (finding, bool) {
	if d.server != nil {
		// Whose descriptors may not be looked at must be believed.
		believed := len(pids) == 0 && slices.ContainsFunc(d.server.Listen, func(l string) bool { return strings.HasPrefix(l, s.addr.String()+" ") })
		if believed || slices.Contains(pids, d.server.PID) {
			return finding{}, false
		}
	}
	for _, pid := range pids {
		switch name := d.program(pid); {
		case pid == 1 || name == "systemd": // of a .socket unit, whether or not the server runs
			return finding{}, false
		case name == "roost" && !d.asked:
			return finding{}, false
		case name == "roost":
			return finding{Weight: ailing, What: fmt.Sprintf("a roost (process %d) listens there that does not answer on the control socket", pid),
				Do: "it is one with another configuration, or its log says why it has no control socket (event=control_failed)"}, true
		}
	}
	switch {
	case len(pids) > 0:
		return finding{What: fmt.Sprintf("%s (process %d) listens there", d.program(pids[0]), pids[0]),
			Do: fmt.Sprintf("end it, or change the address; if it is a service, for good: systemctl disable --now %s", shellWord(d.program(pids[0]))), Run: fmt.Sprintf("kill %d", pids[0])}, true
	case !d.asked && d.server == nil:
		return finding{}, false // it may well be the server
	}
	return finding{What: "a program of user " + userName(s.uid) + " listens there", Do: "root's doctor names it"}, true
}
