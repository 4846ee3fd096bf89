package events

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// run runs a program with an event in its environment, and ends it with all that it
// started when ctx does. Nothing of what strangers chose is an argument, and no shell
// looks at it.
func run(ctx context.Context, command []string, e Event) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...) // #nosec G204 -- the configuration names it
	cmd.Dir = "/"
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LC_ALL=C.UTF-8",
		"ROOST_EVENT=" + e.Name,
		"ROOST_TIME=" + e.Time.Format(time.RFC3339),
		"ROOST_USER=" + e.User,
		"ROOST_ADDR=" + e.Addr,
		"ROOST_CLIENT=" + e.Client,
		"ROOST_DETAIL=" + e.Detail,
	}
	out := &firstBytes{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // for who keeps its output open
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("it was ended: %w", ctx.Err())
	case errors.Is(err, exec.ErrWaitDelay):
		return nil
	case err != nil && len(out.b) > 0:
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(printable(string(out.b))))
	}
	return err
}

// firstBytes keeps the first bytes that are written.
type firstBytes struct{ b []byte }

func (f *firstBytes) Write(p []byte) (int, error) {
	f.b = append(f.b, p[:min(len(p), textSize-len(f.b))]...)
	return len(p), nil
}
