package fsys

import (
	"bytes"
	"encoding/binary"
	"io/fs"

	"golang.org/x/sys/unix"
)

func renameNoReplace(from int, old string, to int, name string) error {
	return unix.Renameat2(from, old, to, name, unix.RENAME_NOREPLACE)
}

func datasync(fd int) error { return unix.Fdatasync(fd) }

// entries walks one buffer of getdents64: u64 inode, i64 offset, u16 length, u8 type,
// the name and its NUL. All names of it share one string.
func entries(b []byte, yield func(string, fs.FileMode) bool) bool {
	const header = 8 + 8 + 2 + 1
	all := string(b)
	for len(b) > header {
		size := int(binary.NativeEndian.Uint16(b[16:]))
		if size <= header || size > len(b) {
			return true // the kernel never does
		}
		ino := binary.NativeEndian.Uint64(b)
		kind := kindOf(b[18])
		n := size - header
		if i := bytes.IndexByte(b[header:size], 0); i >= 0 {
			n = i
		}
		at := len(all) - len(b) + header
		name := all[at : at+n]
		b = b[size:]
		if ino == 0 || name == "." || name == ".." {
			continue
		}
		if !yield(name, kind) {
			return false
		}
	}
	return true
}

func kindOf(t byte) fs.FileMode {
	switch t {
	case unix.DT_REG:
		return 0
	case unix.DT_DIR:
		return fs.ModeDir
	case unix.DT_LNK:
		return fs.ModeSymlink
	case unix.DT_FIFO:
		return fs.ModeNamedPipe
	case unix.DT_SOCK:
		return fs.ModeSocket
	case unix.DT_BLK, unix.DT_CHR:
		return fs.ModeDevice
	}
	return fs.ModeIrregular
}

// remote names the filesystems that other machines or programs may change without
// an event reaching our kernel.
func remote(fd int) bool {
	var st unix.Statfs_t
	if _, err := again(func() (int, error) { return 0, unix.Fstatfs(fd, &st) }); err != nil {
		return false
	}
	switch uint32(st.Type) {
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC,
		unix.FUSE_SUPER_MAGIC, unix.V9FS_MAGIC, unix.AFS_SUPER_MAGIC, unix.AFS_FS_MAGIC,
		unix.CODA_SUPER_MAGIC, unix.NCP_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC, unix.OCFS2_SUPER_MAGIC,
		0x01161970, // GFS2
		0x0bd00bd0, // Lustre
		0x786f4256: // VirtualBox's shared folders
		return true
	}
	return false
}
