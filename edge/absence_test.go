package edge

import (
	"errors"
	"net"
	"testing"
	"time"
)

// Since when the broker is away, and why, is known; and so is what it complains about while it is
// there.
func TestAnAbsenceOfTheBrokerIsExplained(t *testing.T) {
	var a absence
	start := time.Unix(1000, 0)
	want := func(step string, now time.Time, since time.Time, why string) {
		t.Helper()
		if s, w := a.state(now); !s.Equal(since) || w != why {
			t.Errorf("%s: since %v, %q; want %v, %q", step, s, w, since, why)
		}
	}
	a.begin(start, nil)
	want("at the start", start, start, "")
	a.failed(&net.OpError{Op: "read", Net: "tcp", Addr: &net.TCPAddr{Port: 4222}, Source: &net.TCPAddr{Port: 40001}, Err: errors.New("i/o timeout")})
	want("not reached", start, start, "read: i/o timeout") // without this side's port
	a.failed(errors.New("nats: Authorization Violation"))
	want("refused", start.Add(time.Hour), start, "nats: Authorization Violation")
	a.end(start)
	want("connected", start, time.Time{}, "")
	if at := a.turned(); !at.Equal(start) {
		t.Errorf("connected since %v, want %v", at, start)
	}
	a.complaint(start, errors.New("no rights"))
	want("it complains", start.Add(time.Second), time.Time{}, "no rights")
	want("and has not since", start.Add(complaintTold), time.Time{}, "")
	a.begin(start.Add(time.Second), errors.New("EOF"))
	want("away again", start.Add(time.Second), start.Add(time.Second), "EOF")
	if at := a.turned(); !at.Equal(start.Add(time.Second)) {
		t.Errorf("away since %v", at)
	}
}
