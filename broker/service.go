package broker

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

const (
	serviceName = "herd-edge"

	refused     = "refused" // error description of a refusal; its data have the details
	refusedCode = "400"
	busy        = "busy" // the command was not processed and may be sent again
	laterCode   = "503"
	tooLarge    = "the answer is larger than the broker's max_payload"
	failedCode  = "500"
)

// How many requests per endpoint may wait at once. Beyond that a request is answered busy.
// Waiting in the connection would be worse: its time of receipt would be unknown (C10), and
// it would be served long after its sender has given up.
const (
	maxWaiting      = 4096
	maxWaitingBytes = 8 << 20
	// maxQuestions bounds the WHATSATs and WHOSATs that are looked up at once, and maxTurn is
	// how long others wait for their turn.
	maxQuestions = 64
	maxTurn      = 5 * time.Second
	// maxLooks bounds what is looked up for operators at once: beside many clients that ask, it
	// takes no more than a share of a processor.
	maxLooks = 2
)

// ServiceConfig configures an edge's endpoints.
type ServiceConfig struct {
	Prefix  string // HERD_SUBJECT_PREFIX
	Edge    string
	Version string // shown unchanged if it is a semantic version

	// IAMAT, WHATSAT and WHOSAT answer a line without its command word. A Reply that is refused
	// has the line of C4. They may keep the payload. IAMAT is called from one goroutine in the
	// order of receipt and must not wait: waiting for an answer (D3) is done in the reply's
	// Later. WHATSAT and WHOSAT are called from up to 64 goroutines and may wait.
	IAMAT, WHATSAT, WHOSAT func(payload []byte, received time.Time) Reply
	// Status returns JSON for a request's payload, which may be anything; called from one goroutine.
	Status func(question []byte) []byte
	// Client, Cells and Digest answer what operators ask about the edge's table, in JSON. They are
	// called from up to two goroutines, and may wait. Without one of them its endpoint is left out.
	Client, Cells, Digest func(payload []byte) Reply
	// Joining returns why IAMAT, WHATSAT, WHOSAT and Digest may not be called yet: they are answered
	// with error 503 and this text. "" means that they may be called. nil: they always may.
	Joining func() (why string)
}

// A Reply is the answer to a command.
type Reply struct {
	Answer  []byte
	Refused bool
	// Code and Why are an error other than a refusal, to be answered without data; "": there is none.
	Code, Why string
	// Later waits for the reply and returns it; nil: this is the reply.
	Later func() Reply
}

// Service is an edge as a micro service of NATS.
type Service struct {
	c         *Conn
	cfg       ServiceConfig
	promises  waiting       // IAMATs
	questions queue         // WHATSATs and WHOSATs
	looks     queue         // what operators ask about the table
	turn      time.Duration // how long a question waits for its turn

	micro  micro.Service // on the current connection; guarded by c.mu
	denial denial        // of any of its subscriptions; guarded by c.mu

	mu      sync.Mutex
	stopped bool
	running sync.WaitGroup // handlers
}

// Serve offers the endpoints until Stop, also across reconnects. An error means that the
// connection is closed.
func (c *Conn) Serve(cfg ServiceConfig) (*Service, error) {
	s := c.newService(cfg)
	return s, s.offer()
}

func (c *Conn) newService(cfg ServiceConfig) *Service {
	cfg.Version = semanticVersion(cfg.Version)
	return &Service{c: c, cfg: cfg, questions: newQueue(maxQuestions), looks: newQueue(maxLooks), turn: maxTurn}
}

func (s *Service) offer() error {
	c := s.c
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return ErrClosed
	}
	c.services[s] = struct{}{}
	if c.nc != nil {
		s.attach(c.nc)
	}
	c.mu.Unlock()
	c.confirm()
	return nil
}

// attach adds the service to a new connection. c.mu must be held. As with subscriptions, an
// error means that there will be another connection.
func (s *Service) attach(nc *nats.Conn) {
	if err := s.add(nc); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		s.c.log.Error("micro service not added", "edge", s.cfg.Edge, "error", err)
	}
}

