package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// A load is positions that move, over plain connections. It composes cheaply and looks at
// answers only as far as to see that none is a refusal: what checks them all, cmd/herd/load,
// costs as much as an edge, and knows no echo.
type load struct {
	addr     string
	ids      string // what the clients' ids begin with
	clients  int
	conns    int
	pipeline int     // commands sent at once, and answered before the next are
	rate     float64 // commands a second in all; 0: as fast as it goes
	requests int     // in all

	// times gets how long each batch took until all its answers were there, from when it
	// was due, or sent if there is no rate; nil: nobody wants to know.
	times *[]time.Duration
}

const (
	// lineFormat is a command: the client's number, the last digits of its latitude and
	// its time are written over.
	idDigits, placeDigits, timeDigits = 7, 6, 19
)

// run makes the requests and returns how long that took, connections not included.
func (l load) run(ctx context.Context) (time.Duration, error) {
	conns := make([]net.Conn, l.conns)
	defer func() {
		for _, nc := range conns {
			if nc != nil {
				nc.Close()
			}
		}
	}()
	for i := range conns {
		var err error
		if conns[i], err = net.Dial("tcp", l.addr); err != nil {
			return 0, fmt.Errorf("connection %d of %d: %w", i, l.conns, err)
		}
	}
	stop := context.AfterFunc(ctx, func() {
		for _, nc := range conns {
			nc.SetDeadline(time.Unix(1, 0))
		}
	})
	defer stop()
	errs := make(chan error, len(conns))
	start := time.Now()
	var wg sync.WaitGroup
	times := make([][]time.Duration, len(conns))
	for i, nc := range conns {
		wg.Go(func() {
			var err error
			if times[i], err = l.converse(i, nc, start); err != nil {
				errs <- fmt.Errorf("load on %s: %w", l.addr, err)
			}
		})
	}
	wg.Wait()
	if l.times != nil {
		*l.times = slices.Concat(times...)
		slices.Sort(*l.times)
	}
	took := time.Since(start)
	select {
	case err := <-errs:
		return 0, errors.Join(ctx.Err(), err)
	default:
		return took, nil
	}
}

// converse makes the requests of one connection, whose clients are every so manieth.
func (l load) converse(number int, nc net.Conn, start time.Time) (times []time.Duration, err error) {
	line := []byte("IAMAT " + l.ids + "0000000 +34.000000-118.445127 0000000000.000000000\n")
	id := len("IAMAT ") + len(l.ids)
	place := id + idDigits + len(" +34.")
	stamp := place + placeDigits + len("-118.445127 ")
	batch := bytes.Repeat(line, l.pipeline)
	answers := make([]byte, 64<<10)
	client := number
	total := l.requests / l.conns
	for done := 0; done < total; {
		n := min(l.pipeline, total-done)
		begun := time.Now()
		if l.rate > 0 {
			due := (float64(done) + float64(number*l.pipeline)/float64(l.conns)) * float64(l.conns) / l.rate
			begun = start.Add(time.Duration(due * 1e9))
			time.Sleep(time.Until(begun))
		}
		now := time.Now().UnixNano()
		for i := range n {
			text := batch[i*len(line):]
			putDigits(text[id:id+idDigits], uint64(client))
			putDigits(text[place:place+placeDigits], uint64(now/1000))
			// Ten digits, a point and nine more.
			putDigits(text[stamp:stamp+10], uint64(now/1e9))
			putDigits(text[stamp+11:stamp+20], uint64(now%1e9))
			if client += l.conns; client >= l.clients {
				client = number % l.clients
				now++ // a client's time always moves
			}
		}
		if _, err := nc.Write(batch[:n*len(line)]); err != nil {
			return times, err
		}
		if err := drain(nc, answers, n); err != nil {
			return times, err
		}
		if done += n; l.times != nil {
			times = append(times, time.Since(begun))
		}
	}
	return times, nil
}

// half is the same load at half the rate that an edge bears, for some time, and its times
// told.
func (l load) half(ctx context.Context, span time.Duration) (load, error) {
	took, err := l.run(ctx)
	if err != nil {
		return l, err
	}
	l.rate = float64(l.requests) / took.Seconds() / 2
	l.requests = int(l.rate * span.Seconds())
	l.times = new([]time.Duration)
	return l, nil
}

// milliseconds is the time that so great a part of the batches took at the most.
func (l load) milliseconds(part float64) float64 {
	return (*l.times)[int(part*float64(len(*l.times)-1))].Seconds() * 1000
}

// drain reads n lines.
func drain(nc net.Conn, buf []byte, n int) error {
	begins := true // what comes next begins a line
	for n > 0 {
		k, err := nc.Read(buf)
		if err != nil {
			return err
		}
		for text := buf[:k]; len(text) > 0; {
			if begins && text[0] == '?' {
				return fmt.Errorf("refused: %.200q", text)
			}
			i := bytes.IndexByte(text, '\n')
			if begins = i >= 0; !begins {
				break
			}
			n--
			text = text[i+1:]
		}
	}
	return nil
}

// putDigits writes the last decimal digits of x.
func putDigits(dst []byte, x uint64) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = byte('0' + x%10)
		x /= 10
	}
}

// clientID is the id of a client of a load.
func clientID(ids string, n int) string {
	digits := make([]byte, idDigits)
	putDigits(digits, uint64(n))
	return ids + string(digits)
}

// nanoseconds reads seconds with nine decimals and perhaps a sign.
func nanoseconds(text string) (int64, error) {
	point := len(text) - 10
	if point < 1 || text[point] != '.' {
		return 0, fmt.Errorf("%q is no time", text)
	}
	return strconv.ParseInt(text[:point]+text[point+1:], 10, 64)
}

// await waits until the address takes connections.
func (l load) await(ctx context.Context) error {
	return until(ctx, 10*time.Second, time.Millisecond, l.addr+" listens", func() (bool, error) {
		nc, err := net.Dial("tcp", l.addr)
		if err != nil {
			return false, err
		}
		return true, nc.Close()
	})
}
