package sim

import (
	"encoding/hex"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"reflect"
	"strings"
	"time"
)

// fields writes a struct's fields that are not zero as Go does.
func fields(of any) string {
	v := reflect.ValueOf(of)
	var parts []string
	for i := range v.NumField() {
		if f := v.Field(i); !f.IsZero() {
			text := fmt.Sprintf("%#v", f.Interface())
			if d, ok := f.Interface().(time.Duration); ok {
				text = duration(d)
			}
			parts = append(parts, v.Type().Field(i).Name+": "+text)
		}
	}
	return strings.Join(parts, ", ")
}

func duration(d time.Duration) string {
	for _, unit := range []struct {
		of   time.Duration
		name string
	}{{time.Hour, "time.Hour"}, {time.Minute, "time.Minute"}, {time.Second, "time.Second"}, {time.Millisecond, "time.Millisecond"}, {time.Microsecond, "time.Microsecond"}} {
		if d%unit.of == 0 {
			return fmt.Sprintf("%d * %s", d/unit.of, unit.name)
		}
	}
	return fmt.Sprint(int64(d))
}

// A trace is all that happened, as a hash, and as text where that was asked for.
type trace struct {
	begun  time.Time
	hash   hash.Hash
	out    io.Writer // nil: none
	events int
	line   []byte
}

func newTrace(begun time.Time, out io.Writer) *trace {
	return &trace{begun: begun, hash: fnv.New128a(), out: out}
}

// note writes down what happens now.
func (t *trace) note(format string, args ...any) {
	t.events++
	t.line = fmt.Appendf(t.line[:0], "%14.9f ", time.Since(t.begun).Seconds())
	t.line = fmt.Appendf(t.line, format, args...)
	t.line = append(t.line, '\n')
	t.hash.Write(t.line)
	if t.out != nil {
		_, _ = t.out.Write(t.line)
	}
}

// tell writes down what is no event, and only for who reads along.
func (t *trace) tell(format string, args ...any) {
	if t.out != nil {
		fmt.Fprintf(t.out, "%14.9f   "+format+"\n", append([]any{time.Since(t.begun).Seconds()}, args...)...)
	}
}

func (t *trace) sum() string { return hex.EncodeToString(t.hash.Sum(nil)) }
