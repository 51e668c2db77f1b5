package broker

import (
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
	// maxQuestions bounds the WHATSATs that wait for places at once; further
	// ones wait in the connection.
	maxQuestions = 64

	refused     = "refused" // what a refusal is called; its data say the rest
	refusedCode = "400"
	joining     = "joining"
	joiningCode = "503"
)

// ServiceConfig is that of an edge's endpoints.
type ServiceConfig struct {
	Prefix  string // HERD_SUBJECT_PREFIX
	Edge    string
	Version string // shown as it is where it is a semantic version

	// IAMAT and WHATSAT answer a line without its verb. ok = false is a
	// refusal, whose answer is the line of C4. The payload is theirs to keep.
	// IAMAT and Status are called from one goroutine each, WHATSAT from up to
	// 64: it may take its time.
	IAMAT, WHATSAT func(payload []byte, received time.Time) (answer []byte, ok bool)
	Status         func() []byte // JSON
	// Ready says whether IAMAT and WHATSAT may be asked; until then they are answered
	// with error 503 and not called. nil: always.
	Ready func() bool
}

// Service makes an edge a micro service of NATS.
type Service struct {
	c         *Conn
	cfg       ServiceConfig
	questions chan struct{} // one for each WHATSAT that runs

	micro micro.Service // on the present connection; c.mu

	mu      sync.Mutex
	stopped bool
	running sync.WaitGroup // handlers
}

// Serve offers the endpoints until Stop, also over reconnects. An error means
// that the connection is closed.
func (c *Conn) Serve(cfg ServiceConfig) (*Service, error) {
	s := &Service{c: c, cfg: cfg, questions: make(chan struct{}, maxQuestions)}
	s.cfg.Version = semanticVersion(cfg.Version)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, ErrClosed
	}
	c.services[s] = struct{}{}
	if c.nc != nil {
		s.attach(c.nc)
	}
	c.mu.Unlock()
	c.confirm()
	return s, nil
}

// attach makes the service known on a new connection. c.mu is held. As with
// subscriptions, an error means that there will be another connection.
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
		QueueGroupDisabled: true, // each name is one edge
	})
	if err != nil {
		return err
	}
	s.micro = svc
	for _, e := range []struct {
		name   string
		handle micro.HandlerFunc
	}{
		{"iamat", s.whenReady(func(r micro.Request, received time.Time) {
			if answer, ok := s.cfg.IAMAT(r.Data(), received); ok {
				s.check(r, r.Respond(answer))
			} else {
				s.check(r, r.Error(refusedCode, refused, answer))
			}
		})},
		{"whatsat", s.whenReady(func(r micro.Request, received time.Time) {
			s.questions <- struct{}{}
			s.running.Go(func() {
				defer func() { <-s.questions }()
				answer, ok := s.cfg.WHATSAT(r.Data(), received)
				s.check(r, s.respondLate(r.Reply(), answer, ok))
			})
		})},
		{"status", s.handler(func(r micro.Request, _ time.Time) {
			s.check(r, r.Respond(s.cfg.Status()))
		})},
	} {
		subject := s.cfg.Prefix + ".edge." + s.cfg.Edge + "." + e.name
		if err := svc.AddEndpoint(e.name, e.handle, micro.WithEndpointSubject(subject)); err != nil {
			return fmt.Errorf("endpoint %s: %w", subject, err)
		}
	}
	return nil
}

// handler is f for as long as the service is not stopped. It notes the time of
// receipt first.
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

// whenReady is f once the edge is ready (H7): before, its clients' port is closed too.
func (s *Service) whenReady(f func(micro.Request, time.Time)) micro.HandlerFunc {
	return s.handler(func(r micro.Request, received time.Time) {
		if s.cfg.Ready != nil && !s.cfg.Ready() {
			s.check(r, r.Error(joiningCode, joining, nil))
			return
		}
		f(r, received)
	})
}

// respondLate is what micro.Request does, which is only for use within its
// handler.
func (s *Service) respondLate(reply string, answer []byte, ok bool) error {
	nc := s.c.live.Load()
	if nc == nil {
		return ErrNotConnected
	}
	m := &nats.Msg{Subject: reply, Data: answer}
	if !ok {
		m.Header = nats.Header{micro.ErrorHeader: {refused}, micro.ErrorCodeHeader: {refusedCode}}
	}
	return nc.PublishMsg(m)
}

// check logs an answer that could not be sent. One who did not want any, or a
// broker that went away, is not worth it.
func (s *Service) check(r micro.Request, err error) {
	if err != nil && r.Reply() != "" && s.c.Connected() {
		s.c.log.Warn("answer not sent", "subject", r.Subject(), "error", err)
	}
}

// Stop ends the service. It returns when no handler runs any more; requests
// that come later are not answered.
func (s *Service) Stop() {
	s.c.mu.Lock()
	delete(s.c.services, s)
	svc := s.micro
	s.c.mu.Unlock()
	if svc != nil {
		if err := svc.Stop(); err != nil && s.c.Connected() {
			s.c.log.Warn("micro service not stopped", "edge", s.cfg.Edge, "error", err)
		}
	}
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.running.Wait()
}

// semVer is semver.org's own expression.
var semVer = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
	`(-((0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?` +
	`(\+([0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*))?$`)

// semanticVersion is version where micro takes it, and else 0.0.0 with what
// can be kept of it.
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
