package ports_test

import (
	"bufio"
	"bytes"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"

	"herd/test/ports"
)

// many is so much that processes which start one after the other come to the same blocks.
const many = 2000

// Each port is given once, whichever process asks, and those of a process are in use until it
// ends, whether somebody listens on them or not.
func TestNoTwoProcessesGetTheSamePort(t *testing.T) {
	if os.Getenv("PORTS_CHILD") != "" {
		child()
		return
	}
	const processes = 3
	var outputs [processes]bytes.Buffer
	var children sync.WaitGroup
	hold, release, err := os.Pipe() // at its end the children end
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	for i := range processes {
		c := exec.Command(os.Args[0], "-test.run", "^TestNoTwoProcessesGetTheSamePort$")
		c.Env, c.Stdin = append(os.Environ(), "PORTS_CHILD=1"), hold
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; n < many && lines.Scan(); n++ {
			outputs[i].WriteString(lines.Text() + "\n")
		}
		children.Go(func() { _ = c.Wait() })
	}
	release.Close()
	children.Wait()
	seen := make(map[string]int)
	for i := range outputs {
		for _, port := range bytes.Fields(outputs[i].Bytes()) {
			if other, twice := seen[string(port)]; twice {
				t.Errorf("processes %d and %d both got port %s", other, i, port)
			}
			seen[string(port)] = i
		}
	}
	if len(seen) != processes*many {
		t.Errorf("%d ports, want %d", len(seen), processes*many)
	}
}

func child() {
	for range many {
		port, err := ports.Take(1)
		if err != nil {
			os.Stdout.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Stdout.WriteString(strconv.Itoa(port) + "\n")
	}
	_, _ = os.Stdin.Read(make([]byte, 1))
}

func TestPortsInARow(t *testing.T) {
	port := ports.FreeRow(t, 5)
	for p := port; p < port+5; p++ {
		ln, err := net.Listen("tcp", ports.Local(p))
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
	}
	for _, n := range []int{0, 101} {
		if _, err := ports.Take(n); err == nil {
			t.Errorf("%d ports in a row were given", n)
		}
	}
}

// A port on which somebody listens who did not ask is passed over.
func TestAPortInUseIsPassedOver(t *testing.T) {
	port := ports.Free(t)
	var taken []net.Listener
	defer func() {
		for _, ln := range taken {
			ln.Close()
		}
	}()
	for p := port + 1; p <= port+3; p++ {
		if ln, err := net.Listen("tcp", ports.Local(p)); err == nil {
			taken = append(taken, ln)
		}
	}
	if got := ports.FreeRow(t, 2); got > port && got <= port+3 {
		t.Errorf("it gives %d while %d to %d are in use", got, port+1, port+3)
	}
}
