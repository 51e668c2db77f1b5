package devices

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"herd/edge/command"
	"herd/edge/wire"
)

// statuses are what requests are answered for each outcome (V4).
var statuses = [outcomes]int{
	OK: http.StatusOK, Bad: http.StatusBadRequest, Denied: http.StatusUnauthorized, Foreign: http.StatusForbidden,
	Misled: http.StatusMisdirectedRequest, Large: http.StatusRequestEntityTooLarge, Method: http.StatusMethodNotAllowed,
	Later: http.StatusServiceUnavailable,
}

// ServeHTTP answers a request. Paths are compared as they were sent: nothing is redirected.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(connKey{}).(*conn)
	s.cfg.Gate.Touch(&c.entry)
	if r.ContentLength != 0 {
		c.reading.Store(true) // by us or, where it is refused, by net/http
	}
	if rec := s.cfg.Lines.Recorder; rec != nil && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 && !c.shown.Swap(true) {
		rec.Certified(time.Now(), c.remote, r.TLS.PeerCertificates[0].Subject.String())
	}
	h := w.Header()
	h["Cache-Control"], h["Referrer-Policy"], h["X-Content-Type-Options"] = noStore, noReferrer, noSniff

	path, sent, has := cutPath(r.URL)
	follow := path == "/lines"
	get := r.Method == http.MethodGet
	page := (get || r.Method == http.MethodHead) && (path == "/" && r.URL.RawQuery == "" || strings.HasPrefix(path, "/page/"))
	app := Unknown
	switch {
	case follow:
		app = Lines
	case page:
		app = Page
	}
	switch {
	case !s.answersTo(r.Host):
		s.refuse(w, r, c, Unknown, Misled)
	case follow && !s.mayFollow(r):
		s.refuse(w, r, c, Lines, Foreign)
	case !follow && (foreign(r) || get && !page && fromBrowser(r) && !s.knows(r, has)):
		s.refuse(w, r, c, Unknown, Foreign)
	case !page && !get && (follow || r.Method != http.MethodPost && r.Method != http.MethodPut && r.Method != http.MethodPatch):
		h.Set("Allow", "GET, POST, PUT, PATCH")
		s.refuse(w, r, c, Unknown, Method)
	case s.state.Load() != opened:
		s.refuse(w, r, c, app, Later)
	default:
		who, outcome := s.identify(r, c, sent, has)
		switch {
		case outcome == Denied:
			s.refuse(w, r, c, Unknown, Denied)
		case outcome != OK:
			s.refuse(w, r, c, app, outcome)
		case follow:
			s.follow(w, r, c, who)
		case page:
			s.note(r, c, Page, OK)
			s.cfg.Page.ServeHTTP(w, withPath(r, path))
		default:
			s.take(w, r, c, who)
		}
	}
}

var noStore, noReferrer, noSniff = []string{"no-store"}, []string{"no-referrer"}, []string{"nosniff"}

// withPath is a request as a page sees it: without credentials.
func withPath(r *http.Request, raw string) *http.Request {
	clean := r.Clone(r.Context())
	clean.URL.RawPath, clean.URL.Path = raw, string(unescapePath(raw))
	clean.RequestURI = raw
	clean.Header.Del("Authorization")
	return clean
}

// noPage answers for people on a port that has no page: it says what the port is for.
func noPage(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if r.URL.Path != "/" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_, _ = io.WriteString(w, "This port of an edge of the herd takes positions from apps such as OwnTracks, Traccar Client,\n"+
		"OsmAnd, GPSLogger and Overland, and serves the line protocol to WebSockets on /lines.\n")
}

// refuse answers a request that is not served.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, c *conn, app App, why Outcome) {
	s.note(r, c, app, why)
	h := w.Header()
	switch why {
	case Denied:
		h.Set("WWW-Authenticate", `Basic realm="herd", charset="UTF-8"`)
	case Later:
		h.Set("Retry-After", retryAfter)
		if s.state.Load() == stopping {
			h.Set("Connection", "close")
			_ = c.SetReadDeadline(longAgo) // what is left of the body is not waited for
		}
	case Large:
		h.Set("Connection", "close")
	}
	w.WriteHeader(statuses[why])
}

