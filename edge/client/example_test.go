package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"herd/edge/client"
	"herd/test/herdtest"
)

// The edges that the examples connect to.
var clark, jaquez string

func TestMain(m *testing.M) {
	h, err := herdtest.Open(context.Background(), herdtest.Options{Topology: "Clark-Jaquez"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	clark, jaquez = h.Addr("Clark"), h.Addr("Jaquez")
	code := m.Run()
	err = h.Close()
	if code == 0 {
		err = errors.Join(err, goleak.Find())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func Example() {
	c, err := client.New(client.Config{Addrs: []string{clark, jaquez}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	told, err := c.IAMAT(ctx, "kiwi", client.Location(34.06893, -118.445127), time.Unix(1621464827, 959498503))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(told.Edge, told.Client, told.Location, told.Time.UTC())

	// Zero places: only the client's position.
	held, places, err := c.WHATSAT(ctx, "kiwi", 10, 0)
	fmt.Println(held == told, len(places) > 0, err)
	// Output:
	// Clark kiwi +34.0689300-118.4451270 2021-05-19 22:53:47.959498503 +0000 UTC
	// true true <nil>
}

// Requests of several goroutines are pipelined over one connection.
func ExampleClient_IAMAT() {
	c, err := client.New(client.Config{Addrs: []string{clark}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	var told sync.WaitGroup
	for i := range 100 {
		told.Go(func() {
			id := fmt.Sprint("bus-", i)
			if _, err := c.IAMAT(context.Background(), id, client.Location(51.5, -0.1), time.Now()); err != nil {
				fmt.Println(err)
			}
		})
	}
	told.Wait()
	at, _, err := c.WHATSAT(context.Background(), "bus-99", 0, 0)
	fmt.Println(at.Client, at.Location, err)
	// Output: bus-99 +51.5000000-0.1000000 <nil>
}

// A fence: who is inside, and then who comes in, moves and goes. If the edge stops, the watch
// goes on at the next address.
func ExampleClient_Watch() {
	c, err := client.New(client.Config{Addrs: []string{clark, jaquez}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	walk := []string{"+41.0712+028.4441", "+41.0800+028.4400", "+42.0000+028.4400"}
	tell := func() {
		if len(walk) > 0 {
			if _, err := c.IAMAT(ctx, "ostrich", walk[0], time.Now()); err != nil {
				fmt.Println(err)
			}
			walk = walk[1:]
		}
	}
	tell()
	for e, err := range c.Watch(ctx, client.Circle("+41.0700+028.4400", 5)) {
		if err != nil {
			fmt.Println(err)
			return
		}
		switch e.Kind {
		case client.In, client.Moved:
			fmt.Println(e.Kind, e.Position.Client, e.Position.Location)
		case client.Out:
			fmt.Println(e.Kind, e.Position.Client, e.Position.Location, e.Why)
			return
		}
		if e.Kind != client.In {
			tell()
		}
	}
	// Output:
	// in ostrich +41.0712+028.4441
	// moved ostrich +41.0800+028.4400
	// out ostrich +42.0000+028.4400 left
}

// The nearest two buses.
func ExampleClient_WhosAt() {
	c, err := client.New(client.Config{Addrs: []string{clark}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for id, location := range map[string]string{"rider": "+48.8530+002.3499", "bus-1": "+48.8530+002.3600", "bus-2": "+48.8530+002.3510", "bus-3": "+48.8600+002.3499"} {
		if _, err := c.IAMAT(ctx, id, location, time.Now()); err != nil {
			fmt.Println(err)
		}
	}
	_, near, err := c.WhosAt(ctx, "rider", 10, 2)
	for _, bus := range near {
		fmt.Println(bus.Client, bus.Location)
	}
	fmt.Println(err)
	// Output:
	// bus-2 +48.8530+002.3510
	// bus-1 +48.8530+002.3600
	// <nil>
}

func ExampleRefusedError() {
	c, err := client.New(client.Config{Addrs: []string{clark}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	_, _, err = c.WHATSAT(context.Background(), "nobody", 10, 5)
	if refused, ok := errors.AsType[*client.RefusedError](err); ok {
		fmt.Println("this edge does not know it:", refused.Text)
	}
	// Output: this edge does not know it: WHATSAT nobody 10 5
}

// An address that does not answer is skipped.
func ExampleConfig() {
	c, err := client.New(client.Config{
		Addrs:   []string{"127.0.0.1:1", jaquez},
		Timeout: 5 * time.Second,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	at, err := c.IAMAT(context.Background(), "emu", "+1+1", time.Now())
	fmt.Println(at.Edge, err)
	// Output: Jaquez <nil>
}

// A Conn pipelines on one goroutine: it sends everything before it receives anything.
func ExampleConn() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, clark, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	for _, line := range []string{"IAMAT owl +1+1 1621464827.0", "WHATSAT owl 0 0", "HELLO"} {
		if err := c.Send([]byte(line)); err != nil {
			fmt.Println(err)
		}
	}
	if err := c.Flush(ctx); err != nil {
		fmt.Println(err)
	}
	for range 3 {
		answer, err := c.Receive(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%.9q\n", answer)
	}
	// Output:
	// "AT Clark "
	// "AT Clark "
	// "? HELLO\n"
}
