package events

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// The history: the files "events" and "events.1", the older one, in the state directory.
// Each line is an Event in JSON, the newest last:
//
//	{"time":"2026-11-27T20:00:00Z","event":"new_network","user":"ann","addr":"192.0.2.7","detail":"..."}
//
// A line that is no event (the machine stopped while it was written) is passed over. The
// files may be deleted at any time. Others may read them; only one server writes.
const (
	historyName = "events"
	historySize = 1 << 20 // bytes of a file, then it becomes events.1
	lineSize    = 8 << 10 // bytes of a line that is read
)

type history struct {
	path string

	mu   sync.Mutex // guards all below, and is held while the files are written and read
	f    *os.File
	size int64
}

func openHistory(dir string) (*history, error) {
	h := &history{path: filepath.Join(dir, historyName)}
	if err := h.openLocked(); err != nil {
		return nil, err
	}
	// A line that was cut off must not take the next one with it.
	last := make([]byte, 1)
	if _, err := h.f.ReadAt(last, h.size-1); h.size > 0 && err == nil && last[0] != '\n' {
		n, _ := h.f.Write([]byte("\n"))
		h.size += int64(n)
	}
	return h, nil
}

func (h *history) openLocked() error {
	f, err := os.OpenFile(h.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	h.f, h.size = f, fi.Size()
	return nil
}

// add writes an event down, in one write.
func (h *history) add(e Event) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.f == nil || h.size+int64(len(line)) > historySize {
		if err := h.rotateLocked(); err != nil {
			return err
		}
	}
	n, err := h.f.Write(line)
	h.size += int64(n)
	return err
}

func (h *history) rotateLocked() error {
	if h.f != nil {
		h.f.Close()
		h.f = nil
		if err := os.Rename(h.path, h.path+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return h.openLocked()
}

// of gives the newest n events of a user, the oldest first.
func (h *history) of(user string, n int) (list []Event, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, path := range []string{h.path + ".1", h.path} {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		err = eachEvent(io.LimitReader(f, 2*historySize), func(e Event) {
			if user == "" || strings.EqualFold(e.User, user) {
				if list = append(list, e); len(list) > 2*n {
					list = slices.Delete(list, 0, len(list)-n)
				}
			}
		})
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	return list[max(0, len(list)-n):], nil
}

// eachEvent reads lines; those that are no events are passed over.
func eachEvent(r io.Reader, do func(Event)) error {
	in := bufio.NewReaderSize(r, lineSize)
	for {
		line, err := in.ReadSlice('\n')
		for errors.Is(err, bufio.ErrBufferFull) {
			line = nil
			_, err = in.ReadSlice('\n')
		}
		var e Event
		if json.Unmarshal(line, &e) == nil && e.Name != "" {
			do(e)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (h *history) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.f == nil {
		return nil
	}
	return h.f.Close()
}
