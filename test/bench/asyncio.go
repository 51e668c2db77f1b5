package main

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"herd/broker/topology"
	"herd/test/herdtest"
	"herd/test/ports"
)

//go:embed asyncio_herd.py
var asyncioSource []byte

// An asyncioHerd is a herd of five servers in Python, connected directly. It is what a herd would
// be without a broker and with nothing but flooding.
type asyncioHerd struct {
	servers []*herdtest.Process
	addrs   []string // in the order of names
}

// asyncioHerd starts an asyncioHerd and waits until its links are up.
func (s *session) asyncioHerd(ctx context.Context) (*asyncioHerd, error) {
	python, err := exec.LookPath("python3")
	if err != nil {
		return nil, errCannot{"the floor, asyncio servers, needs python3"}
	}
	// Ask for the real path: python3 may be a version manager's wrapper, which is slow to start.
	real, err := exec.CommandContext(ctx, python, "-c", "import sys; assert sys.version_info >= (3, 11); print(sys.executable)").Output()
	if err != nil {
		return nil, errCannot{fmt.Sprintf("asyncio servers are the floor, and %s is no Python 3.11 or later", python)}
	}
	script := s.path("asyncio_herd.py")
	if err := os.WriteFile(script, asyncioSource, 0o600); err != nil {
		return nil, fmt.Errorf("write the asyncio servers: %w", err)
	}
	graph, err := topology.Parse(topology.Default)
	if err != nil {
		return nil, err
	}
	h := &asyncioHerd{}
	at := make(map[string]string)
	for _, name := range names {
		addr, err := ports.TakeAddr()
		if err != nil {
			return nil, err
		}
		at[name], h.addrs = addr, append(h.addrs, addr)
	}
	for _, name := range names {
		args := []string{script, name, at[name]}
		for _, neighbour := range graph.Neighbours(name) {
			args = append(args, neighbour+"="+at[neighbour])
		}
		c, err := s.start("asyncio "+name, nil, strings.TrimSpace(string(real)), args...)
		if err != nil {
			return nil, err
		}
		h.servers = append(h.servers, c)
	}
	return h, until(ctx, 10*time.Second, 20*time.Millisecond, "all asyncio servers are joined", func() (bool, error) {
		for i, addr := range h.addrs {
			if text := last(h.servers[i]); text != "" {
				return false, fmt.Errorf("%s: %s", h.servers[i].Label, text)
			}
			links, _, _, err := asyncioState(addr)
			if err != nil {
				return false, err
			}
			if want := len(graph.Neighbours(names[i])); links < want {
				return false, fmt.Errorf("%s has %d links of %d", names[i], links, want)
			}
		}
		return true, nil
	})
}

// asyncioState asks a server for its links, its clients, and the sum of their times.
func asyncioState(addr string) (links, clients int, sum string, err error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, 0, "", err
	}
	defer nc.Close()
	if _, err := nc.Write([]byte("STATE\n")); err != nil {
		return 0, 0, "", err
	}
	line, err := bufio.NewReader(nc).ReadString('\n')
	if err != nil {
		return 0, 0, "", err
	}
	_, err = fmt.Sscan(line, &links, &clients, &sum)
	return links, clients, sum, err
}

// pass runs a load on the first server and waits until all servers hold the same clients. It
// returns the CPU time that all servers took.
func (h *asyncioHerd) pass(ctx context.Context, l load) (time.Duration, error) {
	before, err := cpuOf(h.servers...)
	if err != nil {
		return 0, err
	}
	l.addr = h.addrs[0]
	if _, err := l.run(ctx); err != nil {
		return 0, err
	}
	if err := until(ctx, time.Minute, 10*time.Millisecond, "all asyncio servers hold the same", func() (bool, error) {
		_, _, want, err := asyncioState(h.addrs[0])
		if err != nil {
			return false, err
		}
		for i, addr := range h.addrs {
			_, clients, sum, err := asyncioState(addr)
			if err != nil {
				return false, err
			}
			if clients < l.clients || sum != want {
				return false, fmt.Errorf("%s has %d clients, whose times add up to %s, not %s", names[i], clients, sum, want)
			}
		}
		return true, nil
	}); err != nil {
		return 0, err
	}
	after, err := cpuOf(h.servers...)
	return after - before, err
}
