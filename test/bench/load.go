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

// A load sends IAMATs of moving clients over plain connections. To be cheap, it only checks that
// no answer is a refusal. cmd/herd/load checks every answer, but costs as much CPU as an edge and
// does not work with an echo.
type load struct {
	addr     string
	ids      string // prefix of the clients' ids
	clients  int
	conns    int
	pipeline int     // commands per batch; the next batch waits for its answers
	rate     float64 // commands per second, of all connections; 0: as fast as possible
	requests int     // of all connections

	in   *world // where the clients are, and in what order they come: none; nil: all in one place
	jump bool   // in a world: anywhere in their town, else some 30 m from their home

	// times receives how long each batch took: from when it was due, or was sent if there is no
	// rate, until its last answer. It may be nil.
	times *[]time.Duration
}

const (
	// The widths, in digits, of the fields of a command that change: the client's number, the
	// end of its latitude, and its time.
	idDigits, placeDigits, timeDigits = 7, 6, 19
)

// run makes the requests and returns how long that took, without the time to connect.
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

// converse makes the requests of connection number, whose clients are number, number+conns, …
func (l load) converse(number int, nc net.Conn, start time.Time) (times []time.Duration, err error) {
	location := "+34.000000-118.445127"
	if l.in != nil {
		location = spot{}.String()
	}
	line := []byte("IAMAT " + l.ids + "0000000 " + location + " 0000000000.000000000\n")
	id := len("IAMAT ") + len(l.ids)
	place := id + idDigits + len(" ")
	stamp := place + len(location) + len(" ")
	batch := bytes.Repeat(line, l.pipeline)
	answers := make([]byte, 64<<10)
	client := number
	total := l.requests / l.conns
	// In a world the connection's clients come in turns of a stride, from another one each time.
	turn, stride := 0, 0
	if l.in != nil {
		stride = strideOf(l.clients / l.conns)
		turn = int(start.UnixMicro() % int64(l.clients/l.conns))
		client = number + l.conns*turn
	}
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
			if l.in != nil {
				l.in.place(client, l.jump, uint64(now)+uint64(client)).put(text[place : place+spotWidth])
			} else {
				putDigits(text[place+len("+34."):place+len("+34.")+placeDigits], uint64(now/1000))
			}
			// Ten digits, a point and nine digits.
			putDigits(text[stamp:stamp+10], uint64(now/1e9))
			putDigits(text[stamp+11:stamp+20], uint64(now%1e9))
			if l.in != nil {
				turn = (turn + stride) % (l.clients / l.conns)
				client = number + l.conns*turn
			} else if client += l.conns; client >= l.clients {
				client = number % l.clients
				now++ // a client's time always increases
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

// strideOf returns by how much a turn goes on among n clients, so that each comes once in n turns and
// neighbours in memory do not come one after the other.
func strideOf(n int) int {
	stride := n*618/1000 | 1
	for a, b := n, stride; b != 1; {
		if a, b = b, a%b; b == 0 {
			stride += 2
			a, b = n, stride
		}
	}
	return stride
}

// half runs the load once to find the highest rate. It returns the same load at half that rate,
// for the given time and with times set.
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

// milliseconds returns a quantile of times, which are sorted: part of the batches took at most
// that long.
func (l load) milliseconds(part float64) float64 {
	return (*l.times)[int(part*float64(len(*l.times)-1))].Seconds() * 1000
}

// drain reads n lines.
func drain(nc net.Conn, buf []byte, n int) error {
	begins := true // the next byte begins a line
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

// clientID returns the id of a client of a load.
func clientID(ids string, n int) string {
	digits := make([]byte, idDigits)
	putDigits(digits, uint64(n))
	return ids + string(digits)
}

// nanoseconds parses seconds with nine decimals and an optional sign.
func nanoseconds(text string) (int64, error) {
	point := len(text) - 10
	if point < 1 || text[point] != '.' {
		return 0, fmt.Errorf("%q is not a time", text)
	}
	return strconv.ParseInt(text[:point]+text[point+1:], 10, 64)
}

// await waits until the address accepts connections.
func (l load) await(ctx context.Context) error {
	return until(ctx, 10*time.Second, time.Millisecond, l.addr+" listens", func() (bool, error) {
		nc, err := net.Dial("tcp", l.addr)
		if err != nil {
			return false, err
		}
		return true, nc.Close()
	})
}
