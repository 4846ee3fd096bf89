package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
)

// The PROXY protocol, versions 1 and 2 (haproxy.org's proxy-protocol.txt): a proxy says in
// front of everything else whose connection it passes on. Here exactly the bytes of the
// header are read, and no more of them than any proxy sends; the module understands them.

const (
	proxyTime = 10 * time.Second // for the header
	proxyLine = 107              // bytes of version 1
	proxySize = 4 << 10          // bytes of version 2 behind its first 16
)

// origin is what a proxy says of a client.
type origin struct {
	addr       netip.Addr // invalid: the connection is the proxy's own
	tls        string     // "TLSv1.3": between client and proxy; "" in the clear
	serverName string     // that the client asked for
}

var errNoProxy = errors.New("there is no PROXY header; is the proxy told to send one?")

// readProxyHeader reads a header from the very beginning of a stream, and nothing behind it.
func readProxyHeader(r io.Reader) (origin, error) {
	header := make([]byte, len(proxyproto.SIGV2), 128)
	if _, err := io.ReadFull(r, header); err != nil {
		return origin{}, err
	}
	var err error
	switch {
	case bytes.Equal(header, proxyproto.SIGV2):
		header, err = readProxyV2(r, header)
	case bytes.HasPrefix(header, proxyproto.SIGV1):
		header, err = readProxyV1(r, header)
	default:
		err = errNoProxy
	}
	if err != nil {
		return origin{}, err
	}
	h, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(header), len(header)))
	if err != nil {
		return origin{}, err
	}
	if h.Command.IsLocal() {
		return origin{}, nil
	}
	return originOf(h)
}

// readProxyV1 reads up to the end of the line.
func readProxyV1(r io.Reader, header []byte) ([]byte, error) {
	for header[len(header)-1] != '\n' {
		if len(header) == proxyLine {
			return nil, fmt.Errorf("a PROXY header has at most %d bytes", proxyLine)
		}
		header = append(header, 0)
		if _, err := io.ReadFull(r, header[len(header)-1:]); err != nil {
			return nil, err
		}
	}
	return header, nil
}

func readProxyV2(r io.Reader, header []byte) ([]byte, error) {
	header = append(header, 0, 0, 0, 0)
	if _, err := io.ReadFull(r, header[12:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(header[14:]))
	if n > proxySize {
		return nil, fmt.Errorf("a PROXY header of %d bytes; at most %d are read", n, proxySize)
	}
	header = append(header, make([]byte, n)...)
	_, err := io.ReadFull(r, header[16:])
	return header, err
}

func originOf(h *proxyproto.Header) (o origin, err error) {
	source, ok := h.SourceAddr.(*net.TCPAddr)
	if !ok {
		return o, fmt.Errorf("a PROXY header of %v, which is not TCP", h.TransportProtocol)
	}
	if o.addr, ok = netip.AddrFromSlice(source.IP); !ok {
		return origin{}, errors.New("a PROXY header without address")
	}
	o.addr = o.addr.Unmap()
	list, err := h.TLVs()
	if err != nil {
		return origin{}, err
	}
	for _, tlv := range list {
		if tlv.Type == proxyproto.PP2_TYPE_AUTHORITY {
			o.serverName = string(tlv.Value)
		}
	}
	if ssl, ok := tlvparse.FindSSL(list); ok && ssl.ClientSSL() {
		o.tls = "TLS"
		if v, ok := ssl.SSLVersion(); ok && v != "" {
			o.tls = cut(ascii(v), 20)
		}
	}
	return o, nil
}

// introduced lets a proxy say whose connection this is. It reports false, and has logged
// why, where the connection cannot go on.
func (s *Server) introduced(ctx context.Context, a *arrival, l *Listener) bool {
	refused := func(err error) bool {
		a.logger(a.now.opt.Log).Warn("connection refused", "event", "proxy_refused", "err", err)
		return false
	}
	if !within(l.Proxies, a.addr) {
		return refused(errors.New("it comes from no address of listen.proxy_networks"))
	}
	seat, err := s.places.connect(netip.Addr{}) // the proxy's own address does not count
	if err != nil {
		return refused(err)
	}
	defer seat.leave()
	nc := a.conn
	nc.SetReadDeadline(time.Now().Add(min(proxyTime, a.now.opt.Limits.LoginTime)))
	stop := context.AfterFunc(ctx, func() { nc.SetReadDeadline(time.Unix(1, 0)) })
	o, err := readProxyHeader(nc)
	if !stop() {
		return false // the server stops
	}
	nc.SetReadDeadline(time.Time{})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refused(errors.New("no PROXY header came in time"))
	case errors.Is(err, io.EOF): // a proxy that looks whether somebody is there
		a.logger(a.now.opt.Log).Debug("a proxy connected and left", "event", "proxy_check")
		return false
	case err != nil:
		return refused(err)
	}
	a.proxied = o
	if o.addr.IsValid() {
		a.on.moved(o.addr, a.addr, o.tls)
		a.addr = o.addr
	}
	if l.Mode != Implicit && o.tls != "" {
		a.secure = true // the proxy is at the end of TLS, and the way from it is trusted
	}
	return true
}

// within reports whether an address is in one of some networks.
func within(networks []netip.Prefix, addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, n := range networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}

// unexpectedProxy reports whether the first bytes of a connection are those of a PROXY
// header, where none is taken.
func unexpectedProxy(first []byte) bool {
	n := min(len(first), len(proxyproto.SIGV1))
	return n > 0 && (bytes.Equal(first[:n], proxyproto.SIGV1[:n]) || bytes.Equal(first[:n], proxyproto.SIGV2[:n]))
}

// errProxy tells an admin what is missing.
var errProxy = errors.New("a PROXY header came where none is taken: set listen.proxy for the address that the proxy connects to")