func (s *Service) add(nc *nats.Conn) error {
	svc, err := micro.AddService(nc, micro.Config{
		Name:               serviceName,
		Version:            s.cfg.Version,
		Description:        s.cfg.Edge,
		Metadata:           map[string]string{"edge": s.cfg.Edge, "prefix": s.cfg.Prefix},
		QueueGroupDisabled: true, // each name belongs to one edge
	})
	if err != nil {
		return err
	}
	s.micro = svc
	type endpoint struct {
		name   string
		handle micro.HandlerFunc
	}
	all := []endpoint{
		{"iamat", s.whenReady(s.iamat)},
		{"whatsat", s.whenReady(s.question(&s.questions, s.cfg.WHATSAT))},
		{"whosat", s.whenReady(s.question(&s.questions, s.cfg.WHOSAT))},
		{"status", s.handler(func(r micro.Request, _ time.Time) {
			s.respond(r, s.cfg.Status(r.Data()))
		})},
	}
	look := func(f func([]byte) Reply) func(micro.Request, time.Time) {
		return s.question(&s.looks, func(payload []byte, _ time.Time) Reply { return f(payload) })
	}
	if s.cfg.Client != nil {
		all = append(all, endpoint{"client", s.handler(look(s.cfg.Client))})
	}
	if s.cfg.Cells != nil {
		all = append(all, endpoint{"cells", s.handler(look(s.cfg.Cells))})
	}
	if s.cfg.Digest != nil {
		all = append(all, endpoint{"digest", s.whenReady(look(s.cfg.Digest))})
	}
	for _, e := range all {
		subject := s.subject(e.name)
		if err := svc.AddEndpoint(e.name, e.handle, micro.WithEndpointSubject(subject)); err != nil {
			return fmt.Errorf("endpoint %s: %w", subject, err)
		}
	}
	return nil
}

// handler returns f as a handler that does nothing once the service is stopped. It takes the
// time of receipt first.
func (s *Service) handler(f func(micro.Request, time.Time)) micro.HandlerFunc {
	return func(r micro.Request) {
		received := time.Now()
		s.mu.Lock()
		if s.stopped {
			s.mu.Unlock()
			return
		}
		s.running.Add(1)
		s.mu.Unlock()
		defer s.running.Done()
		f(r, received)
	}
}

// whenReady calls f only once the edge is ready (H7): until then the client port is closed
// too.
func (s *Service) whenReady(f func(micro.Request, time.Time)) micro.HandlerFunc {
	return s.handler(func(r micro.Request, received time.Time) {
		if s.cfg.Joining != nil {
			if why := s.cfg.Joining(); why != "" {
				s.check(r, r.Error(laterCode, why, nil))
				return
			}
		}
		f(r, received)
	})
}

func (s *Service) subject(endpoint string) string {
	return s.cfg.Prefix + ".edge." + s.cfg.Edge + "." + endpoint
}

// renew subscribes again to everything of the service. c.mu must be held.
func (s *Service) renew(nc *nats.Conn) {
	if s.micro != nil {
		_ = s.micro.Stop() // fails only if its connection is closed
	}
	s.attach(nc)
}

// iamat applies the command at once, so that IAMATs take effect in the order of receipt.
// Answers that wait for the journal (D3) wait concurrently.
func (s *Service) iamat(r micro.Request, received time.Time) {
	size := len(r.Data())
	if !s.promises.enter(size) {
		s.check(r, r.Error(laterCode, busy, nil))
		return
	}
	reply := s.cfg.IAMAT(r.Data(), received)
	if reply.Later != nil {
		s.running.Go(func() {
			defer s.promises.leave(size)
			s.check(r, s.respondLate(r.Reply(), reply.Later()))
		})
		return
	}
	s.promises.leave(size)
	if reply.Refused {
		s.check(r, r.Error(refusedCode, refused, reply.Answer))
	} else {
		s.respond(r, reply.Answer)
	}
}

// respond sends an answer, or an error if the answer is larger than the broker accepts.
func (s *Service) respond(r micro.Request, answer []byte) {
	if s.fits(answer) {
		s.check(r, r.Respond(answer))
	} else {
		s.check(r, r.Error(failedCode, tooLarge, nil))
	}
}

func (s *Service) fits(answer []byte) bool {
	most := s.c.MaxPayload()
	return most == 0 || len(answer) <= most
}

// A queue is where questions of one kind wait for their turn.
type queue struct {
	waiting
	turns chan struct{} // holds one per question that is looked up
}

func newQueue(turns int) queue { return queue{turns: make(chan struct{}, turns)} }

