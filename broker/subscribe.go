package broker

import (
	"sync"

	"github.com/nats-io/nats.go"
)

// A subscription outlives the nats.go connections that feed it. It has one goroutine, which
// calls handle for one message at a time, in the order in which the broker sent them.
type subscription struct {
	c       *Conn
	subject string
	handle  func(*nats.Msg)
	msgs    chan *nats.Msg // when it is full, nats.go drops the newest
	end     sync.Once
	over    chan struct{}      // closed to end the goroutine
	done    chan struct{}      // closed when it has ended
	sub     *nats.Subscription // on the current connection; guarded by c.mu
	denial  denial             // guarded by c.mu
	asked   bool               // it receives questions, which this edge answers
}

// subscribe calls handle for every message on subject until quit. At most pending messages
// wait for it.
func (c *Conn) subscribe(subject string, pending int, handle func(*nats.Msg)) (*subscription, error) {
	return c.take(&subscription{subject: subject, handle: handle}, pending)
}

// answer is like subscribe, for questions that handle answers.
func (c *Conn) answer(subject string, pending int, handle func(*nats.Msg)) (*subscription, error) {
	return c.take(&subscription{subject: subject, handle: handle, asked: true}, pending)
}

// take registers and starts the new subscription s.
func (c *Conn) take(s *subscription, pending int) (*subscription, error) {
	s.c, s.msgs = c, make(chan *nats.Msg, pending)
	s.over, s.done = make(chan struct{}), make(chan struct{})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	c.subs[s] = struct{}{}
	if c.nc != nil {
		s.attach(c.nc)
	}
	go s.run()
	return s, nil
}

// attach subscribes on a new connection. c.mu must be held. An error means that nc is closed
// already: then the next connection attaches again. A refusal by the broker arrives as a
// complaint.
func (s *subscription) attach(nc *nats.Conn) {
	s.sub, _ = nc.ChanSubscribe(s.subject, s.msgs)
}

// renew subscribes again (H8). It removes the old subscription first: next to it, after its
// account was added by a reload, the new one would receive nothing either. c.mu must be held.
func (s *subscription) renew() {
	if s.sub == nil || s.c.nc == nil {
		return // the next connection subscribes again
	}
	_ = s.sub.Unsubscribe() // fails only if its connection is closed
	s.attach(s.c.nc)
}

func (s *subscription) run() {
	defer close(s.done)
	for {
		select {
		case m := <-s.msgs:
			s.handle(m)
		case <-s.over:
			return
		}
	}
}

// quit ends the subscription. It returns when handle does not run any more, and must not be
// called from it.
func (s *subscription) quit() {
	s.c.mu.Lock()
	delete(s.c.subs, s)
	if s.sub != nil {
		_ = s.sub.Unsubscribe() // fails only if its connection is closed
	}
	s.c.mu.Unlock()
	s.end.Do(func() { close(s.over) })
	<-s.done
}
