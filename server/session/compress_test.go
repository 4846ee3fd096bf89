package session

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"fmt"
	"io"
	"math/rand"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"roost/store"
	"roost/store/memstore"
	"roost/test/talk"
)

// packedConn is a client's end of a connection behind COMPRESS, with the compression of
// Go's library.
type packedConn struct {
	net.Conn
	mu sync.Mutex // guards w
	b  bytes.Buffer
	w  *flate.Writer // to b
	r  io.Reader     // before: what came uncompressed
}

// pack sends COMPRESS on a connection whose greeting is r's next line, and goes on behind
// its answer. The greeting is read again by who has the packedConn.
func pack(conn net.Conn, r *bufio.Reader) (*packedConn, error) {
	greeting, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, "z COMPRESS DEFLATE\r\n"); err != nil {
		return nil, err
	}
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "z OK ") {
		return nil, fmt.Errorf("COMPRESS: %q, %v", line, err)
	}
	c := &packedConn{Conn: conn, r: io.MultiReader(strings.NewReader(greeting), flate.NewReader(r))}
	c.w, err = flate.NewWriter(&c.b, flate.DefaultCompression)
	return c, err
}

func (c *packedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

func (c *packedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.w.Write(p) // a Buffer takes all
	c.w.Flush()
	_, err := c.b.WriteTo(c.Conn)
	return len(p), err
}

// end ends the stream behind p.
func (c *packedConn) end(p string) {
	io.WriteString(c.w, p)
	c.w.Close()
	c.b.WriteTo(c.Conn)
}

// Whatever can be said can be said compressed.
func TestDialoguesCompressed(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".txt")
		if name == "compress" || name == "unauthenticate" {
			continue // it would be there, or is what ends it
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, Options{Limits: limitsOf(f)})
			hooks := b.Hooks()
			hooks["forget"] = func(args []string) error { b.mem.Forget("ann", store.Name(args[0])); return nil }
			hooks["nomodseq"] = func(args []string) error { b.mem.NoModSeq("ann", store.Name(args[0])); return nil }
			talk.RunFile(t, f, talk.Options{Greeting: true, Hooks: hooks, Dial: func(name string) (net.Conn, error) {
				conn, err := b.Dial(name)
				if err != nil {
					return nil, err
				}
				return pack(conn, bufio.NewReader(conn))
			}})
		})
	}
}

// packedSession is pipeSession behind COMPRESS.
func packedSession(t *testing.T, st store.Store, opt Options) *pipeClient {
	t.Helper()
	p := pipeSession(t, t.Context(), st, opt)
	c, err := pack(p.conn, p.r)
	if err != nil {
		t.Fatal(err)
	}
	p.conn, p.r = c, bufio.NewReader(c)
	p.want("l OK")
	return p
}

func TestCompress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memstore.New(nil)
		body := "Subject: x\r\n\r\n" + strings.Repeat("the same line again and again\r\n", 5000)
		st.Seed("ann", store.Inbox, memstore.Seed{Message: body})
		p := packedSession(t, st, Options{})
		p.send("a COMPRESS DEFLATE\r\n")
		p.want("a NO [COMPRESSIONACTIVE] ") // RFC 4978 section 3
		p.send("b STARTTLS\r\n")
		p.want("b BAD ")
		p.send("c SELECT INBOX\r\n")
		p.until("c OK")
		p.send("d FETCH 1 BODY.PEEK[]\r\n")
		p.want(fmt.Sprintf("* 1 FETCH (BODY[] {%d}", len(body)))
		got := make([]byte, len(body))
		if _, err := io.ReadFull(p.r, got); err != nil || string(got) != body {
			t.Errorf("another message, %v", err)
		}
		p.want(")")
		p.want("d OK")
		p.send("e IDLE\r\n")
		p.want("+ idling")
		st.Seed("ann", store.Inbox, memstore.Seed{Message: "x"})
		p.want("* 2 EXISTS")
		p.want("* 2 RECENT")
		p.want("* OK Still here")
		p.send("DONE\r\nf LOGOUT\r\n")
		p.want("e OK")
		p.want("* BYE")
		p.want("f OK")
		out := <-p.done
		if out.Reason != "logout" || out.Out > int64(len(body))/10 || out.Out < 100 {
			t.Errorf("%+v of a message of %d bytes", out, len(body))
		}
	})
}

