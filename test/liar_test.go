package test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"herd/test/herdtest"

	"github.com/nats-io/nats.go"
)

// H9: a neighbour that sends false messages costs a bounded step per heartbeat. Clients and the
// edge's other links notice nothing, and its own link recovers once it sends correct ones.
func TestANeighbourThatLiesCostsOthersNothing(t *testing.T) {
	quiet(t)
	for _, form := range []struct {
		name string
		env  map[string]string
	}{
		{"memory", map[string]string{"HERD_JOURNAL": "off"}},
		// Beside other tests a promise may take longer than on an idle machine.
		{"journal", map[string]string{"HERD_DURABILITY": "journal", "HERD_JOURNAL_TIMEOUT": size("1m", "2s")}},
	} {
		for name, lie := range lies {
			t.Run(form.name+", "+name, func(t *testing.T) {
				quiet(t)
				bearLies(t, form.env, lie)
			})
		}
	}
}

// lies are the false messages that a liar sends in place of correct ones, each 200 times per
// second.
var lies = map[string][]func(l *liar, n uint64){
	"messages beyond their head":     {(*liar).sendsBeyondHead},
	"a head that comes and goes":     {(*liar).tellsAHugeHead, (*liar).beat},
	"good-byes of the live epoch":    {(*liar).saysBye, (*liar).beat},
	"acks of what was never sent":    {(*liar).acksBeyondHead, (*liar).beat},
	"acks, each with another epoch":  {(*liar).acksWithAnotherEpoch, (*liar).beat},
	"acks of another epoch of Clark": {(*liar).acksAnotherStream, (*liar).beat},
	"all of it":                      {(*liar).sendsBeyondHead, (*liar).tellsAHugeHead, (*liar).saysBye, (*liar).acksBeyondHead, (*liar).acksWithAnotherEpoch, (*liar).acksAnotherStream, (*liar).beat},
}

// window is how many bytes of lines may be unacknowledged on a link by default (H5).
const window = 8 * 64 << 10

func bearLies(t *testing.T, env map[string]string, lie []func(*liar, uint64)) {
	heartbeat := size(200*time.Millisecond, time.Second)
	env = maps.Clone(env)
	env["HERD_HEARTBEAT"] = heartbeat.String()
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{
		Topology: "Bernard-Clark,Clark-Jaquez", Unready: []string{"Jaquez"}, Env: env, NATS: []string{"-js", "-sd", t.TempDir()},
	})
	clark, bernard := h.Edges["Clark"], h.Edges["Bernard"]
	l := newLiar(t, h, heartbeat)

	// More than a window, so that it shows if a lie makes Clark send it again.
	const clients = 20_000
	var told strings.Builder
	for i := range clients {
		fmt.Fprintf(&told, "IAMAT before-%05d %s 5\n", i, ucla)
	}
	talk(t, clark.Addr, told.String())
	link := func(metric string) float64 { return clark.Metric(metric, `neighbour="Jaquez"`) }
	herdtest.Eventually(t, herdtest.Promise(20*time.Second), "Jaquez holds what Clark does", func() error {
		if n := l.knows("before-"); n < clients {
			return fmt.Errorf("%d clients", n)
		}
		return nil
	})

	good, bare := &gauge{}, &gauge{}
	ctx, stop := context.WithCancel(t.Context())
	var talking sync.WaitGroup
	defer talking.Wait()
	defer stop()
	echo := startEcho(t)
	talking.Go(func() { good.converse(t, ctx, clark.Addr) })
	talking.Go(func() { bare.converse(t, ctx, echo) })

	for round := range size(1, 2) {
		client := func(who string) string { return fmt.Sprintf("%s-%d", who, round) }
		memory, most := clark.Memory(), int64(0)
		sent, messages := link("herd_link_sent_bytes_total"), link("herd_link_sent_messages_total")
		begun := time.Now()
		end := l.lie(lie)
		herdtest.Throughout(t, size(2*time.Second, 30*time.Second), "lies", func() error {
			most = max(most, clark.Memory())
			return nil
		})
		// Positions sent meanwhile reach the neighbour that does not lie.
		talk(t, clark.Addr, "IAMAT "+client("meanwhile")+" "+ucla+" 5\n")
		herdtest.Eventually(t, herdtest.Promise(5*time.Second), "Bernard hears of a client meanwhile", func() error {
			return known(t, bernard, client("meanwhile"))
		})
		sent, messages = link("herd_link_sent_bytes_total")-sent, link("herd_link_sent_messages_total")-messages
		took, heartbeats := time.Since(begun), float64(time.Since(begun)/heartbeat)
		said := end()
		// Per heartbeat a window may be sent again, and what good clients send once. Lies of the
		// heartbeat before may have an effect in the first one, and those of the last in the next.
		if bound := (heartbeats+2)*window + float64(good.count())*128; sent > bound {
			t.Errorf("%.1f MB of lines went to Jaquez in %v, at most %.1f are expected", sent/1e6, took, bound/1e6)
		}
		if bound := (heartbeats+2)*2*8 + float64(good.count()); messages > bound {
			t.Errorf("%v messages went to Jaquez in %v, at most %v are expected", messages, took, bound)
		}
		if grown := most - memory; grown > 64<<20 && !herdtest.RaceDetector {
			t.Errorf("Clark grew by %.1f MiB", mib(grown))
		}

		l.tell(client("true"))
		talk(t, clark.Addr, "IAMAT "+client("after")+" "+ucla+" 5\n")
		var last error // the reason that lasted longest for which edges differed
		level := herdtest.Eventually(t, herdtest.Promise(3*heartbeat+2*time.Second+time.Duration(round)*time.Minute), "all is level again", func() (err error) {
			defer func() { last = cmp.Or(err, last) }()
			for _, who := range []string{"meanwhile", "after"} {
				if l.knows(client(who)) == 0 {
					return fmt.Errorf("Jaquez does not know %s", client(who))
				}
			}
			if up := link("herd_link_up"); up != 1 {
				return fmt.Errorf("the link is %v", up)
			}
			if lag := link("herd_link_lag"); lag > 1000 { // the good client goes on
				return fmt.Errorf("Jaquez lacks %v", lag)
			}
			if err := l.isAcked(); err != nil {
				return err
			}
			for _, e := range []*herdtest.EdgeProcess{clark, bernard} {
				if err := known(t, e, client("true")); err != nil {
					return err
				}
			}
			return nil
		})
		t.Logf("round %d: %d lies in %v; %.0f messages and %.2f MB of lines went to Jaquez, Clark grew by %.1f MiB; level %v after the truth was told, because %v",
			round, said, took.Round(time.Millisecond), messages, sent/1e6, mib(most-memory), level.Round(time.Millisecond), last)
	}
	good.goesOn(t)
	stop()
	talking.Wait()
	t.Logf("%d good answers, p99 %v, slowest %v; a bare echo's %d, p99 %v, slowest %v",
		good.count(), good.quantile(99), good.quantile(100), bare.count(), bare.quantile(99), bare.quantile(100))
}

