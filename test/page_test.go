package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"herd/test/browser"
	"herd/test/herdtest"
)

// The page is looked at here as an operator sees it: real edges, a real broker, a real browser.
// How each state looks, at each size, is tested in edge/admin with states that are made up.

// lost is what the console may say when an edge is stopped under its page: one that is stopping answers
// 503 to who follows it.
var lost = regexp.MustCompile(`^log: Failed to load resource: (net::ERR_|the server responded with a status of 503 .*/(events|status[.]json)$)|^log: .*ERR_(INCOMPLETE_CHUNKED_ENCODING|CONNECTION|EMPTY_RESPONSE)`)

// natsConfiguration writes a configuration with a user per edge, each of which may say and hear anything but what
// is denied.
func natsConfiguration(t *testing.T, path string, jetStream bool, names []string, denied map[string][]string) {
	t.Helper()
	var text strings.Builder
	if jetStream {
		fmt.Fprintf(&text, "jetstream { store_dir: %q }\n", filepath.Join(filepath.Dir(path), "js"))
	}
	text.WriteString("authorization { users: [\n")
	for _, name := range names {
		deny := "[]"
		if subjects := denied[name]; len(subjects) > 0 {
			deny = `["` + strings.Join(subjects, `", "`) + `"]`
		}
		fmt.Fprintf(&text, "\t{ user: %s, password: secret, permissions: { publish: { allow: \">\", deny: %s }, subscribe: { allow: \">\", deny: %s }, allow_responses: true } }\n", name, deny, deny)
	}
	text.WriteString("] }\n")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// pageSays waits until the page's sentence has words and its colour is that of a level ("": any), and returns how long
// that took.
func pageSays(p *browser.Page, promise time.Duration, level string, words ...string) time.Duration {
	var all []string
	for _, w := range words {
		all = append(all, fmt.Sprintf("document.querySelector('#sentence').textContent.includes(%q)", w))
	}
	if level != "" {
		all = append(all, fmt.Sprintf("document.querySelector('#top').className === %q", level))
	}
	return p.Await(herdtest.Promise(promise), strings.Join(all, " && "), "#sentence")
}

// TestThePageNamesWhatIsBroken: without a reload, an edge killed is named within five seconds, and so is each other
// thing that breaks; and all is well again within five seconds of its return.
func TestThePageNamesWhatIsBroken(t *testing.T) {
	b := browser.Start(t)
	names := []string{"Bernard", "Clark", "Jaquez", "Johnson", "Juzang"}
	conf := filepath.Join(t.TempDir(), "nats.conf")
	natsConfiguration(t, conf, true, names, nil)
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{
		NATS: []string{"-c", conf},
		Each: func(e *herdtest.EdgeProcess) {
			e.Env["NATS_USER"], e.Env["NATS_PASSWORD"] = e.Name, "secret"
		},
	})
	clark, johnson := h.Edges["Clark"], h.Edges["Johnson"]
	p := b.Open(t, "http://"+clark.HTTP+"/", browser.Options{Allow: lost})
	const promised = 5 * time.Second
	well := func(what string) {
		t.Helper()
		took := pageSays(p, promised, "ok", "5 of 5 edges ready", "6 of 6 links up")
		t.Logf("%s: well after %v", what, took.Round(10*time.Millisecond))
	}
	well("opened")
	p.Picture("e2e-healthy")

	// Clients come and move.
	clients := size(2_000, 100_000)
	bench := herdtest.StartChild(t, "herd bench", herdtest.Binary(t, "herd"), nil, "bench", "--addr", strings.Join([]string{clark.Addr, johnson.Addr}, ","),
		"--clients", fmt.Sprint(clients), "--connections", "20", "--rate", fmt.Sprint(size(1_000, 10_000)), "--duration", size("20s", "60s"), "--probes", "0", "--whatsat", "0.1")
	p.Await(herdtest.Promise(promised), `parseInt(document.querySelector('#v-updates_per_second').textContent.replaceAll(',', '')) > 100`, "#figures")
	browser.Eval[bool](p, `(document.querySelector('#map').scrollIntoView({ block: 'center' }), document.querySelector('#map-details').open = true)`)
	p.Await(herdtest.Promise(promised), `/^[1-9]/.test(document.querySelector('#map-sum').textContent) && document.querySelectorAll('#map-cells tr, #map-clients tr').length > 0`, "#map-sum")
	p.Await(herdtest.Promise(promised), fmt.Sprintf(`parseInt(document.querySelector('#v-clients').textContent.replaceAll(',', '')) >= %d * 0.9`, clients), "#figures")
	p.Picture("e2e-moving")
	bench.Signal(syscall.SIGTERM)
	bench.Wait(herdtest.Promise(0))
	browser.Eval[bool](p, `(scrollTo(0, 0), true)`)

	johnson.Kill()
	t.Logf("an edge killed: named after %v", pageSays(p, promised, "down", "Johnson", "silent").Round(10*time.Millisecond))
	if !browser.Eval[bool](p, `!!document.querySelector('tr.silent#edge-Johnson') && !!document.querySelector('.node.silent')`) {
		t.Error("the edge that was killed is not drawn as silent")
	}
	p.Picture("e2e-killed")
	johnson.Start()
	johnson.AwaitReady()
	well("it is back")

	// A stop does not wait for open pages.
	other := b.Open(t, "http://"+johnson.HTTP+"/", browser.Options{Allow: lost})
	other.Await(herdtest.Promise(promised), `document.body.dataset.seen`, "#note")
	begun := time.Now()
	johnson.Signal(syscall.SIGTERM)
	if code := johnson.Wait(herdtest.Promise(0)); code != 0 {
		t.Errorf("the stop of an edge with an open page ended with %d", code)
	}
	t.Logf("an edge with an open page: stopped after %v", time.Since(begun).Round(10*time.Millisecond))
	was := johnson.Env["HERD_TOPOLOGY"]
	johnson.Env["HERD_TOPOLOGY"] = strings.Replace(was, "Clark-Juzang,", "", 1)
	johnson.Start()
	johnson.AwaitReady()
	t.Logf("topologies that differ: named after %v", pageSays(p, promised, "warning", "topologies differ").Round(10*time.Millisecond))
	if problems := p.Text("#problems"); !strings.Contains(problems, "Johnson") {
		t.Errorf("whose topology differs is not said: %q", problems)
	}
	p.Picture("e2e-differs")
	johnson.Signal(syscall.SIGTERM)
	johnson.Wait(herdtest.Promise(0))
	johnson.Env["HERD_TOPOLOGY"] = was
	johnson.Start()
	johnson.AwaitReady()
	well("configured as the others")

	natsConfiguration(t, conf, true, names, map[string][]string{"Bernard": {"herd.at.Bernard.Jaquez", "herd.at.Jaquez.Bernard"}})
	h.NATS.Signal(syscall.SIGHUP)
	t.Logf("a link cut: named after %v", pageSays(p, 15*time.Second, "down", "link", "Bernard", "Jaquez").Round(10*time.Millisecond))
	if !browser.Eval[bool](p, `!!document.querySelector('.link.down')`) {
		t.Error("the link is not drawn as down")
	}
	p.Picture("e2e-cut")
	natsConfiguration(t, conf, true, names, nil)
	h.NATS.Signal(syscall.SIGHUP)
	pageSays(p, 15*time.Second, "", "6 of 6 links up") // what the broker has complained of still stands there

	h.NATS.Kill()
	t.Logf("the broker away: named after %v", pageSays(p, promised, "down", "broker").Round(10*time.Millisecond))
	p.Picture("e2e-broker")
	natsConfiguration(t, conf, false, names, nil)
	h.NATS.Start()
	t.Logf("no journal: named after %v", pageSays(p, 15*time.Second, "warning", "journal").Round(10*time.Millisecond))
	p.Picture("e2e-journal")
}