// A client that does not wait for the answer to COMPRESS has compressed what follows.
func TestCommandsInTheSegmentOfCompress(t *testing.T) {
	for _, lines := range []string{"", "a NOOP\r\n", "a NOOP\r\nb APPEND INBOX {5+}\r\nhello\r\n"} {
		synctest.Test(t, func(t *testing.T) {
			p := pipeSession(t, t.Context(), memstore.New(nil), Options{})
			p.want("l OK")
			var b bytes.Buffer
			w, _ := flate.NewWriter(&b, 6)
			io.WriteString(w, lines)
			w.Flush()
			go io.WriteString(p.conn, "z COMPRESS DEFLATE\r\n"+b.String()) // ends when it was read
			p.want("z OK ")
			r := bufio.NewReader(flate.NewReader(p.r))
			for line := range strings.Lines(lines) {
				tag, _, _ := strings.Cut(line, " ")
				if tag != "hello\r\n" {
					if got, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(got, tag+" OK") {
						t.Errorf("%q, %v behind %q", got, err, line)
					}
				}
			}
			b.Reset()
			io.WriteString(w, "y LOGOUT\r\n")
			w.Flush()
			go io.Copy(io.Discard, r)
			p.send(b.String())
			if out := <-p.done; out.Reason != "logout" {
				t.Errorf("%+v", out)
			}
		})
	}
}

// What is sent in the clear behind COMPRESS, or spoilt, ends the session with a word.
func TestCommandsThatAreNotCompressed(t *testing.T) {
	for _, what := range []string{"a1 NOOP\r\n", "\xff\xff\xff\xff"} {
		synctest.Test(t, func(t *testing.T) {
			p := packedSession(t, memstore.New(nil), Options{})
			io.WriteString(p.conn.(*packedConn).Conn, what)
			p.want("* BYE Commands are not compressed")
			<-p.done
		})
	}
}

// Clients drop the connection where they are, or end the stream. Both are normal.
func TestCompressedClientHangsUp(t *testing.T) {
	for name, end := range map[string]func(*packedConn){
		"closed":             func(c *packedConn) { c.Conn.Close() },
		"ended":              func(c *packedConn) { c.end("") },
		"within a command":   func(c *packedConn) { io.WriteString(c, "a APPEND INBOX {100+}\r\nhalf"); c.Conn.Close() },
		"within a block":     func(c *packedConn) { c.Conn.Write([]byte{4}); c.Conn.Close() },
		"ended in a command": func(c *packedConn) { c.end("a APPEND INBOX {100+}\r\nhalf") },
	} {
		synctest.Test(t, func(t *testing.T) {
			p := packedSession(t, memstore.New(nil), Options{})
			end(p.conn.(*packedConn))
			if out := <-p.done; out.Reason != "client closed the connection" {
				t.Errorf("%s: %+v", name, out)
			}
		})
	}
}

// writeCounter counts the writes of a session.
type writeCounter struct {
	Stream
	writes int
}

func (c *writeCounter) Write(p []byte) (int, error) {
	c.writes++
	return c.Stream.Write(p)
}

// Answers to commands that came together leave together: each write ends with a flush of
// the compressor, and is a TLS record.
func TestCompressedAnswersAreGathered(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	count := &writeCounter{Stream: theirs}
	done := make(chan struct{})
	go func() { // ends with LOGOUT
		defer close(done)
		Serve(t.Context(), count, &Login{Who: store.Identity{User: "ann", Roots: []store.Root{{}}}, Tag: "l"}, memstore.New(nil), &Options{Log: quiet()})
		theirs.Close()
	}()
	c, err := pack(ours, bufio.NewReader(ours))
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends when it was read
		var all strings.Builder
		for i := range 200 {
			fmt.Fprintf(&all, "a%d NOOP\r\n", i)
		}
		io.WriteString(c, all.String()+"b LOGOUT\r\n")
	}()
	said, _ := io.ReadAll(c)
	<-done
	if n := strings.Count(string(said), " OK NOOP"); n != 200 {
		t.Errorf("%d answers", n)
	}
	// The greeting, the answer to COMPRESS, and one or two for as many reads.
	if count.writes > 4 {
		t.Errorf("%d writes", count.writes)
	}
}