// known returns an error unless the edge holds a line of the client.
func known(t *testing.T, e *herdtest.EdgeProcess, client string) error {
	if line := lookup(t, e.Addr, client); !strings.HasPrefix(line, "AT ") {
		return fmt.Errorf("%s answers %q for %s", e.Name, line, client)
	}
	return nil
}

// A liar plays the edge Jaquez towards Clark, written from docs/PROTOCOL.md alone. Except while it
// lies it is a correct neighbour.
type liar struct {
	t         *testing.T
	nc        *nats.Conn
	epoch     string
	heartbeat time.Duration

	mu    sync.Mutex
	lying bool
	lines []string        // its own stream: revision i+1 is lines[i]
	of    string          // the epoch of Clark that it follows
	holds uint64          // through which revision of that epoch it holds Clark's stream
	heard map[string]bool // the clients that Clark has sent
	acked uint64          // through which revision Clark acknowledged this stream
}

func newLiar(t *testing.T, h *herdtest.Processes, heartbeat time.Duration) *liar {
	t.Helper()
	l := &liar{t: t, nc: operator(h), epoch: epochOf(time.Now(), 0), heartbeat: heartbeat, heard: map[string]bool{}}
	for subject, take := range map[string]nats.MsgHandler{"herd.at.Clark.Jaquez": l.receive, "herd.ack.Clark.Jaquez": l.receiveAck} {
		sub, err := l.nc.Subscribe(subject, take)
		if err == nil {
			err = sub.SetPendingLimits(-1, -1)
		}
		if err != nil {
			t.Fatalf("subscribe to %s: %v", subject, err)
		}
	}
	if err := l.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	l.every(heartbeat/2, func(uint64) {
		if !l.lies() {
			l.beat(0)
		}
	})
	return l
}

// every calls do at this interval until the test ends or end is called. end returns how often do
// was called.
func (l *liar) every(span time.Duration, do func(n uint64)) (end func() uint64) {
	ctx, stop := context.WithCancel(context.Background())
	var going sync.WaitGroup
	n := uint64(0)
	going.Go(func() {
		tick := time.NewTicker(span)
		defer tick.Stop()
		for ctx.Err() == nil {
			do(n)
			n++
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	})
	end = func() uint64 { stop(); going.Wait(); return n }
	l.t.Cleanup(func() { end() })
	return end
}

// lie sends all of these until end is called.
func (l *liar) lie(all []func(*liar, uint64)) (end func() uint64) {
	l.setLying(true)
	stop := l.every(5*time.Millisecond, func(n uint64) {
		for _, lie := range all {
			lie(l, n)
		}
	})
	return func() uint64 {
		defer l.setLying(false)
		return stop()
	}
}

func (l *liar) setLying(yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lying = yes
}

func (l *liar) lies() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lying
}

// knows returns the number of clients that Clark has sent whose ids have this prefix.
func (l *liar) knows(prefix string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for client := range l.heard {
		if strings.HasPrefix(client, prefix) {
			n++
		}
	}
	return n
}

