//go:build amd64 || arm64

package confine

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The filter, in the instructions of classic BPF. A list of what is forbidden, not of what
// is allowed: Go's runtime, libc in a program that Roost starts, and the next version of
// either may need calls that nobody thought of. What is on it fails with EPERM.
//
//	load the architecture; another than ours: ENOSYS
//	load the number of the call; of amd64's x32: ENOSYS
//	for each forbidden one: EPERM
//	clone with a new namespace: EPERM
//	clone3, whose flags a filter cannot see: ENOSYS, and libc takes clone
//	the rest is allowed

// denied is what neither Roost nor a program that it starts needs. denied_*.go have what
// only some machines know.
var denied = []uint32{
	// Other processes.
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE,
	unix.SYS_KCMP, unix.SYS_PIDFD_GETFD,
	// Mounts and namespaces.
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_SETNS, unix.SYS_UNSHARE,
	unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
	// Files by another way than their path, past what guards paths.
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT,
	// The kernel, and where most of its holes were.
	unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL, unix.SYS_SYSLOG, unix.SYS_FANOTIFY_INIT, unix.SYS_PERSONALITY,
	// The machine.
	unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_VHANGUP,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
	unix.SYS_NFSSERVCTL, unix.SYS_LOOKUP_DCOOKIE,
}

// deniedMore is what goes with a Ban.
var deniedMore = map[Ban][]uint32{
	Programs: {unix.SYS_EXECVE, unix.SYS_EXECVEAT},
	Sockets:  {unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_CONNECT, unix.SYS_ACCEPT, unix.SYS_ACCEPT4},
}

// namespaces are the flags of clone that make new ones.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// Seccomp makes calls of the system fail that are not needed, for all threads of the
// process and all programs that it starts, and sets no_new_privs. bans are what else this
// process does without.
func Seccomp(bans ...Ban) error {
	prog := filter(bans)
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	// The filter is set for all threads by one of them, which has to have no_new_privs.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	r, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog))) // #nosec G103 -- the call takes an address
	runtime.KeepAlive(prog)
	switch {
	case errno != 0:
		return fmt.Errorf("seccomp: %w", errno)
	case r != 0:
		return fmt.Errorf("seccomp: thread %d has a filter of its own", r)
	}
	return nil
}

// filter makes the program.
func filter(bans []Ban) []unix.SockFilter {
	const (
		atNumber = 0 // of struct seccomp_data
		atArch   = 4
		atFirst  = 16 // the lower half of the first argument, on little-endian machines
		deny     = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
		unknown  = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	)
	var prog []unix.SockFilter
	do := func(code uint16, k uint32) { prog = append(prog, unix.SockFilter{Code: code, K: k}) }
	load := func(at uint32) { do(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, at) }
	// unless skips the next instruction unless the test holds.
	unless := func(test uint16, k uint32) {
		prog = append(prog, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | test, Jf: 1, K: k})
	}
	ret := func(what uint32) { do(unix.BPF_RET|unix.BPF_K, what) }

	load(atArch)
	prog = append(prog, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | unix.BPF_JEQ, Jt: 1, K: auditArch})
	ret(unknown)
	load(atNumber)
	if x32 != 0 {
		unless(unix.BPF_JGE, x32)
		ret(unknown)
	}
	list := append(append([]uint32{}, denied...), deniedHere...)
	for _, ban := range bans {
		list = append(list, deniedMore[ban]...)
	}
	for _, n := range list {
		unless(unix.BPF_JEQ, n)
		ret(deny)
	}
	unless(unix.BPF_JEQ, unix.SYS_CLONE3)
	ret(unknown)
	prog = append(prog, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | unix.BPF_JEQ, Jf: 3, K: unix.SYS_CLONE})
	load(atFirst)
	unless(unix.BPF_JSET, namespaces)
	ret(deny)
	ret(unix.SECCOMP_RET_ALLOW)
	return prog
}

// SeccompKnown reports whether there is a filter for this machine.
const SeccompKnown = true
