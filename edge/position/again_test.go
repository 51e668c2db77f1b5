package position

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestWhatWasPassedIsReadAgain(t *testing.T) {
	table := New(Config{})
	var long []string
	for i := range 10 {
		apply(t, table, 0, Source{}, Put, at("A", fmt.Sprint("short", i), "+1+1", 1, 0))
		id := strings.Repeat("x", 500) + fmt.Sprint(i)
		long = append(long, id)
		apply(t, table, 0, Source{1, "e1"}, Put, at("A", id, "+1+1", 1, 0)) // which taught it, too
	}
	_, span := table.Read(nil, 0, 1<<16, Source{2, "f1"}, 0, nil)
	cursor := span.Through
	reader := NewReader()
	table.Wait(reader, cursor)
	steps, from := 0, uint32(0)
	for end := false; !end; steps++ {
		from, end = table.Again(100, from, 7)
	}
	if steps != 3 {
		t.Errorf("%d steps of 7 of 20 slots", steps)
	}
	select {
	case <-reader.C:
	default:
		t.Error("who waits was not woken")
	}
	for _, to := range []Source{{1, "e1"}, {2, "f1"}} {
		got, _ := table.Read(nil, cursor, 1<<16, to, 0, nil)
		if n := bytes.Count(got, []byte("\n")); n != len(long) {
			t.Errorf("%d lines, want %d", n, len(long))
		}
		for _, id := range long {
			if !bytes.Contains(got, []byte(" "+id+" ")) {
				t.Errorf("H5 without %.510s", id[498:])
			}
		}
	}
}
