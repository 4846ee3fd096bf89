package maildir

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The trees in testdata were made by real programs, and EXPECTED.json has what
// Dovecot answered about them.

type expectedTree struct {
	List, Lsub []expectedName
	Folders    map[string]expectedFolder
}

type expectedName struct {
	Name, UTF8, Sep string
	Flags           []string
}

type expectedFolder struct {
	Path        string
	UIDValidity uint32
	Messages    []expectedMessage
}

type expectedMessage struct {
	UID          uint32
	Flags        []string
	InternalDate string
	TrueSize     int64 `json:"true_size"`
	Was, Now     string
	KnownBefore  bool `json:"known_before"`
}

// readExpected reads an EXPECTED.json; at goes down into its objects.
func readExpected(t *testing.T, fixture string, at ...string) expectedTree {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", fixture, "EXPECTED.json"))
	for err == nil && len(at) > 0 {
		var object map[string]json.RawMessage
		err = json.Unmarshal(b, &object)
		b, at = object[at[0]], at[1:]
	}
	var tree expectedTree
	if err == nil {
		err = json.Unmarshal(b, &tree)
	}
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// unpack lays out an archive of testdata in a temporary directory, with its times.
func unpack(t *testing.T, archive string) string {
	t.Helper()
	root := t.TempDir()
	f, err := os.Open(filepath.Join("testdata", archive))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	times := map[string]time.Time{} // of directories, set last
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, filepath.FromSlash(h.Name))
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o700)
			times[path] = h.ModTime
		case tar.TypeReg:
			err = unpackFile(path, h.FileInfo().Mode().Perm(), r)
			if err == nil {
				err = os.Chtimes(path, h.ModTime, h.ModTime)
			}
		case tar.TypeLink: // Dovecot's COPY
			err = os.Link(filepath.Join(root, filepath.FromSlash(h.Linkname)), path)
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for path, at := range times {
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func unpackFile(path string, mode os.FileMode, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	if _, err = io.Copy(f, r); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