// A long command looks ahead, which may end by a timeout anywhere in the stream.
func TestWatchedCompressed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		s := newSession(theirs, &Login{}, &Options{Log: quiet()})
		if err := s.pack(); err != nil {
			t.Fatal(err)
		}
		var sent bytes.Buffer
		w, _ := flate.NewWriter(&sent, 6)
		io.WriteString(w, "a NOOP\r\n")
		w.Flush()
		// Something is in the encoder, which a command is writing: a look ahead leaves it.
		s.enc.Raw("* 1 EX")
		for sent.Len() > 0 {
			ctx, stop := s.watched(t.Context())
			time.Sleep(2 * watchAfter)
			ours.Write(sent.Next(1))
			synctest.Wait()
			if ctx.Err() != nil {
				t.Error("the context ended though the client is there")
			}
			stop()
		}
		s.enc.Raw("ISTS\r\n")
		go func() { // ends with the line
			line, err := bufio.NewReader(flate.NewReader(ours)).ReadString('\n')
			if line != "* 1 EXISTS\r\n" || err != nil {
				t.Errorf("%q, %v", line, err)
			}
			ours.Close()
		}()
		if err := s.lex.Wait(); err != nil {
			t.Fatal(err)
		}
		if line, err := s.lex.Line(); line != "a NOOP" || err != nil {
			t.Errorf("%q, %v", line, err)
		}
		s.lex.End()
		if err := s.lex.Wait(); err != io.EOF {
			t.Errorf("behind it: %v", err)
		}
	})
}

// Literals keep their limits however small they are on the way.
func TestCompressedLiteralsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := packedSession(t, memstore.New(nil), Options{Limits: Limits{AppendBytes: 5000, CommandBytes: 5000}})
		go io.WriteString(p.conn, "a APPEND INBOX {100000+}\r\n"+strings.Repeat("x", 100_000)+"\r\n") // ends with the session
		p.want("* BYE [TOOBIG]")
		<-p.done
	})
}

// BenchmarkFetch is what a client pays for and gains by COMPRESS: mail of text, and mail
// with attachments in base64. "wire" is what goes over the line of each byte that is asked for.
func BenchmarkFetch(b *testing.B) {
	rnd := rand.New(rand.NewSource(1))
	words := strings.Fields("the mail that we have had is now and then of some use to those who read what others wrote about it")
	var text, base64 strings.Builder
	for text.Len() < 1<<20 {
		text.WriteString(words[rnd.Intn(len(words))] + " ")
		if rnd.Intn(12) == 0 {
			fmt.Fprintf(&text, "%d\r\n", rnd.Intn(1e6))
		}
	}
	for base64.Len() < 1<<20 {
		for range 76 {
			base64.WriteByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[rnd.Intn(64)])
		}
		base64.WriteString("\r\n")
	}
	for name, body := range map[string]string{"text": text.String(), "base64": base64.String()} {
		for _, compressed := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/compressed=%t", name, compressed), func(b *testing.B) {
				st := memstore.New(nil)
				st.Seed("ann", store.Inbox, memstore.Seed{Message: "Subject: x\r\n\r\n" + body})
				ctx, cancel := context.WithCancel(b.Context())
				ours, theirs := net.Pipe()
				done := make(chan Outcome)
				go func() { // ends with ctx
					out, _ := Serve(ctx, theirs, &Login{Who: store.Identity{User: "ann", Roots: []store.Root{{}}}, Tag: "l"}, st, &Options{Log: quiet()})
					theirs.Close()
					done <- *out
				}()
				r := bufio.NewReaderSize(ours, 64<<10)
				said := io.Writer(ours)
				if compressed {
					c, err := pack(ours, r)
					if err != nil {
						b.Fatal(err)
					}
					said = c
				} else {
					r.ReadString('\n')
				}
				b.SetBytes(int64(len(body)))
				go func() { // ends with the session
					io.WriteString(said, "a SELECT INBOX\r\n")
					for range b.N {
						io.WriteString(said, "b FETCH 1 BODY.PEEK[]\r\n")
					}
					io.WriteString(said, "c LOGOUT\r\n")
				}()
				// The client does not inflate: it is the server that is measured.
				buf, n := make([]byte, 64<<10), 0
				b.ResetTimer()
				for {
					k, err := r.Read(buf)
					n += k
					if err != nil {
						break
					}
				}
				b.StopTimer()
				b.ReportMetric(float64(n)/float64(b.N)/float64(len(body)), "wire")
				cancel()
				<-done
			})
		}
	}
}
