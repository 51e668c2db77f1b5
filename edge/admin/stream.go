package admin

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"herd/edge/overview"
)

const (
	mostStreams = 32               // at once
	streamEvery = time.Second      // between two messages
	streamLate  = 10 * time.Second // a reader that takes longer for a message is dropped
	streamQueue = 8                // messages that wait for a reader
)

// A channel sends what the board shows to all that follow it. It looks once a second for all of
// them, and only while there are any; what it sends is written once.
type channel struct {
	board *board

	mu      sync.Mutex
	readers map[*reader]struct{}
	now     *overview.Herd // that all readers have, or have waiting
	differ  differ
	stop    context.CancelFunc // ends run
	stopped chan struct{}      // closed when run has ended
}

// A reader is one that follows.
type reader struct {
	messages chan []byte // closed when it was too slow
	dropped  bool        // … and that is so; guarded by the channel
}

var errManyStreams = errors.New("too many streams")

// join adds a reader, and returns the first message for it. Every join needs a leave.
func (c *channel) join(ctx context.Context) (*reader, []byte, error) {
	c.mu.Lock()
	full := len(c.readers) >= mostStreams
	c.mu.Unlock()
	if full {
		return nil, nil, errManyStreams
	}
	h, err := c.board.herd(ctx)
	if err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.readers) >= mostStreams {
		return nil, nil, errManyStreams
	}
	if len(c.readers) == 0 {
		c.readers = map[*reader]struct{}{}
		c.now = h
		c.differ.begin(h)
		before := c.stopped
		var running context.Context
		// It runs for all readers, and ends when the last leaves.
		running, c.stop = context.WithCancel(context.WithoutCancel(ctx))
		c.stopped = make(chan struct{})
		go c.run(running, before, c.stopped)
	}
	r := &reader{messages: make(chan []byte, streamQueue)}
	c.readers[r] = struct{}{}
	return r, event("herd", mustJSON(c.now)), nil
}

// leave removes a reader. The last waits until nothing runs any more.
func (c *channel) leave(r *reader) {
	c.mu.Lock()
	delete(c.readers, r)
	last, stopped := len(c.readers) == 0, c.stopped
	if last {
		c.stop()
	}
	c.mu.Unlock()
	if last {
		<-stopped
	}
}

func (c *channel) run(ctx context.Context, before <-chan struct{}, stopped chan<- struct{}) {
	defer close(stopped)
	if before != nil {
		<-before
	}
	tick := time.NewTicker(streamEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		h, err := c.board.herd(ctx)
		if err != nil {
			return
		}
		c.send(ctx, h)
	}
}

// send tells all readers of a new state. One that has too much waiting is dropped: it will come
// again, and gets the whole.
func (c *channel) send(ctx context.Context, h *overview.Herd) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil { // this run's readers are gone
		return
	}
	text := c.differ.change(h)
	name := "change"
	if text == nil {
		c.differ.begin(h)
		name, text = "herd", mustJSON(h)
	}
	c.now = h
	message := event(name, text)
	for r := range c.readers {
		if r.dropped {
			continue
		}
		select {
		case r.messages <- message:
		default:
			r.dropped = true
			close(r.messages)
		}
	}
}

// event is a message of a stream of server-sent events. data has no line end.
func event(name string, data []byte) []byte {
	b := make([]byte, 0, len(data)+len(name)+20)
	b = append(append(b, "event: "...), name...)
	b = append(append(b, "\ndata: "...), data...)
	return append(b, "\n\n"...)
}

// events streams the state of the herd until the reader goes, is too slow, or the server stops.
func (a *Admin) events(w http.ResponseWriter, r *http.Request) {
	reader, first, err := a.channel.join(r.Context())
	switch {
	case errors.Is(err, errManyStreams):
		w.Header().Set("Retry-After", "5")
		tell(w, http.StatusServiceUnavailable, "too many streams are open; ask /status.json\n")
		return
	case err != nil:
		tell(w, http.StatusServiceUnavailable, "stopping\n")
		return
	}
	defer a.channel.leave(reader)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep messages back
	if r.Method == http.MethodHead {
		return
	}
	out := http.NewResponseController(w)
	send := func(message []byte) bool {
		_ = out.SetWriteDeadline(time.Now().Add(streamLate)) // where it cannot be set, a server's own holds
		if _, err := w.Write(message); err != nil {
			return false
		}
		return out.Flush() == nil
	}
	if !send(append([]byte("retry: 2000\n\n"), first...)) {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case message, ok := <-reader.messages:
			if !ok || !send(message) {
				return
			}
		}
	}
}
