package broker

import (
	"sync"

	"github.com/nats-io/nats.go"
)

// A subscription outlives the nats.go connections that feed it. It has one
// goroutine, which calls handle for one message after the other, in the order
// in which the broker sent them.
type subscription struct {
	c       *Conn
	subject string
	handle  func(*nats.Msg)
	msgs    chan *nats.Msg // when it is full, nats.go drops the newest
	end     sync.Once
	over    chan struct{}      // closed to end the goroutine
	done    chan struct{}      // closed when it has ended
	sub     *nats.Subscription // of the present connection; c.mu
}

// subscribe calls handle for every message on subject until quit. At most
// pending messages wait for it.
func (c *Conn) subscribe(subject string, pending int, handle func(*nats.Msg)) (*subscription, error) {
	s := &subscription{
		c: c, subject: subject, handle: handle,
		msgs: make(chan *nats.Msg, pending), over: make(chan struct{}), done: make(chan struct{}),
	}
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

// attach subscribes on a new connection. c.mu is held. An error means that nc
// is closed already: then the next connection attaches again. What the broker
// refuses comes as a complaint.
func (s *subscription) attach(nc *nats.Conn) {
	s.sub, _ = nc.ChanSubscribe(s.subject, s.msgs)
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

// quit ends the subscription. It returns when handle does not run any more,
// and must not be called from it.
func (s *subscription) quit() {
	s.c.mu.Lock()
	delete(s.c.subs, s)
	if s.sub != nil {
		_ = s.sub.Unsubscribe() // errs only when its connection is closed
	}
	s.c.mu.Unlock()
	s.end.Do(func() { close(s.over) })
	<-s.done
}