// TestTheToolsPageInABrowser: with accounts an operator sees all with `herd page`, asks about one client,
// compares the edges, and is told within five seconds who was killed.
func TestTheToolsPageInABrowser(t *testing.T) {
	b := browser.Start(t)
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Accounts: true})
	_, addr := toolsPage(t, h)
	p := b.Open(t, "http://"+addr+"/", browser.Options{Allow: lost})
	const promised = 5 * time.Second
	pageSays(p, promised, "ok", "5 of 5 edges ready", "6 of 6 links up")
	sent := tells(h.Edges["Clark"], "kiwi")
	for _, e := range h.All() {
		learned(e, "kiwi", sent)
	}
	p.Do("look up", chromedp.Focus(chromedp.CSS("#client-id")), chromedp.KeyEvent("kiwi"), chromedp.KeyEvent(kb.Enter))
	p.Await(herdtest.Promise(promised), `document.querySelector('#client-answer').textContent === 'kiwi: all 5 edges hold the same line'`, "#client-answer")
	p.Do("compare", chromedp.Click(chromedp.CSS("#verify")))
	p.Await(herdtest.Promise(promised), `document.querySelector('#verify-answer').textContent.includes('all the same')`, "#verify-answer")
	p.Picture("e2e-tool")
	h.Edges["Juzang"].Kill()
	t.Logf("an edge killed: named after %v", pageSays(p, promised, "down", "Juzang", "silent").Round(10*time.Millisecond))
	h.Edges["Juzang"].Start()
	h.Edges["Juzang"].AwaitReady()
	t.Logf("it is back: well after %v", pageSays(p, promised, "ok", "5 of 5 edges ready", "6 of 6 links up").Round(10*time.Millisecond))
}

