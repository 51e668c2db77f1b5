package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"herd/edge/admin"
	"herd/edge/overview"
)

// follow opens a stream within a bubble. It ends with stop.
func follow(t *testing.T, page *admin.Admin) (s *stream, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	s = &stream{header: http.Header{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r := httptest.NewRequest("GET", "/events", nil).WithContext(ctx)
		r.Host = "127.0.0.1"
		page.Handler().ServeHTTP(s, r)
	}()
	return s, func() { cancel(); <-done }
}

// A stream is what was written to a reader.
type stream struct {
	header http.Header
	mu     sync.Mutex
	code   int
	text   bytes.Buffer
	hold   chan struct{} // if not nil, writes wait for it
}

func (s *stream) Header() http.Header { return s.header }
func (s *stream) WriteHeader(code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code = code
}
func (s *stream) Flush() {}
func (s *stream) Write(b []byte) (int, error) {
	if s.hold != nil {
		<-s.hold
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

// messages takes what came since the last call: names and data, one after the other.
func (s *stream) messages(t *testing.T) (all [][2]string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range strings.Split(s.text.String(), "\n\n") {
		name, data, ok := strings.Cut(text, "\n")
		if ok {
			all = append(all, [2]string{strings.TrimPrefix(name, "event: "), strings.TrimPrefix(data, "data: ")})
		}
	}
	s.text.Reset()
	return all
}

func TestAStreamBeginsWithTheWholeAndGoesOnWithChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := fine("A", "B")
		o := &others{edges: map[string]*other{"B": {status: fine("B", "A", "C")}, "C": {status: fine("C", "B")}}}
		page := admin.New(admin.Config{Others: o}, own(&a))
		s, stop := follow(t, page)
		defer stop()
		time.Sleep(100 * time.Millisecond)
		all := s.messages(t)
		if len(all) != 1 || all[0][0] != "herd" || s.header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("%q, %v", all, s.header)
		}
		time.Sleep(3 * time.Second)
		all = s.messages(t)
		if len(all) != 3 {
			t.Fatalf("%q", all)
		}
		for _, m := range all { // nothing changed
			if m[0] != "change" || len(m[1]) > 60 {
				t.Errorf("%q", m)
			}
		}
		turn(func() { a.Clients = 9 })
		time.Sleep(time.Second)
		if all = s.messages(t); len(all) != 1 || !strings.Contains(all[0][1], `"numbers":{"edges":{"A":[9,`) || strings.Contains(all[0][1], `"name"`) {
			t.Errorf("%q", all)
		}
		o.set("C", func(e *other) { e.err = admin.ErrNobody })
		time.Sleep(time.Second)
		if all = s.messages(t); len(all) != 1 || !strings.Contains(all[0][1], `"state":"silent"`) || !strings.Contains(all[0][1], `"summary":`) || !strings.Contains(all[0][1], `"event":"silent"`) {
			t.Errorf("%q", all)
		}
		turn(func() { a.Topology = "A-B,B-C,C-D" })
		time.Sleep(time.Second)
		if all = s.messages(t); len(all) != 1 || all[0][0] != "herd" {
			t.Errorf("another edge: %q", all)
		}
	})
}

// Ten pages cost what one does: one look per second, and what is sent is written once.
func TestAllStreamsShareALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := fine("A", "B")
		o := &others{edges: map[string]*other{"B": {status: fine("B", "A", "C")}, "C": {status: fine("C", "B")}}}
		page := admin.New(admin.Config{Others: o}, own(&a))
		var stops []func()
		for range 10 {
			_, stop := follow(t, page)
			stops = append(stops, stop)
		}
		time.Sleep(10*time.Second + 500*time.Millisecond)
		if o.asked() != 2*11 {
			t.Errorf("asked %d times in ten seconds, want 22", o.asks)
		}
		for _, stop := range stops {
			stop()
		}
		time.Sleep(time.Hour)
		if o.asked() != 2*11 {
			t.Errorf("asked %d times when all were gone", o.asks)
		}
		again, stop := follow(t, page)
		defer stop()
		time.Sleep(1500 * time.Millisecond)
		if all := again.messages(t); len(all) != 2 || all[0][0] != "herd" {
			t.Errorf("after all were gone: %q", all)
		}
	})
}

func TestStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := fine("A")
		a.Topology = "A"
		page := admin.New(admin.Config{}, own(&a))
		var stops []func()
		for range 32 {
			_, stop := follow(t, page)
			stops = append(stops, stop)
		}
		synctest.Wait()
		s, stop := follow(t, page)
		synctest.Wait()
		if s.code != 503 || s.header.Get("Retry-After") == "" {
			t.Errorf("one too many: %d", s.code)
		}
		stop()
		stops[0]()
		s, stop = follow(t, page)
		synctest.Wait()
		if s.code != 0 {
			t.Errorf("when one has gone: %d", s.code)
		}
		stop()
		for _, stop := range stops[1:] {
			stop()
		}
	})
}

// A reader that does not read holds nobody up, and is dropped.
func TestASlowReaderIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := fine("A")
		a.Topology = "A"
		page := admin.New(admin.Config{}, own(&a))
		well, stop := follow(t, page)
		defer stop()
		slow := &stream{header: http.Header{}, hold: make(chan struct{})}
		done := make(chan struct{})
		go func() {
			defer close(done)
			r := httptest.NewRequest("GET", "/events", nil).WithContext(t.Context())
			r.Host = "127.0.0.1"
			page.Handler().ServeHTTP(slow, r)
		}()
		time.Sleep(30*time.Second + 100*time.Millisecond)
		if all := well.messages(t); len(all) != 31 {
			t.Errorf("the other got %d messages in 30 s", len(all))
		}
		close(slow.hold) // it reads on, too late
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Error("the slow reader is still there")
		}
		if n := len(slow.messages(t)); n > 10 {
			t.Errorf("%d messages were kept for it", n)
		}
	})
}

