package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"herd/broker"
	"herd/edge"
	"herd/edge/config"
	"herd/edge/journal"
	"herd/edge/journal/storetest"
	"herd/places"
	"herd/test/herdtest"
)

// A world is a herd, its broker, its clients and whoever does harm, in one bubble of
// testing/synctest. One goroutine, that of the test, calls all but post and what conns call.
type world struct {
	t     *testing.T
	plan  *Plan
	ctx   context.Context
	begun time.Time
	trace *trace
	log   io.Writer // of edges; nil: none
	net   network

	mu     sync.Mutex
	outbox []*item
	posted chan struct{}

	finder  *places.Finder
	sites   map[string]*site
	runs    []*run              // all that ever were
	away    bool                // the broker
	resumed time.Time           // when a stall last ended
	over    bool                // the noise
	joins   map[string][]string // by either topology

	payload  atomic.Int64 // max_payload; edges ask for it
	narrowed atomic.Int64 // when it was last made less, in Unix nanoseconds

	tracks   map[int]*herdtest.Track
	stamps   map[string]time.Time // by what was sent
	promises []promise
	told     int
	carried  int // messages and acks that came
	lines    int // in these messages

	wrong string
}

// A site is a name: its bucket and its clock outlive its runs.
type site struct {
	name      string
	cfgs      [2]config.Config // by topology
	topology  int
	store     *storetest.Fake
	skew      atomic.Int64
	runs      []*run    // that live, oldest first
	fragile   bool      // its bucket lost what was promised, and was not written anew yet
	harmed    time.Time // when
	lost      time.Time // when its bucket last lost more than what a write or a removal by an operator takes
	disturbed time.Time // when something was last done to it
	unfit     time.Time // since when its bucket may drop what it acknowledged; zero: it may not
	limited   time.Time // since when its bucket has a limit; zero: it has none
	limits    int       // that it ever had
	strange   bool      // its bucket has an entry or a marker of a client that nobody keeps
}

// Wall is the site's clock: an edge.Clock.
func (s *site) Wall(moment time.Time) int64 { return moment.UnixNano() + s.skew.Load() }

// A run is one run of an edge.
type run struct {
	site     *site
	name     string
	number   int
	edge     *edge.Edge
	conn     *conn
	store    *storetest.Client
	stop     context.CancelFunc
	done     chan struct{}
	spoils   atomic.Int64         // until when its messages to neighbours begin with what is no line, in Unix nanoseconds
	claims   time.Time            // when it last claimed its name
	claimed  time.Time            // when it heard an earlier claim of its name; zero: it has answered
	dead     bool                 // as the world sees it
	stops    bool                 // it was told to
	stopped  time.Time            // when
	loses    map[string]time.Time // until when what it sends neighbours is lost, by kind: at, ack
	owing    map[int]string       // what it held then, by client
	begun    time.Time
	links    []string          // by its topology
	accepted map[int]time.Time // effective times of what it accepted, by client
	stalled  bool
	muted    bool // its connection is dead, and it has not seen that
	faults   func(string) storetest.Fault
	held     []*item  // that it sent while stalled
	queue    []func() // that came meanwhile
	posted   map[string]uint64
	sending  map[string]*sending
	seen     map[int]string // what it was last seen to hold, by client
	door     *door
	watcher  *watcher // nil: none
}

// owns says whether a client is one of the run's own (D1): it accepted what is not forgotten.
func (r *run) owns(client int, retain time.Duration) bool {
	effective, ok := r.accepted[client]
	return ok && (retain == 0 || time.Since(effective) < retain-5*time.Second)
}

// has says whether a run has a link to another edge.
func (r *run) has(other string) bool { return slices.Contains(r.links, other) }

// lose has what the run sends neighbours be lost for a while: its messages (at), or its acks (ack).
func (r *run) lose(kind string, d time.Duration) { r.loses[kind] = time.Now().Add(d) }

