package workers

import (
	"errors"
	"io"
	"os"
	"sync"
)

// Certificates that are asked for by ACME are a process's of their own, which has the
// account and keeps them, and answers what the authority asks. It speaks with neither
// clients of mail nor the desk; to the front it says what it has got, and hears nothing.

// toIssuer is what the parent tells it: there is another front, and a channel to that.
type toIssuer struct{ Front uint64 }

// issued is all that the front hears.
type issued struct {
	Name       string
	Chain, Key []byte // PEM
}

// An Issuer is that process's way to the front. Safe for concurrent use.
type Issuer struct {
	mu    sync.Mutex // guards all below, and is held while something is sent
	front *channel   // nil: there is none now
	got   map[string]issued
}

// NewIssuer begins to listen to the parent. orphaned is called when that is gone.
func NewIssuer(parent *os.File, orphaned func()) (*Issuer, error) {
	ch, err := newChannel(parent)
	if err != nil {
		return nil, err
	}
	i := &Issuer{got: map[string]issued{}}
	// Ends when the parent does.
	go func() {
		for {
			var m toIssuer
			files, err := ch.receive(&m, 1)
			if err != nil {
				orphaned()
				return
			}
			if len(files) != 1 {
				continue
			}
			if front, err := newChannel(files[0]); err == nil {
				i.attach(front)
			}
		}
	}()
	return i, nil
}

// attach tells another front all that there is.
func (i *Issuer) attach(front *channel) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.front != nil {
		i.front.close()
	}
	i.front = front
	for _, c := range i.got {
		i.send(c)
	}
}

// send needs mu. A front that is gone comes again, and is told all.
func (i *Issuer) send(c issued) {
	if i.front != nil && i.front.send(c) != nil {
		i.front.close()
		i.front = nil
	}
}

// Show tells the front of a certificate, and those that come later.
func (i *Issuer) Show(name string, chain, key []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	c := issued{name, chain, key}
	i.got[name] = c
	i.send(c)
}

// take hears an issuer until that ends.
func (f *Front) take(file *os.File) {
	ch, err := newChannel(file)
	if err != nil {
		f.opt.Log.Error("certificates cannot be had", "event", "isolation_issuer", "err", err)
		return
	}
	defer ch.close()
	for {
		var c issued
		_, err := ch.receive(&c, 0)
		if err == nil && f.opt.Certificate == nil {
			err = errors.New("nobody asked for certificates")
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				f.opt.Log.Error("the process that asks for certificates is not understood", "event", "isolation_issuer", "err", err)
			}
			return
		}
		if err := f.opt.Certificate(c.Name, c.Chain, c.Key); err != nil {
			f.opt.Log.Error("a certificate cannot be shown", "event", "isolation_issuer", "err", err)
			continue
		}
		f.opt.Log.Info("certificate is shown", "event", "tls_issued", "name", c.Name)
	}
}
