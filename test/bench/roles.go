package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// roleMark begins the first argument of this program if it is to run as a floor.
const roleMark = "floor:"

const (
	roleEcho      = roleMark + "echo"
	rolePublish   = roleMark + "publish"
	roleSubscribe = roleMark + "subscribe"
	roleRead      = roleMark + "read"
	roleAnswer    = roleMark + "answer"
	roleFanOut    = roleMark + "fan-out"
	roleHTTP      = roleMark + "http"
)

// role runs this program as a floor and returns the exit code.
func role(args []string) int {
	var err error
	switch {
	case args[0] == roleEcho && len(args) == 2:
		err = echo(args[1])
	case args[0] == roleAnswer && len(args) == 3:
		err = answer(args[1], args[2])
	case args[0] == roleFanOut && len(args) == 2:
		err = fanOut(args[1])
	case args[0] == roleHTTP && len(args) == 2:
		err = httpFloor(args[1])
	case args[0] == rolePublish && len(args) == 4:
		err = publish(args[1], args[2], args[3])
	case args[0] == roleSubscribe && len(args) == 3:
		err = subscribe(args[1], args[2])
	case args[0] == roleRead && len(args) == 4:
		err = read(args[1], args[2], args[3])
	default:
		err = fmt.Errorf("no such floor: %q", args)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// echo is the least that could serve lines: a goroutine and a buffer per connection, and a write
// when there is nothing more to read.
func echo(addr string) error {
	return serve(addr, func(line []byte, w *bufio.Writer) { w.Write(line) })
}

// answer is an echo that answers each line with a text of so many bytes: an AT line after the other,
// and at the end an empty line.
func answer(addr, bytes string) error {
	n, err := strconv.Atoi(bytes)
	if err != nil || n < 2 {
		return fmt.Errorf("%s bytes: %w", bytes, err)
	}
	text := make([]byte, n)
	for i := range text {
		text[i] = 'A'
		if i%floorSize == floorSize-1 || i >= n-2 {
			text[i] = '\n'
		}
	}
	return serve(addr, func(_ []byte, w *bufio.Writer) { w.Write(text) })
}

func serve(addr string, answer func(line []byte, w *bufio.Writer)) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	for {
		nc, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer nc.Close()
			r, w := bufio.NewReaderSize(nc, 4096), bufio.NewWriterSize(nc, 4096)
			for {
				line, err := r.ReadSlice('\n')
				if err != nil {
					return
				}
				answer(line, w)
				if r.Buffered() == 0 && w.Flush() != nil {
					return
				}
			}
		}()
	}
}

// fanOut writes each line of one connection to all connections that have said nothing, one after
// the other: the least that could tell many of one.
func fanOut(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	silent := map[net.Conn]bool{}
	for {
		nc, err := ln.Accept()
		if err != nil {
			return err
		}
		mu.Lock()
		silent[nc] = true
		mu.Unlock()
		go func() {
			defer nc.Close()
			r := bufio.NewReaderSize(nc, 512)
			for {
				line, err := r.ReadSlice('\n')
				mu.Lock()
				delete(silent, nc)
				if err == nil {
					for other := range silent {
						other.Write(line)
					}
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		}()
	}
}

const (
	floorSubject = "floor.at"
	floorSize    = 100 // bytes per message, about the length of an AT line
)

// publish sends a number of messages at a rate per second. Each message contains the time at
// which it was sent.
func publish(url, rate, count string) error {
	perSecond, err := strconv.ParseFloat(rate, 64)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	text := make([]byte, floorSize)
	start := time.Now()
	for i := range n {
		time.Sleep(time.Until(start.Add(time.Duration(float64(i) / perSecond * 1e9))))
		binary.LittleEndian.PutUint64(text, uint64(time.Now().UnixNano()))
		if err := nc.Publish(floorSubject, text); err != nil {
			return err
		}
	}
	return nc.Flush()
}

// read reads a number of entries of a bucket and drops them.
func read(url, bucket, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return err
	}
	watch, err := kv.WatchAll(ctx)
	if err != nil {
		return err
	}
	for ; n > 0; n-- {
		select {
		case <-watch.Updates():
		case <-ctx.Done():
			return fmt.Errorf("%d entries are missing", n)
		}
	}
	return nil
}

// subscribe prints "ready", receives a number of messages, and prints the median of the times that
// they took, in nanoseconds.
func subscribe(url, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	times := make([]int64, 0, n)
	done := make(chan struct{})
	if _, err := nc.Subscribe(floorSubject, func(m *nats.Msg) {
		times = append(times, time.Now().UnixNano()-int64(binary.LittleEndian.Uint64(m.Data)))
		if len(times) == n {
			close(done)
		}
	}); err != nil {
		return err
	}
	if err := nc.Flush(); err != nil {
		return err
	}
	fmt.Println("ready")
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		return fmt.Errorf("messages are missing")
	}
	slices.Sort(times)
	fmt.Println(times[n/2])
	return nil
}
