package config

import (
	"bytes"
	"os"
	"testing"
)

// The manual is what the table says.
func TestManualIsFresh(t *testing.T) {
	var b bytes.Buffer
	Manual(&b)
	got, err := os.ReadFile("../docs/config.md")
	if err != nil || !bytes.Equal(got, b.Bytes()) {
		t.Errorf("docs/config.md is stale: make docs (%v)", err)
	}
}
