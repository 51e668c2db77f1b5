package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"herd/test/ports"
)

// A view is a connection with one watch that keeps what it is told. It reads as fast as it can, or a
// little at a time.
type view struct {
	nc     net.Conn
	slow   atomic.Bool
	listed chan struct{} // its NOW has come
	done   sync.WaitGroup

	mu     sync.Mutex
	inside map[string]string // the newest line by client, without its verb
	last   time.Time         // when a line came
	err    error
}

// slowBytes are read each slowEvery by a view that is slow: 1 KB/s.
const (
	slowBytes = 100
	slowEvery = 100 * time.Millisecond
)

// look watches an area, and returns when its list has come. The socket's receive buffer is left to the
// system: where a program sets its size, and reads little, Linux drops segments that were within the
// window, and whoever sent them, a bare server too, waits for up to 18 s to send them again.
func look(ctx context.Context, addr, area string) (*view, error) {
	d := net.Dialer{}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	v := &view{nc: nc, listed: make(chan struct{}), inside: map[string]string{}}
	v.done.Go(v.read)
	_, err = nc.Write([]byte("WATCH w " + area + "\n"))
	if err == nil {
		select {
		case <-v.listed:
			return v, nil
		case <-ctx.Done():
			err = ctx.Err()
		case <-time.After(5 * time.Minute):
			err = errors.New("the list of a WATCH is missing")
		}
	}
	v.close()
	return nil, errors.Join(err, v.err)
}

// Read reads at the view's pace.
func (v *view) Read(b []byte) (int, error) {
	if v.slow.Load() {
		time.Sleep(slowEvery)
		b = b[:min(len(b), slowBytes)]
	}
	return v.nc.Read(b)
}

func (v *view) read() {
	r := bufio.NewReaderSize(v, 64<<10)
	for {
		line, err := r.ReadSlice('\n')
		if err == nil {
			err = v.take(line)
		}
		if err != nil {
			v.mu.Lock()
			v.err = err
			v.mu.Unlock()
			return
		}
	}
}

// take takes a line: ! NAME VERB EDGE SKEW CLIENT LOCATION TIME.
func (v *view) take(line []byte) error {
	fields := bytes.Fields(line)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.last = time.Now()
	switch {
	case len(fields) >= 8 && string(fields[2]) == "OUT":
		delete(v.inside, string(fields[5]))
	case len(fields) == 8:
		v.inside[string(fields[5])] = string(bytes.Join(fields[3:], []byte(" ")))
	case len(fields) == 4 && string(fields[2]) == "NOW":
		close(v.listed)
	case string(line) != "! STILL\n":
		return fmt.Errorf("told %q", line)
	}
	return nil
}

// is returns how many clients the view has, whether they are as in another, and why it has ended.
func (v *view) is(other map[string]string) (n int, same bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.inside), maps.Equal(v.inside, other), v.err
}

func (v *view) close() {
	v.nc.Close()
	v.done.Wait()
}

// watchSlow measures by how much an edge grows for a watcher that hardly reads, beside one that does,
// and how soon the watcher is level once it reads.
func watchSlow(ctx context.Context, s *session) (o outcome, err error) {
	w := s.world()
	e, l, err := s.settle(ctx, w, "Clark", "HERD_WRITE_TIMEOUT=2m", "HERD_WATCH_MEMBERS=2000000")
	if err != nil {
		return o, err
	}
	none, err := e.heap()
	if err != nil {
		return o, err
	}
	members := s.size(100_000, 10_000)
	good, err := look(ctx, e.addr, w.strip(members))
	if err != nil {
		return o, err
	}
	defer good.close()
	// All that moves moves in the area, whose clients are the first.
	l.clients, l.conns, l.pipeline, l.rate = members, 10, 20, 20_000
	l.requests = 5 * members // so that all that the good one costs is there
	if s.quick {
		l.requests = members
	}
	if _, err := l.run(ctx); err != nil {
		return o, err
	}
	beside, err := e.heap()
	if err != nil {
		return o, err
	}
	if _, err := l.run(ctx); err != nil {
		return o, err
	}
	before, err := e.heap()
	if err != nil {
		return o, err
	}
	slow, err := look(ctx, e.addr, w.strip(members))
	if err != nil {
		return o, err
	}
	defer slow.close()
	slow.slow.Store(true)
	l.requests = int(l.rate * s.span(50*time.Second, time.Second).Seconds())
	took, err := l.run(ctx)
	if err != nil {
		return o, err
	}
	after, err := e.heap()
	if err != nil {
		return o, err
	}
	n, _, _ := good.is(nil)
	o.figure = (after - before) / float64(n)
	begun := time.Now()
	slow.slow.Store(false)
	now, err := look(ctx, e.addr, w.strip(members))
	if err != nil {
		return o, err
	}
	defer now.close()
	level := func(v *view) func() (bool, error) {
		return func() (bool, error) {
			n, same, err := v.is(now.inside) // nothing moves, so nobody writes to that map
			if err == nil && !same {
				err = fmt.Errorf("%d are inside, where %d are", n, len(now.inside))
			}
			return same, err
		}
	}
	if err := until(ctx, 30*time.Second, 20*time.Millisecond, "a watcher that was slow is level", level(slow)); err != nil {
		return o, err
	}
	if err := until(ctx, 30*time.Second, 20*time.Millisecond, "a watcher is level", level(good)); err != nil {
		return o, err
	}
	caught := slow.last.Sub(begun).Seconds()
	reached := float64(l.requests) / took.Seconds()
	o.met = o.figure <= 8 && caught <= 1 && reached >= 0.98*l.rate
	o.note = fmt.Sprintf("%d members, %s updates/s; level %.2f s after it reads; without it the edge grew by %s bytes per member in %s s; the watcher beside it took %s, what the edge keeps of all clients for the first watch included",
		n, number(reached), caught, number((before-beside)/float64(n)), number(float64(5*members)/l.rate), number((beside-none)/float64(n)))
	return o, nil
}