// question returns a handler that looks up the answer to a question while others are looked up.
func (s *Service) question(q *queue, answer func([]byte, time.Time) Reply) func(micro.Request, time.Time) {
	return func(r micro.Request, received time.Time) {
		size := len(r.Data())
		if !q.enter(size) {
			s.check(r, r.Error(laterCode, busy, nil))
			return
		}
		s.running.Go(func() {
			defer q.leave(size)
			turn := time.NewTimer(s.turn)
			defer turn.Stop()
			select {
			case q.turns <- struct{}{}:
			case <-turn.C:
				s.check(r, s.publish(&nats.Msg{Subject: r.Reply(), Header: serviceError(laterCode, busy)}))
				return
			}
			defer func() { <-q.turns }()
			reply := answer(r.Data(), received)
			for reply.Later != nil {
				reply = reply.Later()
			}
			s.check(r, s.respondLate(r.Reply(), reply))
		})
	}
}

// respondLate does what micro.Request does, which may only be used within its handler.
func (s *Service) respondLate(to string, reply Reply) error {
	m := &nats.Msg{Subject: to, Data: reply.Answer}
	switch {
	case reply.Code != "":
		m.Header, m.Data = serviceError(reply.Code, reply.Why), nil
	case reply.Refused:
		m.Header = serviceError(refusedCode, refused)
	case !s.fits(reply.Answer):
		m.Header, m.Data = serviceError(failedCode, tooLarge), nil
	}
	return s.publish(m)
}

func (s *Service) publish(m *nats.Msg) error {
	nc := s.c.live.Load()
	if nc == nil {
		return ErrNotConnected
	}
	return nc.PublishMsg(m)
}

func serviceError(code, text string) nats.Header {
	return nats.Header{micro.ErrorHeader: {text}, micro.ErrorCodeHeader: {code}}
}

// waiting counts the requests that wait for their answers.
type waiting struct {
	mu       sync.Mutex
	n, bytes int
}

// enter lets a request of this many bytes wait, if there is room.
func (w *waiting) enter(size int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.n >= maxWaiting || w.n > 0 && w.bytes+size > maxWaitingBytes {
		return false
	}
	w.n++
	w.bytes += size
	return true
}

func (w *waiting) leave(size int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n--
	w.bytes -= size
}

// check logs an answer that could not be sent, unless the request wanted none or the broker
// is disconnected.
func (s *Service) check(r micro.Request, err error) {
	if err != nil && r.Reply() != "" && s.c.Connected() {
		s.c.log.Warn("answer not sent", "subject", r.Subject(), "error", err)
	}
}

// Stop ends the service. Requests received until then are answered (C19), unless limit ends
// before their turn; later ones are not. It returns when no handler runs any more.
func (s *Service) Stop(limit context.Context) {
	s.c.mu.Lock()
	delete(s.c.services, s)
	svc, nc := s.micro, s.c.nc
	s.c.mu.Unlock()
	if svc != nil {
		err := svc.Stop()
		if err == nil && nc != nil && s.c.Connected() {
			err = handled(limit, nc)
		}
		if err != nil && s.c.Connected() {
			s.c.log.Warn("micro service not stopped cleanly", "edge", s.cfg.Edge, "error", err)
		}
	}
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.running.Wait()
}

// handled returns when all messages that the broker had sent when it received our last
// message are handled.
func handled(limit context.Context, nc *nats.Conn) error {
	if err := flush(limit, nc, flushTimeout); err != nil {
		return err
	}
	done := make(chan struct{})
	if err := nc.Barrier(func() { close(done) }); err != nil {
		return fmt.Errorf("wait for requests: %w", err)
	}
	select {
	case <-done:
		return nil
	case <-limit.Done():
		return fmt.Errorf("wait for requests: %w", context.Cause(limit))
	}
}

// semVer is semver.org's own regular expression.
var semVer = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
	`(-((0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?` +
	`(\+([0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*))?$`)

// semanticVersion returns version if micro accepts it, otherwise 0.0.0 with as much of it as
// possible.
func semanticVersion(version string) string {
	v := strings.TrimPrefix(version, "v")
	if semVer.MatchString(v) {
		return v
	}
	rest := strings.Map(func(r rune) rune {
		switch {
		case '0' <= r && r <= '9', 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', r == '-':
			return r
		}
		return '-'
	}, version)
	if rest = strings.Trim(rest, "-"); rest == "" {
		return "0.0.0"
	}
	return "0.0.0+" + rest
}