// losing says whether what the run sends on a subject is lost.
func (r *run) losing(subject string) bool {
	for kind, until := range r.loses {
		if strings.HasPrefix(subject, "herd."+kind+".") && time.Now().Before(until) {
			return true
		}
	}
	return false
}

// spoiling says whether the run's messages begin with what is no line.
func (r *run) spoiling() bool { return time.Now().UnixNano() < r.spoils.Load() }

func (r *run) index() int {
	if r == nil {
		return -1
	}
	return r.number
}

// A promise is an answer that has to be kept.
type promise struct {
	client  int
	line    string
	at      time.Time
	run     *run
	journal bool // by HERD_DURABILITY=journal
}

// source is a random source as bytes.
type source struct{ *rand.Rand }

func (s source) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(s.Uint32())
	}
	return len(p), nil
}

func newWorld(t *testing.T, p *Plan, finder *places.Finder, out, log io.Writer) *world {
	w := &world{t: t, plan: p, ctx: t.Context(), begun: time.Now(), finder: finder, log: log,
		posted: make(chan struct{}, 1), sites: map[string]*site{}, joins: map[string][]string{}, tracks: map[int]*herdtest.Track{}, stamps: map[string]time.Time{}}
	w.trace = newTrace(w.begun, out)
	w.net = network{w: w, moments: map[int64]bool{}, streams: map[string]*rand.Rand{}, last: map[stream]time.Time{}, cut: map[[2]string]bool{}, mended: map[[2]string]time.Time{}}
	w.payload.Store(int64(p.MaxPayload))
	for _, l := range slices.Concat(p.Links, p.Next) {
		if !slices.Contains(w.joins[l[0]], l[1]) {
			w.joins[l[0]] = append(w.joins[l[0]], l[1])
			w.joins[l[1]] = append(w.joins[l[1]], l[0])
		}
	}
	for _, name := range p.Names {
		s := &site{name: name, store: storetest.NewFake(), disturbed: w.begun}
		s.store.Cost(p.StoreTrip, p.StoreCost)
		s.store.Lag(p.StoreLag)
		for i, links := range [][][2]string{p.Links, p.last()} {
			s.cfgs[i] = configOf(t, p, name, links)
		}
		w.sites[name] = s
	}
	return w
}

// configOf is the configuration of a site by one topology.
func configOf(t *testing.T, p *Plan, name string, links [][2]string) config.Config {
	env := []string{"HERD_EDGE=" + name, "HERD_TOPOLOGY=" + topology(links), "HERD_HTTP=", "HERD_PLACES=gazetteer",
		fmt.Sprint("HERD_LINK_WINDOW=", p.Window), fmt.Sprint("HERD_LINK_GAP=", p.Gap), fmt.Sprint("HERD_HEARTBEAT=", p.Heartbeat),
		"HERD_JOURNAL=" + p.Journal, fmt.Sprint("HERD_JOURNAL_TIMEOUT=", p.JournalTimeout), fmt.Sprint("HERD_RETAIN=", p.Retain)}
	if p.Promise {
		env = append(env, "HERD_DURABILITY=journal")
	}
	cfg, _, err := config.FromEnvironment(env)
	if err != nil {
		t.Fatalf("seed %d: %v", p.Seed, err)
	}
	return cfg
}

// failf notes what is wrong: the first of it.
func (w *world) failf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wrong == "" {
		w.wrong = fmt.Sprintf("%.3f s: ", time.Since(w.begun).Seconds()) + strings.ReplaceAll(fmt.Sprintf(format, args...), longName, "x…")
	}
}