// watchList measures how long the list of a WATCH takes, and what an IAMAT of somebody else waits
// meanwhile. The floor is a bare server that answers with as many bytes.
func watchList(ctx context.Context, s *session) (o outcome, err error) {
	w := s.world()
	e, l, err := s.settle(ctx, w, "Clark", "HERD_WATCH_MEMBERS=2000000")
	if err != nil {
		return o, err
	}
	members := s.size(100_000, 10_000)
	bytes, err := list(ctx, e.addr, "WATCH w "+w.strip(members)+"\n", []byte(" NOW "))
	if err != nil {
		return o, err
	}
	addr, err := ports.TakeAddr()
	if err != nil {
		return o, err
	}
	if _, err := s.start("answer", nil, s.self, roleAnswer, addr, strconv.Itoa(bytes.count)); err != nil {
		return o, err
	}
	if err := (load{addr: addr}).await(ctx); err != nil {
		return o, err
	}
	var with, without []float64
	o, err = s.inTurn(
		func() (float64, error) {
			stop, worst := make(chan struct{}), make(chan float64, 1)
			var failed error
			go func() {
				var x float64
				x, failed = slowestUntil(ctx, e.addr, stop)
				worst <- x
			}()
			got, err := list(ctx, e.addr, "WATCH w "+w.strip(members)+"\n", []byte(" NOW "))
			close(stop)
			with = append(with, <-worst)
			return got.took.Seconds() * 1000, errors.Join(err, failed)
		},
		func() (float64, error) {
			stop := make(chan struct{})
			timer := time.AfterFunc(300*time.Millisecond, func() { close(stop) })
			defer timer.Stop()
			x, err := slowestUntil(ctx, e.addr, stop)
			if err != nil {
				return 0, err
			}
			without = append(without, x)
			got, err := list(ctx, addr, "\n", []byte("\n\n"))
			return got.took.Seconds() * 1000, err
		})
	if err != nil {
		return o, err
	}
	beside, err := besideLoad(ctx, l, func() (listed, error) {
		return list(ctx, e.addr, "WATCH w "+w.strip(members)+"\n", []byte(" NOW "))
	})
	if err != nil {
		return o, err
	}
	most := slices.Max(with)
	a, b := median(with), median(without)
	o.met = o.figure <= 300 && a <= b+5
	o.note = fmt.Sprintf("%d bytes; the slowest of another's IAMATs, one after the other, %s ms meanwhile (at the most %s) and %s before; the floor is a bare server that writes as much, and the ratio to it; at saturation with IAMATs a list takes %s ms", bytes.count, number(a), number(most), number(b), number(beside.took.Seconds()*1000))
	return o, nil
}

// besideLoad asks for a list while a load runs as fast as it can.
func besideLoad(ctx context.Context, l load, ask func() (listed, error)) (listed, error) {
	loading, stop := context.WithCancel(ctx)
	defer stop()
	l.requests *= 100 // it is stopped
	ended := make(chan error, 1)
	go func() {
		_, err := l.run(loading)
		ended <- err
	}()
	select {
	case err := <-ended:
		return listed{}, fmt.Errorf("the load has ended: %w", err)
	case <-time.After(time.Second):
	}
	got, err := ask()
	stop()
	<-ended
	return got, err
}

// A listed is how much a list is, and how long it took.
type listed struct {
	count int
	took  time.Duration
}

// list asks for something on a connection of its own, and reads until a part of the answer that is its
// end.
func list(ctx context.Context, addr, question string, end []byte) (l listed, err error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return l, err
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })()
	begun := time.Now()
	if _, err := nc.Write([]byte(question)); err != nil {
		return l, err
	}
	buf, kept := make([]byte, 256<<10), 0
	for {
		n, err := nc.Read(buf[kept:])
		if err != nil {
			return l, err
		}
		if l.count == 0 && buf[0] == '?' {
			return l, fmt.Errorf("refused: %.200q", buf[:n])
		}
		l.count += n
		n += kept
		if l.took = time.Since(begun); bytes.Contains(buf[:n], end) {
			return l, nil
		}
		kept = min(n, len(end))
		copy(buf, buf[n-kept:n])
	}
}

// slowestUntil asks an edge one IAMAT after the other, about a thousand per second, and returns how many
// milliseconds the slowest took.
func slowestUntil(ctx context.Context, addr string, stop <-chan struct{}) (float64, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })()
	buf, worst := make([]byte, 4096), 0.0
	for {
		now := time.Now()
		if _, err := fmt.Fprintf(nc, "IAMAT other +34.068930-118.445127 %d.%09d\n", now.Unix(), now.Nanosecond()); err != nil {
			return 0, err
		}
		if err := drain(nc, buf, 1); err != nil {
			return 0, err
		}
		worst = max(worst, time.Since(now).Seconds()*1000)
		select {
		case <-stop:
			return worst, nil
		case <-time.After(time.Millisecond):
		}
	}
}
