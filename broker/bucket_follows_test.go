package broker

import (
	"testing"

	"github.com/nats-io/nats.go"
)

// With no server can a test lose or forge a consumer's message.
func TestWhatAConsumerLostIsNoticed(t *testing.T) { // D2
	r := reader{seen: 100, given: 7}
	for _, c := range []struct {
		consumer, stream uint64
		follows          bool
	}{
		{8, 101, true},
		{8, 5000, true}, // the entries in between were replaced
		{9, 102, false},
		{7, 100, false},
		{8, 100, true}, // the leader gave it meanwhile: it is not taken twice
		{1, 101, false},
	} {
		at := &nats.MsgMetadata{Sequence: nats.SequencePair{Consumer: c.consumer, Stream: c.stream}}
		if got := r.follows(at); got != c.follows {
			t.Errorf("message %d of the consumer, at %d: follows %v, want %v", c.consumer, c.stream, got, c.follows)
		}
	}
}
