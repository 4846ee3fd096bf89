package config

import (
	"fmt"
	"io"
)

// Show writes the configuration in force as TOML: every key, secrets masked, and
// a mark where the value is the default.
func (c *Config) Show(w io.Writer) {
	for i, s := range sections {
		if s.array {
			for _, values := range c.elements(s.name) {
				fmt.Fprintf(w, "\n[[%s]]\n", s.name)
				for j, k := range keysOf(s.name) {
					fmt.Fprintf(w, "%s = %s\n", k.leaf(), k.show(values[j]))
				}
			}
			continue
		}
		if i > 0 {
			fmt.Fprintf(w, "\n[%s]\n", s.name)
		}
		for _, k := range keysOf(s.name) {
			mark := ""
			if c.src == nil || c.src.places[k.name] == (place{}) {
				mark = " # default"
			}
			fmt.Fprintf(w, "%s = %s%s\n", k.leaf(), k.show(c.value(k)), mark)
		}
	}
}
