package server

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"roost/auth"
	"roost/server/control"
)

// proxyV2 is a header of version 2 as a real proxy makes it.
func proxyV2(t testing.TB, source string, tlvs ...proxyproto.TLV) string {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(source)), net.TCPAddrFromAddrPort(netip.MustParseAddrPort(source)))
	if err := h.SetTLVs(tlvs); err != nil {
		t.Fatal(err)
	}
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func sslTLV(t testing.TB, client uint8, version string) proxyproto.TLV {
	t.Helper()
	tlv, err := tlvparse.PP2SSL{Client: client, TLV: []proxyproto.TLV{{Type: proxyproto.PP2_SUBTYPE_SSL_VERSION, Value: []byte(version)}}}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return tlv
}

const local = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"

// What proxies send, and what they do not: a header or an error, and not a byte more is read.
func TestProxyHeader(t *testing.T) {
	long := strings.Repeat("x", proxySize)
	for _, c := range []struct {
		name, header string
		want         origin
		fails        string
	}{
		{"v1", "PROXY TCP4 203.0.113.9 192.0.2.1 4711 993\r\n", origin{addr: netip.MustParseAddr("203.0.113.9")}, ""},
		{"v1, IPv6", "PROXY TCP6 2001:db8::1 2001:db8::2 65535 993\r\n", origin{addr: netip.MustParseAddr("2001:db8::1")}, ""},
		{"v1, mapped", "PROXY TCP6 ::ffff:203.0.113.9 ::1 1 993\r\n", origin{addr: netip.MustParseAddr("203.0.113.9")}, ""},
		{"v1, unknown", "PROXY UNKNOWN\r\n", origin{}, ""},
		{"v1, unknown with more", "PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", origin{}, ""},
		{"v1, no CR", "PROXY TCP4 203.0.113.9 192.0.2.1 4711 993\n", origin{}, "must end"},
		{"v1, other family", "PROXY TCP6 203.0.113.9 192.0.2.1 4711 993\r\n", origin{}, "address"},
		{"v1, no address", "PROXY TCP4 203.0.113 192.0.2.1 4711 993\r\n", origin{}, "address"},
		{"v1, zone", "PROXY TCP6 fe80::1%eth0 ::1 4711 993\r\n", origin{}, "address"},
		{"v1, too few words", "PROXY TCP4 203.0.113.9\r\n", origin{}, "proxyproto"},
		{"v1, endless", "PROXY TCP4 " + long, origin{}, "at most 107 bytes"},
		{"v2", proxyV2(t, "203.0.113.9:1"), origin{addr: netip.MustParseAddr("203.0.113.9")}, ""},
		{"v2, IPv6", proxyV2(t, "[2001:db8::1]:1"), origin{addr: netip.MustParseAddr("2001:db8::1")}, ""},
		{"v2, local", local, origin{}, ""},
		{"v2, TLS", proxyV2(t, "203.0.113.9:1", sslTLV(t, 1, "TLSv1.3"), proxyproto.TLV{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte("imap.example.org")}),
			origin{netip.MustParseAddr("203.0.113.9"), "TLSv1.3", "imap.example.org"}, ""},
		{"v2, no TLS", proxyV2(t, "203.0.113.9:1", sslTLV(t, 0, "")), origin{addr: netip.MustParseAddr("203.0.113.9")}, ""},
		{"v2, broken fields", local[:12] + "\x21\x11\x00\x0e" + "\xcb\x00\x71\x09\xc0\x00\x02\x01\x00\x01\x00\x02" + "\x20\xff", origin{}, "proxyproto"},
		{"v2, UDP", local[:12] + "\x21\x12\x00\x0c" + "\xcb\x00\x71\x09\xc0\x00\x02\x01\x00\x01\x00\x02", origin{}, "not TCP"},
		{"v2, huge", local[:14] + "\xff\xff" + long, origin{}, "at most 4096"},
		{"v2, cut off", local[:14] + "\x00\x0c" + "\xcb\x00", origin{}, "EOF"},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdef", origin{}, "no PROXY header"},
		{"IMAP", "a1 LOGIN ann secret\r\n", origin{}, "no PROXY header"},
		{"nothing", "", origin{}, "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, slow := range []bool{false, true} {
				behind := "\x16\x03 what comes next"
				all := strings.NewReader(c.header + behind)
				var r io.Reader = all
				if c.fails == "EOF" {
					r = strings.NewReader(c.header)
				}
				if slow {
					r = iotest.OneByteReader(r)
				}
				got, err := readProxyHeader(r)
				if c.fails != "" {
					if err == nil || !strings.Contains(err.Error(), c.fails) {
						t.Errorf("%+v, %v", got, err)
					}
					continue
				}
				rest, _ := io.ReadAll(all)
				if err != nil || got != c.want || string(rest) != behind {
					t.Errorf("%+v, %v, then %q", got, err, rest)
				}
			}
		})
	}
}