// tell adds a client to this stream and sends it.
func (l *liar) tell(client string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, "AT Jaquez +0.000000001 "+client+" "+ucla+" "+posix(time.Now().UnixNano())+"\n")
	l.sendBehind(uint64(len(l.lines)) - 1)
}

// sendBehind sends this stream from a revision on. The caller holds l.mu.
func (l *liar) sendBehind(after uint64) {
	l.send(after, uint64(len(l.lines)), uint64(len(l.lines)), strings.Join(l.lines[after:], ""), nil)
}

func (l *liar) receive(m *nats.Msg) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lying {
		return
	}
	if epoch := m.Header.Get("Herd-Epoch"); epoch != l.of {
		l.of, l.holds = epoch, 0
	}
	if number(m, "Herd-After") > l.holds {
		l.ack(l.epoch, l.of, l.holds, true)
		return
	}
	l.holds = max(l.holds, number(m, "Herd-Through"))
	for line := range strings.Lines(string(m.Data)) {
		if fields := strings.Fields(line); len(fields) == 6 {
			l.heard[fields[3]] = true
		}
	}
	l.ack(l.epoch, l.of, l.holds, false)
}

func (l *liar) receiveAck(m *nats.Msg) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lying || m.Header.Get("Herd-Of") != l.epoch {
		return
	}
	l.acked = number(m, "Herd-Through")
	if m.Header.Get("Herd-Rewind") == "1" && l.acked < uint64(len(l.lines)) {
		l.sendBehind(l.acked)
	}
}

// isAcked returns an error unless Clark has acknowledged exactly all of this stream.
func (l *liar) isAcked() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.acked != uint64(len(l.lines)) {
		return fmt.Errorf("Clark acks %d of %d", l.acked, len(l.lines))
	}
	return nil
}

// number returns the value of a header, or 0 if it is missing.
func number(m *nats.Msg, header string) uint64 {
	n, _ := strconv.ParseUint(m.Header.Get(header), 10, 64)
	return n
}

// epochOf returns an epoch of a run that began at this time.
func epochOf(begun time.Time, random uint64) string {
	return fmt.Sprintf("%016x-%08x", begun.UnixNano(), uint32(random))
}

func (l *liar) publish(subject, payload string, headers map[string]string) {
	m := &nats.Msg{Subject: subject, Data: []byte(payload), Header: nats.Header{}}
	for name, value := range headers {
		m.Header.Set(name, value)
	}
	if err := l.nc.PublishMsg(m); err != nil && !l.nc.IsClosed() { // the test is over
		l.t.Errorf("publish on %s: %v", subject, err)
	}
}

func (l *liar) send(after, through, head uint64, lines string, more map[string]string) {
	headers := map[string]string{
		"Herd-Epoch": l.epoch, "Herd-After": fmt.Sprint(after), "Herd-Through": fmt.Sprint(through), "Herd-Head": fmt.Sprint(head),
	}
	maps.Copy(headers, more)
	l.publish("herd.at.Jaquez.Clark", lines, headers)
}

func (l *liar) ack(epoch, of string, through uint64, rewind bool) {
	headers := map[string]string{"Herd-Epoch": epoch, "Herd-Of": of, "Herd-Through": fmt.Sprint(through)}
	if rewind {
		headers["Herd-Rewind"] = "1"
	}
	l.publish("herd.ack.Jaquez.Clark", "", headers)
}

// told returns the length of this stream, and which epoch of Clark's stream it follows.
func (l *liar) told() (head uint64, of string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.lines)), l.of
}

// beat sends a correct heartbeat.
func (l *liar) beat(uint64) {
	head, _ := l.told()
	l.send(head, head, head, "", map[string]string{"Herd-Interval": l.heartbeat.String(), "Herd-Time": posix(time.Now().UnixNano()), "Herd-Level": "settled"})
}

func (l *liar) sendsBeyondHead(n uint64) {
	head, _ := l.told()
	l.send(head, head+1_000_000+n, head, fmt.Sprintf("AT Jaquez +0.000000001 lie-%d %s 5.000000000\n", n%100, ucla), nil)
}

func (l *liar) tellsAHugeHead(n uint64) {
	const huge = 1 << 62
	l.send(0, huge, huge, fmt.Sprintf("AT Jaquez +0.000000001 lie-%d %s 6.000000000\n", n%100, ucla), nil)
}

func (l *liar) saysBye(uint64) {
	head, _ := l.told()
	l.send(head, head, head, "", map[string]string{"Herd-Bye": "1"})
}

func (l *liar) acksBeyondHead(n uint64) {
	_, of := l.told()
	l.ack(l.epoch, of, 1<<62+n, n%2 == 0)
}

func (l *liar) acksWithAnotherEpoch(n uint64) {
	_, of := l.told()
	l.ack(epochOf(time.Now(), n), of, n%3, n%2 == 0)
}

func (l *liar) acksAnotherStream(n uint64) {
	l.ack(l.epoch, epochOf(time.Unix(1, 0), n), n, n%2 == 0)
}