// start begins a run of a site.
func (w *world) start(s *site) {
	r := &run{site: s, name: s.name, number: len(w.runs), begun: time.Now(), store: s.store.Client(), done: make(chan struct{}),
		posted: map[string]uint64{}, sending: map[string]*sending{}, seen: map[int]string{}, accepted: map[int]time.Time{}, loses: map[string]time.Time{}}
	r.door = newDoor()
	r.conn = &conn{w: w, r: r, up: make(chan struct{}), subs: map[string]func(*question){}}
	if w.plan.Faults > 0 && !w.over {
		faults := rand.New(rand.NewPCG(w.plan.Seed, uint64(r.number)))
		r.faults = func(string) storetest.Fault {
			if faults.Float64() >= w.plan.Faults {
				return storetest.OK
			}
			return storetest.Fault(faults.IntN(6))
		}
		r.store.Faults(r.faults)
	}
	r.store.Cut()
	log := slog.New(slog.DiscardHandler)
	if w.log != nil {
		log = slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})).With("run", r.number)
	}
	e, err := edge.New(s.cfgs[s.topology], edge.Shared{
		Log: log, Clock: s, Finder: w.finder, Listener: r.door,
		Random: source{rand.New(rand.NewPCG(w.plan.Seed, 1<<32+uint64(r.number)))},
		Dial:   r.conn.dial,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	r.edge = e
	r.links = s.cfgs[s.topology].Topology.Neighbours(s.name)
	w.disturb(s)
	ctx, stop := context.WithCancel(w.ctx)
	r.stop = stop
	w.runs = append(w.runs, r)
	s.runs = append(s.runs, r)
	w.trace.note("start %s as run %d", s.name, r.number)
	go func() {
		defer close(r.done)
		err := e.Run(ctx)
		w.post(&item{from: r, subject: "ended", local: true, do: func() { w.ended(r, err) }})
	}()
	w.after(time.Millisecond, func() { w.connect(r) })
	if w.plan.Watch {
		w.watch(r)
	}
}

// disturb notes that something was done to a site.
func (w *world) disturb(s *site) { s.disturbed = time.Now() }

// tellStop is SIGTERM.
func (w *world) tellStop(r *run) {
	if !r.stops {
		r.stops, r.stopped, r.owing = true, time.Now(), map[int]string{}
		for _, client := range slices.Sorted(maps.Keys(w.tracks)) {
			r.owing[client], _ = w.held(r, client)
		}
		w.disturb(r.site)
		r.stop()
	}
}

// after has the world do something later.
func (w *world) after(d time.Duration, do func()) {
	w.net.put(&item{do: do}, time.Now().Add(d))
}

func (w *world) connect(r *run) {
	if r.dead || w.away || r.conn.connected() {
		return
	}
	w.trace.note("connect run %d", r.number)
	w.disturb(r.site)
	r.store.Mend()
	r.conn.connect()
	w.checkClaims(r)
}

// drop loses a run's connection, with the tail of what it sent, and makes it anew after a while.
func (w *world) drop(r *run, d time.Duration) {
	if r.dead || !r.conn.connected() {
		return
	}
	w.trace.note("drop run %d", r.number)
	w.disturb(r.site)
	w.loseTail(r)
	w.unmute(r)
	r.store.Cut()
	r.conn.lose()
	w.after(d, func() { w.connect(r) })
}

// mute has a run's connection bring nothing any more, either way. Only another connection does.
func (w *world) mute(r *run) {
	w.trace.note("mute run %d", r.number)
	w.disturb(r.site)
	r.muted = true
	r.store.Faults(func(string) storetest.Fault { return storetest.Hang })
}

func (w *world) unmute(r *run) {
	if r.muted {
		r.muted = false
		r.store.Faults(r.faults)
	}
}

// loseTail takes off what a run sent last and is on its way to the broker.
func (w *world) loseTail(r *run) {
	since := time.Now().Add(-time.Duration(w.net.random("tail " + r.name).Int64N(int64(w.plan.Delay))))
	for _, x := range w.net.way {
		if x.from == r && !x.local && x.sent.After(since) {
			x.lost = true
		}
	}
}

// kill ends a run at once: what it does from now on nobody sees.
func (w *world) kill(r *run) {
	if r.dead {
		return
	}
	w.trace.note("kill run %d", r.number)
	w.loseTail(r)
	w.bury(r)
	r.store.Cut()
	r.store.Thaw()
	r.conn.Close()
	r.stop()
}

func (w *world) bury(r *run) {
	r.dead = true
	w.disturb(r.site)
	r.held, r.queue = nil, nil
	r.site.runs = slices.DeleteFunc(slices.Clone(r.site.runs), func(x *run) bool { return x == r })
}

// ended is told when a run's Run has returned.
func (w *world) ended(r *run, err error) {
	if r.dead {
		return
	}
	w.trace.note("run %d ended: %v", r.number, err)
	w.checkHandedOver(r, err)
	w.bury(r)
	r.conn.Close()
	if err != nil && !r.stops && !strings.Contains(err.Error(), "another run has this edge's name") {
		w.failf("C19 run %d of %s ended: %v", r.number, r.name, err)
	}
}

// stall holds back all that a run sends and is sent. It goes by its timers, which one that is
// stopped by a signal does not.
func (w *world) stall(r *run, d time.Duration) {
	if r.stalled {
		return
	}
	w.trace.note("stall run %d", r.number)
	w.disturb(r.site)
	r.stalled = true
	r.store.Freeze()
	w.after(d, func() { w.resume(r) })
}

func (w *world) resume(r *run) {
	if !r.stalled || r.dead {
		return
	}
	w.trace.note("resume run %d", r.number)
	w.disturb(r.site)
	w.resumed = time.Now()
	r.stalled = false
	r.store.Thaw()
	queue, held := r.queue, r.held
	r.queue, r.held = nil, nil
	for i, do := range queue {
		w.after(time.Duration(i+1)*time.Microsecond, func() {
			if !r.dead {
				do()
			}
		})
	}
	for _, x := range held {
		w.net.carry(x)
	}
}

// deliver hands over what was published on a subject, <prefix>.<kind>.<from>.<to>, and says
// whether anybody is subscribed to it.
func (w *world) deliver(from *run, subject string, q *question) (heard bool) {
	f := strings.Split(subject, ".")
	kind, a, b := f[1], f[2], f[3]
	if a != b && w.net.isCut(a, b) {
		return true // nobody says that nobody is there: it is beyond a leaf node
	}
	for _, r := range w.sites[b].runs {
		if r == from || r.conn.subscribed(subject) == nil {
			continue
		}
		heard = true
		if r.muted {
			continue
		}
		if r.stalled {
			if len(r.queue) < 4096 {
				r.queue = append(r.queue, func() { w.hand(r, kind, subject, q) })
			}
			continue
		}
		w.hand(r, kind, subject, q)
	}
	return heard
}

func (w *world) hand(r *run, kind, subject string, q *question) {
	f := r.conn.subscribed(subject)
	if f == nil {
		return
	}
	own := *q
	switch {
	case q.message != nil:
		m := q.message
		w.trace.note("%s to run %d: %s %s %d..%d of %d %v %v %d %q", subject, r.number, m.Epoch, m.To, m.After, m.Through, m.Head, m.Interval, m.Bye, m.Level, m.Lines)
		w.carried++
		w.lines += bytes.Count(m.Lines, []byte("\n"))
		w.checkHeard(r, strings.Split(subject, ".")[2], m)
	case q.ack != nil:
		w.trace.note("%s to run %d: %+v", subject, r.number, *q.ack)
		w.checkAck(r, strings.Split(subject, ".")[2], q.ack)
		w.carried++
	default:
		w.trace.note("%s to run %d: %q", subject, r.number, q.text)
		if f := strings.Split(subject, "."); f[2] == f[3] && q.answer == nil {
			w.checkClaim(r, q.text)
		}
	}
	if q.answer != nil { // an answer is the run's, and may be late
		own.answer = func(a any) {
			w.post(&item{from: r, subject: "answer " + subject, do: func() { q.answer(a) }})
		}
	}
	f(&own)
}

// answer has what a run waits for come to it.
func (w *world) answer(r *run, subject string, to chan any, a any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.postLocked(&item{subject: subject, do: func() {
		if r.muted {
			return
		}
		if r.stalled {
			r.queue = append(r.queue, func() { offer(to, a) })
			return
		}
		offer(to, a)
	}})
}

func offer(to chan any, a any) {
	select {
	case to <- a:
	default: // one came before
	}
}

// The clients.

// keyOf is a client's key in a bucket, which an operator can find.
func keyOf(n int) string { return string(journal.AppendKey(nil, []byte(clientName(n)))) }

// clientOf is the number of the client of an AT line.
func clientOf(line string) (n int) {
	if f := strings.Fields(line); len(f) > 3 {
		_, _ = fmt.Sscanf(f[3], "c%d", &n)
	}
	return n
}

const (
	longNames = 80  // clients from here on have names that need much of a message
	crowds    = 100 // … and from here on there are many
)

var longName = strings.Repeat("x", 250)

func clientName(n int) string {
	if n >= longNames && n < longNames+10 {
		return fmt.Sprintf("c%02d%s", n, strings.Repeat(longName, 1+3*(n-longNames)))
	}
	return fmt.Sprintf("c%02d", n)
}

// tell has a client tell where it is.
func (w *world) tell(s *site, client int, stamp time.Time, place int) {
	r := w.serving(s)
	if r == nil {
		return
	}
	ns := stamp.UnixNano()
	text := fmt.Sprintf("%s +%d+1 %d.%09d", clientName(client), place%90, ns/1e9, ns%1e9)
	w.stamps[text] = stamp
	w.send(r, client, text)
}

// corrected is what a client told, with its time and from another place on the same meridian.
func (w *world) corrected(text string) string {
	f, was := strings.Fields(text), 0
	_, _ = fmt.Sscanf(f[1], "+%d+1", &was)
	other := fmt.Sprintf("%s +%d+1 %s", f[0], (was+1+w.told%80)%90, f[2])
	w.stamps[other] = w.stamps[text]
	return other
}

// serving is a run of a site that serves clients.
func (w *world) serving(s *site) *run {
	for i := range s.runs {
		r := s.runs[(i+w.told)%len(s.runs)]
		if e := r.conn.endpoints(); e != nil && !r.stalled && !r.stops && r.conn.connected() && e.Joining() == "" {
			return r
		}
	}
	return nil
}

func (w *world) send(r *run, client int, text string) {
	w.told++
	tr := w.tracks[client]
	if tr == nil {
		tr = &herdtest.Track{ID: clientName(client)}
		w.tracks[client] = tr
	}
	now := time.Now()
	if stamp, known := w.stamps[text]; known && stamp.Sub(now) > time.Minute && r.site.skew.Load() > int64(50*time.Minute) {
		return // by H9 others would put it off for hours
	}
	// A repetition counts as received when its position was first sent (C11), by the clock of the
	// edge that it was sent to, as far as that is slow.
	at := now.Add(time.Duration(min(r.site.skew.Load(), 0)))
	if n := slices.IndexFunc(tr.Sent, func(u herdtest.Update) bool { return u.Text == text }); n < 0 {
		tr.Sent = append(tr.Sent, herdtest.Update{Text: text, At: at})
	} else if at.Before(tr.Sent[n].At) {
		tr.Sent[n].At = at
	}
	w.trace.note("told run %d: %s", r.number, text)
	reply := r.conn.endpoints().IAMAT([]byte(text), now)
	if reply.Later == nil {
		w.answered(r, client, reply, w.atOnce(r, client, reply))
		return
	}
	// A subject of its own: answers that several goroutines give at one moment have no order.
	subject := fmt.Sprintf("later %s %d", clientName(client), w.told)
	r.conn.running.Go(func() {
		reply := reply.Later()
		at := time.Now()
		w.post(&item{from: r, subject: subject, do: func() {
			if !r.dead {
				w.checkInTime(r, at)
				w.answered(r, client, reply, w.plan.Promise)
			}
		}})
	})
}

func (w *world) answered(r *run, client int, reply broker.Reply, journal bool) {
	line := string(bytes.TrimSuffix(reply.Answer, []byte("\n")))
	w.trace.note("run %d answers: %s", r.number, line)
	if reply.Refused {
		w.checkRefusal(r, client)
		return
	}
	if effective, err := herdtest.Effective(line); err == nil && effective.After(r.accepted[client]) {
		r.accepted[client] = effective
	}
	if journal {
		w.checkPromise(r, line)
	}
	w.promises = append(w.promises, promise{client, line, time.Now(), r, journal})
}

// holds is what a run holds of a client; "" is nothing.
func (w *world) holds(r *run, client int) (line string, ok bool) {
	return ask(r.conn.endpoints(), client)
}

// held is holds for a run that has ended.
func (w *world) held(r *run, client int) (line string, ok bool) {
	return ask(r.conn.ever(), client)
}

func ask(e *broker.ServiceConfig, client int) (line string, ok bool) {
	if e == nil {
		return "", false
	}
	reply := e.WHATSAT([]byte(clientName(client)+" 0 0"), time.Now())
	if reply.Refused {
		return "", true
	}
	head, _, _ := bytes.Cut(reply.Answer, []byte("\n"))
	return string(head), true
}

// The kinds of lies: how many there are, and some of them.
const (
	lies     = 12
	lieOrder = 2 // beyond its head
	lieBeat  = 4 // a heartbeat
	lieBye   = 5 // a good-bye
)

// lie has a run of an edge hear what no true neighbour says (H9).
func (w *world) lie(o *Op) {
	of, by := w.sites[o.With].runs, w.sites[o.Of].runs
	if len(of) == 0 || len(by) == 0 {
		return
	}
	r := rand.New(rand.NewPCG(w.plan.Seed, uint64(o.Number)))
	us, them := by[0].epoch(), of[0].epoch()
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(w.begun.UnixNano())+r.Uint64N(uint64(time.Hour)))
	other := fmt.Sprintf("%x-00000000", b)
	head := by[0].edge.Status().Revision
	few := r.Uint64N(head + 2)
	q := &question{}
	switch o.Number / 2 % lies {
	case 0:
		q.message = &broker.Message{Epoch: us, Through: 1<<64 - 1, Head: 1<<64 - 1}
	case 1:
		q.message = &broker.Message{Epoch: us, Through: head + 1000, Head: head + 1000}
	case lieOrder:
		q.message = &broker.Message{Epoch: us, Through: head + 1000, Head: head}
	case 3:
		q.message = &broker.Message{Epoch: us, After: few, Through: few / 2, Head: head}
	case lieBeat:
		q.message = &broker.Message{Epoch: us, After: few / 2, Through: few / 2, Head: few / 2, Interval: 24 * time.Hour}
	case lieBye:
		q.message = &broker.Message{Epoch: us, Head: head, Bye: true}
	case 6:
		q.message = &broker.Message{Epoch: other, After: few, Through: few, Head: 1 << 60, Interval: pick(r, 10*time.Millisecond, 24*time.Hour)}
	case 7:
		q.ack = &broker.Ack{Epoch: us, Of: them, Through: few, Rewind: true}
	case 8:
		q.ack = &broker.Ack{Epoch: us, Of: them, Through: 1 << 63}
	case 9:
		q.ack = &broker.Ack{Epoch: us, Of: them, Through: few}
	case 10:
		q.ack = &broker.Ack{Epoch: us, Of: other, Through: few, Rewind: true}
	case 11:
		q.ack = &broker.Ack{Epoch: other, Of: them, Through: few, Rewind: r.IntN(2) == 0}
	}
	kind := "at"
	if q.ack != nil {
		kind = "ack"
	}
	subject := "herd." + kind + "." + o.Of + "." + o.With
	w.after(time.Millisecond, func() { w.deliver(nil, subject, q) })
}

func (r *run) epoch() string { return r.edge.Status().Epoch }