// Any bytes: no panic, a bounded number of them is read, and only an address is believed.
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 203.0.113.9 192.0.2.1 4711 993\r\nx"))
	f.Add([]byte(proxyV2(f, "203.0.113.9:1", sslTLV(f, 1, "TLSv1.3"))))
	f.Add([]byte(local))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		o, err := readProxyHeader(r)
		if n := len(b) - r.Len(); n > 16+proxySize {
			t.Errorf("%d bytes were read", n)
		}
		if err != nil && o.addr.IsValid() || o.addr.Zone() != "" || len(o.tls) > 30 {
			t.Errorf("%+v, %v", o, err)
		}
	})
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// startProxied is a server whose listeners take a PROXY header from some networks.
func startProxied(t *testing.T, from []netip.Prefix, change func(*Options), modes ...Mode) *testServer {
	t.Helper()
	specs := make([]Spec, len(modes))
	for i, m := range modes {
		specs[i] = Spec{"127.0.0.1:0", m}
	}
	return startServerOn(t, change, func(list []Listener) {
		for i := range list {
			list[i].Proxies = from
		}
	}, specs...)
}

// proxied connects to listener n and sends a header.
func (s *testServer) proxied(t *testing.T, n int, header string) *client {
	t.Helper()
	nc, err := net.Dial("tcp", s.listeners[n].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	io.WriteString(nc, header)
	return &client{nc, t, bufio.NewReader(nc)}
}

// who gives the connections by their addresses.
func (s *testServer) who(t *testing.T) map[string]control.Session {
	t.Helper()
	list := map[string]control.Session{}
	_, err := s.Control(nil)(t.Context(), control.Request{Do: "who"}, func(r control.Reply) error {
		list[r.Session.Addr] = *r.Session
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Behind a proxy everything goes by the client's own address.
func TestProxiedConnections(t *testing.T) {
	seen := &attempts{}
	s := startProxied(t, loopback, func(o *Options) {
		seen.Auth = o.Auth.(*auth.Auth)
		o.Auth = seen
		o.Limits.PerAddress = 1
	}, Implicit, STARTTLS)
	c := s.proxied(t, 0, "PROXY TCP4 203.0.113.9 192.0.2.1 4711 993\r\n")
	c.tls()
	c.want("* OK ")
	fmt.Fprint(c, "a LOGIN ann wrong\r\n")
	c.want("a NO")
	c.do("LOGIN ann secret")
	if at := seen.last(); at.Addr != netip.MustParseAddr("203.0.113.9") || at.TLS == nil {
		t.Errorf("the login was tried from %v", at.Addr)
	}
	for _, want := range []string{"addr=203.0.113.9 event=login_refused user=ann", "addr=203.0.113.9 event=login user=ann"} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("no %q in\n%s", want, s.log.String())
		}
	}
	if on := s.who(t)["203.0.113.9"]; on.User != "ann" || on.Proxy != "127.0.0.1" || on.TLS != "TLS 1.3" {
		t.Errorf("who: %+v", on)
	}
	// The limit by address is the client's, not the proxy's.
	var guests []*client
	for i := range 3 {
		g := s.proxied(t, 1, proxyV2(t, fmt.Sprintf("198.51.100.%d:1", i)))
		g.want("* OK [CAPABILITY ")
		guests = append(guests, g)
	}
	again := s.proxied(t, 1, proxyV2(t, "198.51.100.1:1"))
	again.want("* BYE [LIMIT]")
	again.end()
	// TLS ended at the proxy, or nowhere.
	fmt.Fprint(guests[0], "a LOGIN ann secret\r\n")
	guests[0].want("a NO [PRIVACYREQUIRED]")
	safe := s.proxied(t, 1, proxyV2(t, "198.51.100.77:1", sslTLV(t, 1, "TLSv1.2")))
	if greeting := safe.want("* OK "); strings.Contains(greeting, "STARTTLS") || !strings.Contains(greeting, "AUTH=PLAIN") {
		t.Error(greeting)
	}
	safe.do("LOGIN ann secret")
	if on := s.who(t)["198.51.100.77"]; on.TLS != "TLSv1.2 (proxy)" {
		t.Errorf("who: %+v", on)
	}
	// The proxy's own connection, to see whether somebody is there.
	own := s.proxied(t, 1, local)
	own.want("* OK ")
	if _, ok := s.who(t)["127.0.0.1"]; !ok {
		t.Error("the proxy's own connection is nobody's")
	}
}

// attempts remembers what was asked.
type attempts struct {
	*auth.Auth
	at atomic.Pointer[auth.Attempt]
}

func (a *attempts) Login(ctx context.Context, user, password string, at auth.Attempt) (auth.User, error) {
	a.at.Store(&at)
	return a.Auth.Login(ctx, user, password, at)
}

func (a *attempts) last() auth.Attempt { return *a.at.Load() }

// Who is no proxy is not believed, nor is a header where none is taken; the log says why.
func TestProxyHeadersAreRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		from   []netip.Prefix
		mode   Mode
		header string
		want   string
	}{
		{"from elsewhere", []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Implicit, "PROXY TCP4 203.0.113.9 192.0.2.1 4711 993\r\n", "no address of listen.proxy_networks"},
		{"no header but TLS", loopback, Implicit, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdef", "there is no PROXY header"},
		{"a broken one", loopback, STARTTLS, "PROXY TCP4 203.0.113 192.0.2.1 4711 993\r\n", "invalid address"},
		{"one byte and no more", loopback, STARTTLS, "P", "no PROXY header came in time"},
		{"v1 to a TLS port", nil, Implicit, "PROXY TCP4 203.0.113.9 192.0.2.1 4711 993\r\n", "set listen.proxy"},
		{"v2 to a TLS port", nil, Implicit, proxyV2(t, "203.0.113.9:1"), "set listen.proxy"},
		{"v1 to a port in the clear", nil, STARTTLS, "PROXY TCP4 203.0.113.9 192.0.2.1 4711 993\r\n", "set listen.proxy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startProxied(t, c.from, func(o *Options) {
				if strings.Contains(c.want, "in time") { // the others must not find that it is over
					o.Limits.LoginTime = 200 * time.Millisecond
				}
			}, c.mode)
			k := s.proxied(t, 0, c.header)
			k.end()
			s.stop()
			s.wait()
			log := s.log.String()
			if strings.Count(log, "event=proxy_refused") != 1 || !strings.Contains(log, c.want) || !strings.Contains(log, "addr=127.0.0.1") || strings.Contains(log, "addr=203") {
				t.Error(log)
			}
		})
	}
}

