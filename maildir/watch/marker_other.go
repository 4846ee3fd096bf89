//go:build !linux

package watch

import (
	"errors"
	"os"
)

func newMarker() (*os.File, string, error) { return nil, "", errors.ErrUnsupported }