// note counts a request, and writes it down (C20): not what was sent, which may have a password in it
// anywhere.
func (s *Server) note(r *http.Request, c *conn, app App, outcome Outcome) {
	s.count.requests[app][outcome].Add(1)
	if rec := s.cfg.Lines.Recorder; rec != nil {
		rec.In(time.Now(), c.remote, []byte("HTTP "+methodOf(r)+" "+app.String()+" "+outcome.String()+"\n"))
	}
}

// methodOf is a request's method; one that is none of HTTP's is not written down.
func methodOf(r *http.Request) string {
	switch r.Method {
	case "GET", "POST", "PUT", "PATCH", "HEAD", "OPTIONS", "DELETE":
		return r.Method
	}
	return "?"
}

// take takes the positions of a request (V3, V4).
func (s *Server) take(w http.ResponseWriter, r *http.Request, c *conn, who identity) {
	in := input{get: r.Method == http.MethodGet, query: []byte(r.URL.RawQuery)}
	if who.user != "" {
		in.authenticated = []byte(who.user)
	}
	if r.ContentLength != 0 {
		ctx, cancel := context.WithTimeout(r.Context(), bodyTimeout)
		body, done, err := s.body(ctx, r, c)
		cancel()
		defer done()
		if err != nil {
			s.refuse(w, r, c, Unknown, s.whyNoBody(r, err))
			return
		}
		in.body = body
		c.reading.Store(false)
	}
	if h := r.Header; len(h["X-Limit-U"])+len(h["X-Limit-D"]) > 0 {
		in.user, in.device = []byte(h.Get("X-Limit-U")), []byte(h.Get("X-Limit-D"))
	}
	received := time.Now() // C10
	rep := s.reports.Get().(*report)
	defer s.putBack(rep)
	if !rep.parse(&in, s.cfg.Wall(received)) {
		s.refuse(w, r, c, Unknown, Bad)
		return
	}
	if rep.size([]byte(who.user)) > maxCommands {
		s.refuse(w, r, c, Unknown, Large)
		return
	}
	outcome := s.store(r, c, who, rep, received)
	switch {
	case outcome == Gone:
		s.note(r, c, rep.app, Gone)
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusServiceUnavailable) // nobody hears it
	case outcome != OK:
		s.refuse(w, r, c, rep.app, outcome)
	default:
		s.note(r, c, rep.app, OK)
		body, kind := rep.app.body()
		if kind != "" {
			w.Header().Set("Content-Type", kind)
		}
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, body)
	}
}

// putBack keeps a report's room for another, unless it is much.
func (s *Server) putBack(rep *report) {
	const much = 64 << 10
	text, positions := rep.text, rep.positions
	*rep = report{}
	if cap(text) <= much && cap(positions) <= much/16 {
		rep.text, rep.positions = text[:0], positions[:0]
	}
	s.reports.Put(rep)
}

// body reads what a request brings, until the edge stops. Its time is over with its last byte: net/http
// lifts the deadline then, so what comes later, such as the journal, has its own.
func (s *Server) body(ctx context.Context, r *http.Request, c *conn) ([]byte, func(), error) {
	_ = c.SetReadDeadline(time.Now().Add(bodyTimeout))
	if s.state.Load() == stopping { // after the deadline, which may have undone stop's
		return nil, func() {}, errStopping
	}
	return s.bodies.read(ctx, r, c.entry.Address())
}

var errStopping = errors.New("the edge stops")

// whyNoBody says how a request goes whose body could not be read.
func (s *Server) whyNoBody(r *http.Request, err error) Outcome {
	_, packed := errors.AsType[*http.MaxBytesError](err)
	switch {
	case packed, errors.Is(err, errLarge):
		return Large
	case errors.Is(err, errEncoding):
		return Bad
	case errors.Is(err, errStopping), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, errFull):
		return Later
	case r.Context().Err() != nil:
		return Later // nobody hears it
	}
	return Bad
}

// store stores a report's positions, and says how the request is to be answered.
func (s *Server) store(r *http.Request, c *conn, who identity, rep *report, received time.Time) Outcome {
	all, nameless, invalid := rep.iamats([]byte(who.user))
	count := &s.count.positions[rep.app]
	count[Invalid].Add(uint64(rep.invalid + invalid))
	if rep.encrypted {
		count[Secret].Add(1)
		s.log.Debug("encrypted position, which nobody here can read", "user", who.user)
	}
	if nameless > 0 {
		count[Nameless].Add(uint64(nameless))
		s.logNameless(who.user)
	}
	if len(all) == 0 {
		return OK
	}
	if rec := s.cfg.Lines.Recorder; rec != nil {
		rec.In(received, c.remote, appendCommands(nil, all))
	}
	caller := c.callerOf(who)
	reports := caller.Report(received, all...)
	var promised error
	if reports.Waits() {
		if promised = s.await(r, c, reports, len(rep.text)); errors.Is(promised, command.ErrNever) && len(all) > 1 {
			// One spoils the promise of all: each for itself, which are answered by C11 now.
			return s.storeEach(r, c, caller, received, all, count)
		}
	}
	return s.settle(r, c, reports, promised, all, count)
}