// A proxy that looks whether the port is open is no news, and the server's end is not
// held up by one that says nothing.
func TestProxyThatSaysNothing(t *testing.T) {
	s := startProxied(t, loopback, nil, Implicit)
	s.proxied(t, 0, "").Close()
	mute := s.proxied(t, 0, "PROXY ")
	s.stop()
	if err := s.wait(); err != nil {
		t.Error(err)
	}
	mute.end()
	if strings.Contains(s.log.String(), "level=WARN") {
		t.Error(s.log.String())
	}
}

// A webmail says whose connection it is by ID; others are not believed.
func TestOriginatingAddress(t *testing.T) {
	seen := &attempts{}
	s := startServer(t, func(o *Options) {
		seen.Auth = o.Auth.(*auth.Auth)
		o.Auth = seen
		o.Limits.Trusted = loopback
		o.Limits.PerAddress = 1
	}, Spec{"127.0.0.1:0", Plaintext})
	c := s.dial(t, 0)
	c.do(`ID ("name" "Webmail" "x-originating-ip" "203.0.113.9" "x-connected-ip" "192.0.2.1" "x-proxy-ttl" "4")`)
	fmt.Fprint(c, "a LOGIN ann wrong\r\n")
	c.want("a NO")
	if at := seen.last(); at.Addr != netip.MustParseAddr("203.0.113.9") {
		t.Errorf("the login was tried from %v", at.Addr)
	}
	if !strings.Contains(s.log.String(), "addr=203.0.113.9 event=login_refused user=ann") {
		t.Error(s.log.String())
	}
	if on := s.who(t)["203.0.113.9"]; on.Proxy != "127.0.0.1" {
		t.Errorf("who: %+v", on)
	}
	d := s.dial(t, 0)
	fmt.Fprint(d, "a ID (\"X-Originating-IP\" \"203.0.113.9\")\r\n")
	d.want("* BYE [LIMIT]")
	d.end()
	c.do("LOGIN ann secret") // makes room, for who is logged in is not counted
	e := s.dial(t, 0)
	e.do(`ID ("x-originating-ip" "203.0.113.9")`)
	e.do(`ID ("x-originating-ip" "2001:db8::9")`) // one connection for another
	e.do("LOGIN ben s3cretword")
	if on := s.who(t)["2001:db8::9"]; on.User != "ben" {
		t.Errorf("who: %+v", on)
	}
	for _, wrong := range []string{`"anywhere"`, `""`, "NIL", `"fe80::1%eth0"`, `"203.0.113.9, 198.51.100.1"`} {
		f := s.dial(t, 0)
		f.do(`ID ("x-originating-ip" ` + wrong + `)`)
		f.do("NOOP")
		if _, ok := s.who(t)["127.0.0.1"]; !ok {
			t.Errorf("%s: %+v", wrong, s.who(t))
		}
		f.Close()
	}
}

