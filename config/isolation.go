package config

import (
	"fmt"
	"path/filepath"
)

// Isolation says what the server takes away from itself.
type Isolation struct {
	Landlock string // "auto", "required", "off"
	Seccomp  string // "auto", "required", "off"
	Read     []string
	Write    []string
}

func (k *checker) isolation() {
	iso := k.c.Isolation
	for _, list := range []struct {
		key   string
		paths []string
	}{{"read", iso.Read}, {"write", iso.Write}} {
		for i, p := range list.paths {
			at := fmt.Sprintf("isolation.%s[%d]", list.key, i)
			switch {
			case !filepath.IsAbs(p):
				k.wrong(at, "%s: write the whole path, from / on", quote(p))
			case filepath.Clean(p) == "/" && list.key == "write":
				k.wrong(at, `/ is everything: name directories, or set isolation.landlock = "off"`)
			}
		}
	}
}
