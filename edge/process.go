package edge

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"herd/edge/overview"
)

// processID tells this process from all others, wherever they run.
var processID = sync.OnceValue(func() string {
	var part [8]byte
	_, _ = rand.Read(part[:]) // never fails
	return hex.EncodeToString(part[:])
})

// process is what is known of this process, which used as much CPU time over a time; 0 is not
// known.
func process(cpu, over time.Duration) overview.Process {
	host, _ := os.Hostname() // "" is left out
	p := overview.Process{ID: processID(), Host: host, Memory: processMemory(), Goroutines: runtime.NumGoroutine(), Cores: runtime.GOMAXPROCS(0)}
	if cpu > 0 && over > 0 {
		cores := cpu.Seconds() / over.Seconds()
		p.CPU = &cores
	}
	return p
}

// processCPU is the time that all cores together spent on this process; 0 if it is not known.
func processCPU() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// processMemory is this process's resident memory in bytes; 0 where there is no /proc.
func processMemory() uint64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}