func TestOriginatingAddressOfStrangers(t *testing.T) {
	s := startServer(t, nil, Spec{"127.0.0.1:0", Plaintext})
	c := s.dial(t, 0)
	for range 3 {
		c.do(`ID ("x-originating-ip" "203.0.113.9")`)
	}
	c.do("LOGIN ann secret")
	if list := s.who(t); len(list) != 1 || list["127.0.0.1"].User != "ann" {
		t.Errorf("%+v", list)
	}
	if log := s.log.String(); strings.Count(log, "event=origin_refused") != 1 || strings.Contains(log, "addr=203") {
		t.Error(log)
	}
}

// Nearly all from one private address: said once, where it means something.
func TestCrowd(t *testing.T) {
	const docker, lan, public = "172.17.0.1", "192.168.1.5", "203.0.113.9"
	for _, c := range []struct {
		name     string
		gateways string
		logins   func(i int) (addr, user string)
		n, want  int // after so many logins it is told; 0: never
	}{
		{"a container", docker, func(int) (string, string) { return docker, "ann" }, 100, 10},
		{"another gateway", "", func(i int) (string, string) { return "10.0.0.1", fmt.Sprint(i % 3) }, 100, 50},
		{"one person's machine", "", func(int) (string, string) { return lan, "ann" }, 100, 0},
		{"a house with two machines", "", func(i int) (string, string) { return fmt.Sprint("192.168.1.", i%2), fmt.Sprint(i) }, 100, 0},
		{"a public address", "", func(i int) (string, string) { return public, fmt.Sprint(i) }, 100, 0},
		{"a few from inside", docker, func(i int) (string, string) {
			if i%5 == 0 {
				return public, "ann"
			}
			return docker, "ann"
		}, 100, 0},
		{"later", docker, func(i int) (string, string) {
			if i < 100 {
				return public, "ann"
			}
			return docker, "ann"
		}, 200, 145},
	} {
		t.Run(c.name, func(t *testing.T) {
			var w crowd
			if c.gateways != "" {
				w.gateways = []netip.Addr{netip.MustParseAddr(c.gateways)}
			}
			told := 0
			for i := range c.n {
				addr, user := c.logins(i)
				if w.note(netip.MustParseAddr(addr), user) {
					if told != 0 {
						t.Error("told twice")
					}
					told = i + 1
				}
			}
			if told != c.want {
				t.Errorf("told after %d, want %d", told, c.want)
			}
		})
	}
}

func TestParseRoutes(t *testing.T) {
	got := ParseRoutes("Iface\tDestination\tGateway \tFlags\n"+
		"eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\neth0\t000011AC\t00000000\t0001\neth1\t00000000\t010200C0\nx\n",
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n"+
			"00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo\n")
	if fmt.Sprint(got) != "[172.17.0.1 fe80::1]" {
		t.Error(got)
	}
}
