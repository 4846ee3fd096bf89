package dovecot

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxLine bounds a line, in bytes. Dovecot's own limit is 8192; OAuth tokens are longer.
const maxLine = 32 << 10

var errLine = fmt.Errorf("a line of more than %d bytes", maxLine)

// escaper writes a value so that it can be a field: 0x01 begins an escape.
var (
	escaper   = strings.NewReplacer("\x01", "\x011", "\t", "\x01t", "\n", "\x01n", "\r", "\x01r", "\x00", "\x010")
	unescaper = strings.NewReplacer("\x011", "\x01", "\x01t", "\t", "\x01n", "\n", "\x01r", "\r", "\x010", "\x00")
)

// readLine reads up to LF, which is not part of the line. At most maxLine bytes are held.
func readLine(r *bufio.Reader) (string, error) {
	var long []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(long)+len(part) > maxLine {
			return "", errLine
		}
		switch {
		case err == nil && long == nil:
			return string(part[:len(part)-1]), nil
		case err == nil:
			long = append(long, part...)
			return string(long[:len(long)-1]), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			if len(long)+len(part) > 0 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return "", err
		}
		long = append(long, part...)
	}
}

// line puts fields, of which the values are escaped already, on a line.
func line(fields ...string) string { return strings.Join(fields, "\t") + "\n" }

// param is a field key=value.
func param(key, value string) string { return key + "=" + escaper.Replace(value) }

// params takes fields apart; one without = has the value "". The first of a name counts.
func params(fields []string) map[string]string {
	out := make(map[string]string, len(fields))
	for _, f := range fields {
		key, value, _ := strings.Cut(f, "=")
		if _, twice := out[key]; !twice {
			out[key] = unescaper.Replace(value)
		}
	}
	return out
}

// parseID reads the number of a request.
func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%.20q is no number of a request", s)
	}
	return uint32(n), nil
}

// decode reads base64; what it gives is never nil.
func decode(s string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if b == nil {
		b = []byte{}
	}
	return b, err
}

// authRequest is what follows AUTH.
type authRequest struct {
	id      uint32
	mech    string
	service string
	params  map[string]string
	resp    string // base64
	hasResp bool   // there is an initial response, which may be empty
}

// parseAuth reads the fields behind AUTH. resp= is the last: whatever follows it would be
// read by nobody.
func parseAuth(fields []string) (*authRequest, error) {
	if len(fields) < 3 {
		return nil, errors.New("AUTH wants a number, a mechanism and service=")
	}
	id, err := parseID(fields[0])
	if err != nil {
		return nil, err
	}
	a := &authRequest{id: id, mech: fields[1]}
	fields = fields[2:]
	for i, f := range fields {
		if resp, ok := strings.CutPrefix(f, "resp="); ok {
			if i != len(fields)-1 {
				return nil, errors.New("a field follows resp=")
			}
			a.resp, a.hasResp, fields = resp, true, fields[:i]
			break
		}
	}
	a.params = params(fields)
	if a.service = a.params["service"]; a.service == "" {
		return nil, errors.New("AUTH has no service=")
	}
	return a, nil
}
