//go:build !linux

package test

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// attributes: only Linux can tie a process to the one that started it.
func attributes() *syscall.SysProcAttr { return nil }

// residentMemory is the resident set of a process in bytes.
func residentMemory(pid int) (int64, error) {
	out, err := exec.Command("ps", "-o", "rss=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return 0, err
	}
	kib, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	return kib << 10, err
}

// stopped tells whether a process has taken note of SIGSTOP.
func stopped(pid int) bool {
	out, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.HasPrefix(strings.TrimSpace(string(out)), "T")
}
