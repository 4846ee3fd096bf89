package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"roost/unixsocket"
)

// Why a server cannot be asked; Ask's errors wrap one of them where it is so.
var (
	ErrNobody  = errors.New("no server answers there")
	ErrDenied  = errors.New("only root and the user whom the server runs as may ask it")
	ErrForeign = errors.New("the socket belongs to another user than the mail")
)

// replyBytes bounds a Reply.
const replyBytes = 64 << 10

// Ask asks the server at a socket, and calls each for every Reply before the last. It
// returns what Done says. An error of each ends the answer, and is returned. Who listens
// there must be root, this process's own user, the owner of the directory where nobody
// else can put anything there, or one of owners.
func Ask(ctx context.Context, path string, q Request, each func(Reply) error, owners ...int) (done string, err error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENOTSOCK):
			return "", fmt.Errorf("%s: %w", path, ErrNobody)
		case errors.Is(err, fs.ErrPermission):
			return "", fmt.Errorf("%s: %w", path, ErrDenied)
		}
		return "", fmt.Errorf("%s: %w", path, unixsocket.Plain(err))
	}
	c := nc.(*net.UnixConn)
	defer c.Close()
	// Interrupts reads and writes.
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if uid, err := peer(c); err != nil || uid != 0 && uid != os.Geteuid() && uid != keeper(path) && !slices.Contains(owners, uid) {
		return "", fmt.Errorf("%s: %w", path, errors.Join(ErrForeign, err))
	}
	if err := json.NewEncoder(c).Encode(q); err != nil && ctx.Err() == nil && !errors.Is(err, syscall.EPIPE) {
		return "", fmt.Errorf("%s: %w", path, unixsocket.Plain(err))
	}
	in := bufio.NewScanner(c)
	in.Buffer(nil, replyBytes)
	for in.Scan() {
		var r Reply
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			if !in.Scan() { // a line that broke off
				break
			}
			return "", fmt.Errorf("%s: the answer cannot be read: %w", path, err)
		}
		switch {
		case r.Error != "":
			return "", errors.New(r.Error)
		case r.Done != "":
			return r.Done, nil
		}
		if err := each(r); err != nil {
			return "", err
		}
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	err = in.Err()
	if err == nil || errors.Is(err, syscall.ECONNRESET) {
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		// It was accepted and closed: who may not ask is sent away without a word.
		return "", fmt.Errorf("%s: the server broke off: %w", path, err)
	}
	return "", fmt.Errorf("%s: %w", path, unixsocket.Plain(err))
}

// keeper is the user who alone can put a socket at path, besides root; -1 for none.
func keeper(path string) int {
	fi, err := os.Stat(filepath.Dir(path))
	if err != nil || fi.Mode().Perm()&0o022 != 0 {
		return -1
	}
	return int(fi.Sys().(*syscall.Stat_t).Uid)
}
