package admin_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"herd/edge/admin"
	"herd/edge/overview"
)

// looking is the page of the herd A-B,B-C, whose edges answer questions about clients.
func looking(shows overview.Switch) (*admin.Admin, *others) {
	a := fine("A", "B")
	o := &others{edges: map[string]*other{}}
	for _, name := range []string{"B", "C"} {
		o.edges[name] = &other{status: fine(name, "B"), answers: map[string]string{"client": `{"edge":"` + name + `","known":true}`, "cells": `{"edge":"` + name + `","box":"$"}`, "whatsat": "AT " + name + " $\n"}}
	}
	source := own(&a)
	source.Ask = func(ctx context.Context, endpoint string, payload []byte) ([]byte, error) {
		return []byte(`{"edge":"A","` + endpoint + `":"` + string(payload) + `"}`), nil
	}
	return admin.New(admin.Config{Name: "A", Others: o, Map: shows}, source), o
}

var shown1 = overview.Switch{On: true}

func TestTheMapAsksOneEdgeForAllWhoLookAtTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		page, _ := looking(shown1)
		for range 2 {
			answer, body := ask(t, page, "GET", "/map.json?box=-90,170.5,90,-170")
			if answer.StatusCode != 200 || body != `{"edge":"A","cells":"-90.000000+170.500000 +90.000000-170.000000 500"}`+"\n" {
				t.Errorf("%s: %s", answer.Status, body)
			}
		}
		for _, box := range []string{"", "1,2,3", "a,2,3,4", "-91,0,0,0", "0,0,0,181", "2,0,1,0", "NaN,0,0,0", "1,2,3,4,5", "Inf,0,0,0"} {
			if answer, body := ask(t, page, "GET", "/map.json?box="+box); answer.StatusCode != 400 || !strings.HasPrefix(body, "box: ") {
				t.Errorf("%q: %s %s", box, answer.Status, body)
			}
		}
	})
}

// Who waits for an answer that another asked for gets it, also where the other goes away.
func TestWhoSharesAnAnswerIsNotLeftWithoutIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := fine("A")
		source := own(&a)
		var asked atomic.Int32
		source.Ask = func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
			if asked.Add(1) == 1 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return []byte("{}"), nil
		}
		page := admin.New(admin.Config{Name: "A", Map: shown1}, source)
		first, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			r := httptest.NewRequestWithContext(first, "GET", "/map.json?box=0,0,1,1", nil)
			r.Host = "127.0.0.1"
			page.Handler().ServeHTTP(httptest.NewRecorder(), r)
		})
		synctest.Wait()
		for range 3 {
			all.Go(func() {
				if answer, body := ask(t, page, "GET", "/map.json?box=0,0,1,1"); answer.StatusCode != 200 || body != "{}\n" {
					t.Errorf("%s: %s", answer.Status, body)
				}
			})
		}
		synctest.Wait()
		leave()
		all.Wait()
		if n := asked.Load(); n != 2 {
			t.Errorf("the edge was asked %d times, want 2", n)
		}
	})
}

// Where positions are private, nothing that shows them is answered, and the page says what helps.
func TestPositionsArePrivateWhereTheMapIsOff(t *testing.T) {
	page, _ := looking(overview.Switch{Why: "HERD_MAP=on shows them"})
	for _, path := range []string{"/map.json?box=-90,-180,90,180", "/client.json?id=kiwi", "/try.json?edge=A&line=WHATSAT+kiwi+1+1", "/verify.json"} {
		if answer, body := ask(t, page, "GET", path); answer.StatusCode != 403 || !strings.Contains(body, "HERD_MAP=on") {
			t.Errorf("%s: %s %s", path, answer.Status, body)
		}
	}
	if _, body := ask(t, page, "GET", "/status.json"); !strings.Contains(body, `"map":{"on":false,"why":"HERD_MAP=on shows them"}`) {
		t.Errorf("%s", body)
	}
}

// Another site's page must not ask through an operator's browser.
func TestOnlyTheServersOwnPageMayAsk(t *testing.T) {
	page, _ := looking(shown1)
	for from, want := range map[string]int{"": 200, "same-origin": 200, "none": 200, "cross-site": 403, "same-site": 403} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/map.json?box=0,0,1,1", nil)
		r.Host = "127.0.0.1"
		if from != "" {
			r.Header.Set("Sec-Fetch-Site", from)
		}
		if page.Handler().ServeHTTP(w, r); w.Code != want {
			t.Errorf("from %q: %d, want %d", from, w.Code, want)
		}
	}
	// To plain HTTP, unless it is this machine, browsers do not say from where.
	for _, c := range []struct {
		agent, own string
		want       int
	}{{"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "", 403}, {"Mozilla/5.0", "1", 200}, {"curl/8.5.0", "", 200}, {"", "", 200}} {
		for _, path := range []string{"/map.json?box=0,0,1,1", "/client.json?id=kiwi", "/try.json?edge=A&line=WHATSAT+kiwi+1+1"} {
			w, r := httptest.NewRecorder(), httptest.NewRequest("GET", path, nil)
			r.Host = "10.0.0.5"
			r.Header.Set("User-Agent", c.agent)
			if c.own != "" {
				r.Header.Set("Herd-Page", c.own)
			}
			if page.Handler().ServeHTTP(w, r); w.Code != c.want {
				t.Errorf("%s of %q, own page %q: %d, want %d", path, c.agent, c.own, w.Code, c.want)
			}
		}
	}
	if _, body := ask(t, page, "GET", "/"); !strings.Contains(body, "'Herd-Page'") {
		t.Error("the page's own questions have no header of its own")
	}
}

func TestWhatAllEdgesHoldOfAClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		page, o := looking(shown1)
		ask(t, page, "GET", "/status.json")
		o.set("C", func(e *other) { e.answers = nil })
		id := "k\xff<script>"
		answer, body := ask(t, page, "GET", "/client.json?id="+url.QueryEscape(id))
		var got struct {
			ID    string
			Edges []struct {
				Edge, State, Why string
				Client           json.RawMessage
			}
		}
		if err := json.Unmarshal([]byte(strings.ToValidUTF8(body, "?")), &got); err != nil || answer.StatusCode != 200 {
			t.Fatalf("%v: %s", err, body)
		}
		if got.ID != url.QueryEscape(id) || len(got.Edges) != 3 {
			t.Fatalf("%s", body)
		}
		if e := got.Edges[1]; e.Edge != "B" || e.State != "ready" || string(e.Client) != `{"edge":"B","known":true}` {
			t.Errorf("%+v", e)
		}
		if e := got.Edges[2]; e.Client != nil || e.Why != "refused" {
			t.Errorf("%+v", e)
		}
		for _, id := range []string{"", strings.Repeat("x", 1025)} {
			if answer, _ := ask(t, page, "GET", "/client.json?id="+id); answer.StatusCode != 400 {
				t.Errorf("%.10q: %s", id, answer.Status)
			}
		}
	})
}

// Only what changes nothing can be tried.
func TestACommandIsTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		page, _ := looking(shown1)
		for _, c := range []struct {
			edge, line string
			code       int
			want       string
		}{
			{"B", "WHATSAT kiwi 10 5", 200, `{"edge":"B","answer":"AT B kiwi 10 5\n"}`},
			{"C", "WHOSAT kiwi 10 5", 200, `{"edge":"C","refused":"? kiwi 10 5\n"}`},
			{"A", "WHATSAT kiwi 10 5", 200, `"edge":"A"`},
			{"B", "IAMAT kiwi +1+1 1", 400, "want one WHATSAT or WHOSAT"},
			{"B", "whatsat kiwi 10 5", 400, "want one WHATSAT or WHOSAT"},
			{"B", "WHATSAT kiwi 10 5\nIAMAT kiwi +1+1 1", 400, "want one"},
			{"B", "WATCH x kiwi 5", 400, "want one"},
			{"B", "", 400, "want one"},
			{"D", "WHATSAT kiwi 10 5", 400, "no such edge"},
			{"B.status", "WHATSAT kiwi 10 5", 400, "no such edge"},
		} {
			answer, body := ask(t, page, "GET", "/try.json?edge="+url.QueryEscape(c.edge)+"&line="+url.QueryEscape(c.line))
			if answer.StatusCode != c.code || !strings.Contains(body, c.want) {
				t.Errorf("%s at %s: %s %s, want %d %s", c.line, c.edge, answer.Status, body, c.code, c.want)
			}
		}
	})
}

// Few questions are under way at once, and one that gets no answer ends.
func TestQuestionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		page, o := looking(shown1)
		ask(t, page, "GET", "/status.json")
		o.set("B", func(e *other) { e.silent = true })
		codes := make(chan int, 10)
		var all sync.WaitGroup
		start := time.Now()
		for range 10 {
			all.Go(func() {
				answer, _ := ask(t, page, "GET", "/try.json?edge=B&line=WHATSAT+kiwi+1+1")
				codes <- answer.StatusCode
			})
		}
		all.Wait()
		close(codes)
		count := map[int]int{}
		for code := range codes {
			count[code]++
		}
		if count[http.StatusOK] != 4 || count[http.StatusServiceUnavailable] != 6 || time.Since(start) > 10*time.Second {
			t.Errorf("%v after %v", count, time.Since(start))
		}
	})
}

func TestVerifyIsAskedForOnceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := fine("A")
		begun, end := make(chan struct{}), make(chan struct{})
		page := admin.New(admin.Config{Map: shown1, Verify: func(_ context.Context, edges []string, _ func(context.Context, string, []byte) ([]byte, error)) ([]byte, error) {
			if !slices.Equal(edges, []string{"A", "B", "C"}) {
				t.Errorf("compares %q", edges)
			}
			close(begun)
			<-end
			return []byte(`{"level":"ok"}`), nil
		}}, own(&a))
		done := make(chan string)
		go func() {
			_, body := ask(t, page, "GET", "/verify.json")
			done <- body
		}()
		<-begun
		if answer, _ := ask(t, page, "GET", "/verify.json"); answer.StatusCode != 503 {
			t.Errorf("a second one: %s", answer.Status)
		}
		close(end)
		if got := <-done; got != `{"level":"ok"}`+"\n" {
			t.Errorf("%s", got)
		}
		none, _ := looking(shown1)
		if answer, _ := ask(t, none, "GET", "/verify.json"); answer.StatusCode != 404 {
			t.Errorf("where it cannot be asked: %s", answer.Status)
		}
	})
}