// await waits for the promise of D3.
func (s *Server) await(r *http.Request, c *conn, reports *command.Reports, size int) error {
	if s.cfg.Gate.Share() < size {
		return errFull // C18
	}
	s.cfg.Gate.Owe(size)
	c.entry.Waits(1)
	defer func() {
		s.cfg.Gate.Owe(-size)
		c.entry.Waits(-1)
	}()
	return reports.Await(r.Context())
}

// storeEach stores positions one by one, until one is not promised in time: the request comes again
// then, and those behind would wait as long, each.
func (s *Server) storeEach(r *http.Request, c *conn, caller *command.Caller, received time.Time, all []wire.IAMAT, count *[outcomes]countOf) Outcome {
	worst := OK
	for i := range all {
		reports := caller.Report(received, all[i])
		promised := s.await(r, c, reports, len(all[i].Client))
		outcome := s.settle(r, c, reports, promised, all[i:i+1], count)
		if promised != nil && !errors.Is(promised, command.ErrNever) {
			return outcome
		}
		if outcome != OK && worst != Denied {
			worst = outcome
		}
	}
	return worst
}

// settle counts and writes down how positions went, and says how the request is answered: as the
// one that could be kept later, if there is one (V4).
func (s *Server) settle(r *http.Request, c *conn, reports *command.Reports, promised error, all []wire.IAMAT, count *[outcomes]countOf) Outcome {
	answer := OK
	var said []byte
	for i := range reports.Each {
		outcome := outcomeOf(reports.Each[i].Outcome)
		if promised != nil && reports.Each[i].Line != nil {
			outcome = whyUnkept(r, promised)
		}
		count[outcome].Add(1)
		switch outcome {
		case Full, Unkept:
			if answer == OK {
				answer = Later
			}
		case Denied:
			answer = Denied
		case Gone:
			return Gone
		}
		if s.cfg.Lines.Recorder == nil {
			continue
		}
		if outcome == OK || outcome == Older || outcome == Expired {
			said = append(said, reports.Each[i].Line...)
		} else {
			said = append(append(said, "? "...), appendCommands(nil, all[i:i+1])...)
		}
	}
	if rec := s.cfg.Lines.Recorder; rec != nil {
		rec.Out(time.Now(), c.remote, said)
	}
	return answer
}

// outcomeOf is a command's outcome in this package's words.
func outcomeOf(o command.Outcome) Outcome {
	switch o {
	case command.OK:
		return OK
	case command.Older:
		return Older
	case command.Expired:
		return Expired
	case command.Full:
		return Full
	case command.Forbidden:
		return Denied
	}
	return Invalid
}

// whyUnkept is why there is no promise.
func whyUnkept(r *http.Request, promised error) Outcome {
	switch {
	case errors.Is(promised, command.ErrNever):
		return Never
	case r.Context().Err() != nil:
		return Gone
	}
	return Unkept
}

// appendCommands appends positions as the commands that they stand for.
func appendCommands(dst []byte, all []wire.IAMAT) []byte {
	for i := range all {
		m := &all[i]
		dst = append(append(dst, "IAMAT "...), m.Client...)
		dst = append(append(dst, ' '), m.Location...)
		dst = append(append(append(dst, ' '), m.Time...), '\n')
	}
	return dst
}

// logNameless logs that a device of a user has no id, once per user (V6).
func (s *Server) logNameless(user string) {
	const most = 1024 // users who are remembered for it
	s.mu.Lock()
	_, told := s.nameless[user]
	if told = told || len(s.nameless) >= most; !told {
		s.nameless[user] = struct{}{}
	}
	s.mu.Unlock()
	if !told {
		s.log.Warn("positions of a device whose id is empty or longer than 1024 bytes are not taken", "user", user)
	}
}