// TestThePageOfALoneEdge says that it is well, and not that it lacks neighbours. Its map and its questions work, too.
func TestThePageOfALoneEdge(t *testing.T) {
	b := browser.Start(t)
	_, clark := herdtest.StartLone(t, map[string]string{"HERD_JOURNAL": "off"})
	for _, id := range []string{"<script>document.title='broken'</script>", "kiwi", "a\u202eb", strings.Repeat("x", 1024)} {
		if answer := talk(t, clark.Addr, "IAMAT "+id+" +34.068930-118.445127 1621464827.959498503\n"); !strings.HasPrefix(answer, "AT ") {
			t.Fatalf("it says %q", answer)
		}
	}
	p := b.Open(t, "http://"+clark.HTTP+"/", browser.Options{})
	pageSays(p, 5*time.Second, "ok", "1 of 1 edge")
	browser.Eval[bool](p, `(document.querySelector('#map').scrollIntoView({ block: 'center' }), document.querySelector('#map-details').open = true)`)
	p.Await(herdtest.Promise(5*time.Second), `document.querySelectorAll('#map-clients tr').length === 4`, "#map-sum")
	shown := p.Text("#map-clients")
	for _, id := range []string{"<script>document.title='broken'</script>", "kiwi", `a\u{202e}b`, strings.Repeat("x", 1024)} {
		if !strings.Contains(shown, id) {
			t.Errorf("%.40q is not on the map", id)
		}
	}
	browser.Eval[bool](p, `(document.querySelector('#client-id').value = 'kiwi', document.querySelector('#client-form').requestSubmit(), true)`)
	p.Await(herdtest.Promise(5*time.Second), `document.querySelector('#client-rows').textContent.includes('kiwi +34.068930-118.445127')`, "#client-part")
	browser.Eval[bool](p, `(document.querySelector('#try-client').value = 'kiwi', document.querySelector('#try-form').requestSubmit(), true)`)
	p.Await(herdtest.Promise(5*time.Second), `document.querySelector('#try-answer').textContent.startsWith('AT Clark ')`, "#try-answer")
	browser.Eval[bool](p, `(document.querySelector('#verify').click(), true)`)
	p.Await(herdtest.Promise(5*time.Second), `/1 edge, 4 clients/.test(document.querySelector('#verify-answer').textContent)`, "#verify-answer")
	p.Picture("e2e-lone")
	if title := browser.Eval[string](p, "document.title"); strings.Contains(title, "broken") {
		t.Error("an id was run as a script")
	}
}

