package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A watcher is a connection that watches and reads what it is told, as fast as it can. Whoever
// made one closes it.
type watcher struct {
	nc    net.Conn
	lines atomic.Int64 // read
	lists chan string  // the NOW and OFF lines
	done  sync.WaitGroup
	err   error // why reading ended; after done
}

// watch connects, and sends the WATCHes that write writes; then it reads until the lists of all
// have come, and goes on reading.
func watch(ctx context.Context, addr string, count int, write func(w *bufio.Writer)) (*watcher, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	w := &watcher{nc: nc, lists: make(chan string, count)}
	w.done.Go(w.read)
	if err := w.ask(ctx, count, write); err != nil {
		w.close()
		return nil, errors.Join(err, w.err)
	}
	return w, nil
}

// ask sends WATCHes, and waits for the ends of so many lists.
func (w *watcher) ask(ctx context.Context, count int, write func(w *bufio.Writer)) error {
	b := bufio.NewWriter(w.nc)
	write(b)
	if err := b.Flush(); err != nil {
		return err
	}
	for range count {
		select {
		case text, ok := <-w.lists:
			if !ok || !bytes.Contains([]byte(text), []byte(" NOW ")) {
				return fmt.Errorf("a watch has ended: %q", text)
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Minute):
			return errors.New("the list of a WATCH is missing")
		}
	}
	return nil
}

// read reads lines and counts them.
func (w *watcher) read() {
	defer close(w.lists)
	r := bufio.NewReaderSize(w.nc, 256<<10)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			w.err = err
			return
		}
		w.lines.Add(1)
		if bytes.HasPrefix(line, []byte("? ")) || bytes.Contains(line, []byte(" NOW ")) || bytes.Contains(line, []byte(" OFF ")) {
			select {
			case w.lists <- string(line):
			default: // nobody has asked for a list
			}
		}
	}
}

func (w *watcher) close() {
	w.nc.Close()
	w.done.Wait()
}
