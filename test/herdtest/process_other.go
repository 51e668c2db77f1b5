//go:build !linux

package herdtest

import (
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// attributes returns nothing: only Linux can end a process with the one that started it.
func attributes() *syscall.SysProcAttr { return nil }

// residentMemory returns the resident set of a process in bytes.
func residentMemory(pid int) (int64, error) {
	out, err := exec.Command("ps", "-o", "rss=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return 0, err
	}
	kib, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	return kib << 10, err
}

// stopped reports whether SIGSTOP has stopped a process.
func stopped(pid int) bool {
	out, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.HasPrefix(strings.TrimSpace(string(out)), "T")
}

var errCPU = errors.New("the CPU time of other processes can only be read on Linux, from /proc")

// cpuTime returns the CPU time of all threads of a process.
func cpuTime(int) (time.Duration, error) { return 0, errCPU }