// TestAnotherSitesPageAsksNothing: what costs something or tells of positions is answered to the page's own server alone.
func TestAnotherSitesPageAsksNothing(t *testing.T) {
	_, clark := herdtest.StartLone(t, map[string]string{"HERD_JOURNAL": "off"})
	for _, path := range []string{"/try.json?edge=Clark&line=WHATSAT%20kiwi%2010%205", "/client.json?id=kiwi", "/map.json?box=-90,-180,90,180", "/verify.json"} {
		for site, want := range map[string]int{"cross-site": 403, "same-site": 403, "same-origin": 200, "": 200} {
			r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+clark.HTTP+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if site != "" {
				r.Header.Set("Sec-Fetch-Site", site)
			}
			answer, err := herdtest.AdminClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.StatusCode != want {
				t.Errorf("%s from %q: %s, want %d", path, site, answer.Status, want)
			}
		}
	}
}

// TestThePageOfAMillionClients: frames under 100 ms, 30 KB/s with the map in view and 1 KB/s without, and what open pages
// cost the edge.
func TestThePageOfAMillionClients(t *testing.T) {
	needsFull(t)
	b := browser.Start(t)
	_, clark := herdtest.StartLone(t, map[string]string{"HERD_JOURNAL": "off", "HERD_MAX_CLIENTS": "1100000"})
	bench := func(args ...string) *herdtest.Child {
		return herdtest.StartChild(t, "herd bench", herdtest.Binary(t, "herd"), nil, append([]string{"bench", "--addr", clark.Addr, "--clients", "1000000", "--connections", "10", "--probes", "0"}, args...)...)
	}
	bench("--requests", "2000000", "--pipeline", "256").Wait(herdtest.Promise(5 * time.Minute))
	moving := bench("--rate", "2000", "--duration", "10m")
	defer moving.Signal(syscall.SIGTERM)
	const span = 20 * time.Second
	cost := func() float64 {
		before, err := clark.CPU()
		if err != nil {
			t.Fatal(err)
		}
		pass(t, span)
		after, err := clark.CPU()
		if err != nil {
			t.Fatal(err)
		}
		return float64(after-before) / float64(span) * 100
	}
	alone := cost()

	p := b.Open(t, "http://"+clark.HTTP+"/", browser.Options{})
	p.Await(herdtest.Promise(0), `parseInt(document.querySelector('#v-clients').textContent.replaceAll(',', '')) > 900000`, "#figures")
	pass(t, 3*time.Second)
	had := p.Received()
	open := cost()
	plain := float64(p.Received()-had) / span.Seconds()

	browser.Eval[bool](p, `(document.querySelector('#map').scrollIntoView({ block: 'center' }), true)`)
	p.Await(herdtest.Promise(0), `document.querySelector('#map-sum').textContent`, "#map-sum")
	pass(t, 3*time.Second)
	had = p.Received()
	withMap := cost()
	mapped := float64(p.Received()-had) / span.Seconds()
	p.Picture("e2e-million")

	p.Do("focus", chromedp.Focus(chromedp.CSS("#map canvas:last-of-type")))
	for range 8 {
		p.Do("zoom in", chromedp.KeyEvent("+"))
		pass(t, time.Second)
	}
	var frames struct{ Count, Longest float64 }
	if err := json.Unmarshal([]byte(browser.Eval[string](p, `document.body.dataset.frames`)), &frames); err != nil {
		t.Fatal(err)
	}
	t.Logf("the edge: %.1f %% of a core without a page, %.1f %% with one, %.1f %% with its map in view", alone, open, withMap)
	t.Logf("received: %.0f bytes/s, %.0f with the map", plain, mapped)
	t.Logf("the map: %v frames, the longest %.1f ms; the page's longest %s ms", frames.Count, frames.Longest, browser.Eval[string](p, `document.body.dataset.slowest`))
	if plain > 1000 || mapped > 30_000 {
		t.Error("it receives too much")
	}
	if frames.Longest > 100 {
		t.Error("a frame took too long")
	}
}
