package journal

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"herd/edge/position"
)

// A scan looks for what is past its time and may meet what somebody else has just done. The read that
// would have met it then finds nothing new.
func TestAScanThatMeetsALostEntryHasAllReadAnew(t *testing.T) {
	j := New(Config{Table: position.New(position.Config{Journal: true}), Log: slog.New(slog.DiscardHandler), Epoch: "this run's"})
	m, now := &j.machine, time.Now()
	state := State{ID: "life 1", Last: 1, Owner: 1, Messages: 1}
	step := func(e event, want call) {
		t.Helper()
		if got := m.step(now, e); got.call != want {
			t.Fatalf("D5 the next call is %d, want %d", got.call, want)
		}
	}
	step(event{}, callOpen)
	step(event{call: callOpen}, callOwner)
	step(event{call: callOwner}, callOwn)
	step(event{call: callOwn, sequence: 1}, callState)
	step(event{call: callState, state: state}, callRead)
	step(event{call: callRead, state: state}, rest)
	m.rescanFrom(1)
	step(event{}, callScan)
	key := string(AppendKey(nil, bytes.Repeat([]byte("*"), 200))) // a hash
	m.entry(&Entry{Key: key, Marker: true, Sequence: 2})
	state.Last, state.Messages = 2, 2
	step(event{call: callScan, state: state}, callState)
	step(event{call: callState, state: state}, callOwner) // and so on, as at a start
}
