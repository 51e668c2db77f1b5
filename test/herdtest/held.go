package herdtest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// ErrOtherAnswer is returned if an edge's answers are out of step with the requests (C1).
var ErrOtherAnswer = errors.New("answer to another request")

// Held returns the lines that one edge holds of these clients, or "" for an unknown client. It
// sends `WHATSAT x 0 0`, which does not ask the places provider (C12).
func Held(addr string, ids []string) ([]string, error) {
	conn, err := net.DialTimeout("tcp", addr, Promise(2*time.Second))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(Promise(5*time.Second + time.Duration(len(ids))*100*time.Microsecond)))
	wrote := make(chan error, 1)
	go func() {
		w := bufio.NewWriterSize(conn, 64<<10)
		for _, id := range ids {
			w.WriteString("WHATSAT " + id + " 0 0\n")
		}
		wrote <- w.Flush()
	}()
	r := bufio.NewReaderSize(conn, 64<<10)
	lines := make([]string, 0, len(ids))
	for _, id := range ids {
		line, err := ReadWhatsat(r)
		if err != nil {
			return nil, fmt.Errorf("%s about %s: %w", addr, id, err)
		}
		if got, ok := strings.CutPrefix(line, "? "); ok {
			if got != "WHATSAT "+id+" 0 0" {
				return nil, fmt.Errorf("%w: %s about %s: %q", ErrOtherAnswer, addr, id, line)
			}
			line = ""
		} else if f := strings.Split(line, " "); len(f) != 6 || f[0] != "AT" || f[3] != id {
			return nil, fmt.Errorf("%w: %s about %s: %q", ErrOtherAnswer, addr, id, line)
		}
		lines = append(lines, line)
	}
	return lines, <-wrote
}

// ReadWhatsat reads one answer to WHATSAT and returns its first line (C14).
func ReadWhatsat(r *bufio.Reader) (string, error) {
	first, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	first = strings.TrimSuffix(first, "\n")
	if strings.HasPrefix(first, "? ") {
		return first, nil
	}
	for {
		line, err := r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return "", err
		}
		if bytes.Equal(line, []byte("\n")) {
			return first, nil
		}
	}
}

// Ask asks edges for what they hold of tracks, for Judge.
func Ask(edges []*EdgeProcess, tracks []Track) (all []Holding, err error) {
	for _, e := range edges {
		h, err := holding(e.Name, e.Addr, tracks)
		if err != nil {
			return nil, err
		}
		all = append(all, h)
	}
	return all, nil
}

// holding asks one edge.
func holding(name, addr string, tracks []Track) (Holding, error) {
	ids := make([]string, len(tracks))
	for i, tr := range tracks {
		ids[i] = tr.ID
	}
	lines, err := Held(addr, ids)
	if err != nil {
		return Holding{}, fmt.Errorf("ask %s: %w", name, err)
	}
	return Holding{Edge: name, Lines: lines, Asked: time.Now()}, nil
}