// Who applies all changes has what /status.json answers, but for numbers that are not sent yet; and
// without changes of state they are at most a KB per second, however many edges there are.
func TestChangesAddUpToTheWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 60
		o := &others{edges: map[string]*other{}}
		var links []string
		for i := range n {
			links = append(links, fmt.Sprintf("E%02d-E%02d", i, (i+1)%n), fmt.Sprintf("E%02d-E%02d", i, (i+7)%n))
		}
		topology := strings.Join(links, ",")
		for i := range n {
			var near []string
			for _, d := range []int{1, 7, n - 1, n - 7} {
				near = append(near, fmt.Sprintf("E%02d", (i+d)%n))
			}
			s := fine(fmt.Sprintf("E%02d", i), near...)
			s.Topology = topology
			o.edges[s.Edge] = &other{status: s}
		}
		a := o.edges["E00"].status
		delete(o.edges, "E00")
		page := admin.New(admin.Config{Others: o}, own(&a))
		s, stop := follow(t, page)
		defer stop()
		time.Sleep(100 * time.Millisecond)
		var have overview.Herd
		numbers := map[string][]*float64{}
		size := 0
		apply := func() {
			for _, m := range s.messages(t) {
				size += len(m[1]) + len("event: change\ndata: \n\n")
				if m[0] == "herd" {
					have = overview.Herd{}
					if err := json.Unmarshal([]byte(m[1]), &have); err != nil {
						t.Fatal(err)
					}
					continue
				}
				var c struct {
					Summary  *overview.Summary
					Sentence string
					Totals   *overview.Totals
					Edges    []overview.Edge
					Links    []overview.Link
					Numbers  struct{ Edges, Links map[string][]*float64 }
				}
				if err := json.Unmarshal([]byte(m[1]), &c); err != nil {
					t.Fatalf("%v in %s", err, m[1])
				}
				if c.Summary != nil {
					have.Summary = *c.Summary
				}
				if c.Sentence != "" {
					have.Summary.Sentence = c.Sentence
				}
				if c.Totals != nil {
					have.Totals = *c.Totals
				}
				for _, e := range c.Edges {
					for i := range have.Edges {
						if have.Edges[i].Name == e.Name {
							have.Edges[i] = e
							delete(numbers, e.Name)
						}
					}
				}
				for _, l := range c.Links {
					for i := range have.Links {
						if have.Links[i].Name() == l.Name() {
							have.Links[i] = l
						}
					}
				}
				for name, row := range c.Numbers.Edges {
					numbers[name] = row
				}
			}
		}
		apply()
		size = 0
		const seconds = 30
		for second := range seconds { // all numbers of all edges change every second
			turn(func() { a.Clients++ })
			for name := range o.edges {
				o.set(name, func(e *other) {
					e.status.Clients = second
					e.status.Connections = second * 31 % 977
					e.status.Rates = &overview.Rates{Over: 2, Updates: float64(second) * 1.2345, Questions: float64(second*second) / 7}
					e.status.Links = append([]overview.LinkStatus(nil), e.status.Links...)
					for i := range e.status.Links {
						e.status.Links[i].Lag, e.status.Links[i].SentLinesRate = uint64(second*i), float64(second)/3
					}
				})
			}
			time.Sleep(time.Second)
		}
		apply()
		if perSecond := size / seconds; perSecond > 1<<10 || perSecond < 100 {
			t.Errorf("%d bytes per second", perSecond)
		}
		// A change of state, and then quiet: all that waits is sent.
		o.set("E30", func(e *other) { e.err = admin.ErrNobody })
		time.Sleep(60 * time.Second)
		apply()
		var want overview.Herd
		_, body := ask(t, page, "GET", "/status.json")
		if err := json.Unmarshal([]byte(body), &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(have.Summary, want.Summary) {
			t.Errorf("summary\n%+v, want\n%+v", have.Summary, want.Summary)
		}
		for i := range want.Edges {
			e := &want.Edges[i]
			if !reflect.DeepEqual(have.Edges[i].Steady(), e.Steady()) {
				t.Errorf("%+v, want %+v", have.Edges[i].Steady(), e.Steady())
			}
			if e.Status == nil {
				continue
			}
			if row := numbers[e.Name]; len(row) != len(want.Columns.Edge) || *row[0] != float64(e.Status.Clients) || *row[1] != float64(e.Status.Connections) {
				t.Errorf("%s: %v", e.Name, row)
			}
		}
		for i := range want.Links {
			if !reflect.DeepEqual(have.Links[i].Steady(), want.Links[i].Steady()) {
				t.Errorf("%+v, want %+v", have.Links[i].Steady(), want.Links[i].Steady())
			}
		}
	})
}

// A stop ends streams at once.
func TestAStopDoesNotWaitForStreams(t *testing.T) {
	a := fine("A")
	a.Topology = "A"
	addr, stop := serve(t, admin.New(admin.Config{StopTimeout: time.Hour}, own(&a)))
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	r, err := client.Get("http://" + addr + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	buffer := make([]byte, 10)
	if _, err := r.Body.Read(buffer); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil { // it fails after a minute
		t.Error(err)
	}
}
