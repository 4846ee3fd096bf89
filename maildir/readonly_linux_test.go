package maildir

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"roost/store"
)

// So can one on a disk that is mounted read-only, which root's rights do not show, with
// Roost's own files beside it or elsewhere.
func TestReadOnlyMount(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount")
	}
	for _, index := range []bool{false, true} {
		for _, missing := range []string{"", "dovecot-uidlist", "new tmp"} {
			t.Run(fmt.Sprintf("index=%v without %s", index, missing), func(t *testing.T) {
				root := os.Getenv("ROOST_TEST_TREE")
				if root == "" {
					root = sealedTree(t, strings.Fields(missing)...)
				}
				own := func(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS} }
				if !inChild(t, own, "ROOST_TEST_TREE="+root) {
					return
				}
				for _, err := range []error{
					unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
					unix.Mount(root, root, "", unix.MS_BIND, ""),
					unix.Mount("none", root, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""),
				} {
					if err != nil {
						t.Skipf("no private mounts here: %v", err)
					}
				}
				r := store.Root{Mail: root}
				if index {
					r.Index = t.TempDir()
				}
				want := 2
				if missing == "dovecot-uidlist" {
					want = 3
				}
				checkSealed(t, r, want)
			})
		}
	}
}
