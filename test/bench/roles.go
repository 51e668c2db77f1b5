package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// roleMark begins the first argument of this program where it is one of its own floors.
const roleMark = "floor:"

const (
	roleEcho      = roleMark + "echo"
	rolePublish   = roleMark + "publish"
	roleSubscribe = roleMark + "subscribe"
)

// role plays a floor and returns the exit code.
func role(args []string) int {
	var err error
	switch {
	case args[0] == roleEcho && len(args) == 2:
		err = echo(args[1])
	case args[0] == rolePublish && len(args) == 4:
		err = publish(args[1], args[2], args[3])
	case args[0] == roleSubscribe && len(args) == 3:
		err = subscribe(args[1], args[2])
	default:
		err = fmt.Errorf("no such floor: %q", args)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// echo is the least that could serve lines: a goroutine and a buffer a connection, and a
// write when nothing more has come.
func echo(addr string) error {
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
				w.Write(line)
				if r.Buffered() == 0 && w.Flush() != nil {
					return
				}
			}
		}()
	}
}

const (
	floorSubject = "floor.at"
	floorSize    = 100 // bytes of a message, as long as an AT line
)

// publish sends messages, each with the time at which it was sent, so many a second and so
// many in all.
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

// subscribe prints "ready", receives so many messages, and prints the median of what they
// took in nanoseconds.
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
