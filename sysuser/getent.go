package sysuser

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// Getent is getent(1) with what stands before its arguments; nil is that of the PATH.
type Getent []string

// Ask gives what it prints, at most so many bytes, without the end of the last line.
// ErrUnknown: it has no such key; exec.ErrNotFound: there is no getent; or the cause of the
// context's end. No argument may be a key that getent takes for an option.
func (g Getent) Ask(ctx context.Context, most int64, args ...string) (string, error) {
	if g == nil {
		g = Getent{"getent"}
	}
	cmd := exec.CommandContext(ctx, g[0], append(g[1:len(g):len(g)], args...)...) // #nosec G204 -- getent, and no shell
	cmd.Dir, cmd.WaitDelay = "/", time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &capped{&out, most}, &capped{&errs, most}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.As(err, &exit) && exit.ExitCode() == 2:
		return "", ErrUnknown
	case err != nil:
		return "", fmt.Errorf("getent %s: %w %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

// capped refuses more than left bytes.
type capped struct {
	to   io.Writer
	left int64
}

func (c *capped) Write(p []byte) (int, error) {
	if c.left -= int64(len(p)); c.left < 0 {
		return 0, errors.New("it writes too much")
	}
	return c.to.Write(p)
}
