package admin_test

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/chromedp"

	"herd/edge/overview"
	"herd/test/browser"
	"herd/test/herdtest"
)

// TestThePageFollows: what the server streams is shown without a reload, and only that is drawn.
func TestThePageFollows(t *testing.T) {
	b := browser.Start(t)
	h := well(defaultHerd)
	s := show(t, h)
	p := b.Open(t, s.URL+"/", browser.Options{})
	awaitDrawn(p)
	browser.Eval[bool](p, `window.kept = [document.querySelector('#edge-Clark'), document.querySelector('#edge-Bernard td:nth-child(2) .pill'), document.querySelector('#graph .node')], true`)

	killed := states()[1].herd
	at := now.Add(time.Second)
	s.send("change", map[string]any{
		"at": at, "summary": killed.Summary, "totals": killed.Totals,
		"edges":  []overview.Edge{*edge(&killed, "Juzang")},
		"events": []overview.Event{{ID: "Clark/2", At: at, Edge: "Clark", Level: "warning", Event: "link down", Text: "link to Juzang down", Open: true}},
		"point":  map[string]any{"updates_per_second": 9999, "lag": 7},
		"numbers": map[string]any{
			"edges": map[string]any{"Clark": []any{77_777, 5, 1, 12.5, 0, 0, nil, 0.02, 1 << 20, 9, 0}},
			"links": map[string]any{"Clark-Jaquez": []any{1, 0.5, 44, 55, 2, 0.25, 66, 77}},
		},
	})
	p.Await(herdtest.Promise(0), `document.querySelector('#top').className === 'down'`, "#sentence")
	for selector, want := range map[string]string{
		"#sentence": killed.Summary.Sentence, "#edges tr:first-child th": "Juzang", "#edge-Clark td:nth-child(4)": "77,777",
		"#events tr:first-child .what": "link to Juzang down still so", "#note": "live, 11:41:03 UTC",
	} {
		if got := p.Text(selector); got != want {
			t.Errorf("%s shows %q, want %q", selector, got, want)
		}
	}
	if got := browser.Eval[string](p, `document.querySelector('#n-updates_per_second').textContent`); got != "most 9,999" {
		t.Errorf("the history says %q", got)
	}
	if got := browser.Eval[string](p, `[...document.querySelectorAll('.link title')].map((x) => x.textContent).find((x) => x.startsWith('Clark–Jaquez'))`); !strings.Contains(got, "500 ms, lag 2") {
		t.Errorf("the link in the graph says %q", got)
	}
	if !browser.Eval[bool](p, `kept.every((e) => e.isConnected)`) {
		t.Error("the page has drawn again what has not changed")
	}
	if title := browser.Eval[string](p, "document.title"); !strings.HasPrefix(title, "✕ ") {
		t.Errorf("the title is %q", title)
	}
	if icon := browser.Eval[string](p, "document.querySelector('#icon').href"); !strings.Contains(icon, "a3201d") {
		t.Errorf("the icon is %q", icon)
	}
	s.send("herd", well("Clark-Jaquez"))
	p.Await(herdtest.Promise(0), `document.querySelectorAll('#edges tr').length === 2 && document.querySelectorAll('#graph .node').length === 2`, "#edges")
	if title := browser.Eval[string](p, "document.title"); title != "✓ 2 of 2 ready" {
		t.Errorf("the title is %q", title)
	}
}

// TestAPageThatIsOpenForLongDoesNotGrow: an hour of messages leaves as many elements and as much memory as before.
func TestAPageThatIsOpenForLongDoesNotGrow(t *testing.T) {
	b := browser.Start(t)
	s := show(t, well(defaultHerd))
	p := b.Open(t, s.URL+"/", browser.Options{})
	awaitDrawn(p)
	n := 0
	hour := func() (elements, heap float64) {
		for range 600 {
			n++
			at := now.Add(time.Duration(n) * time.Second)
			s.send("change", map[string]any{
				"at": at, "point": map[string]any{"updates_per_second": n % 100, "lag": n % 7},
				"events":  []overview.Event{{ID: fmt.Sprint("Clark/", n), At: at, Edge: "Clark", Level: "info", Event: "x", Text: fmt.Sprint("event ", n)}},
				"numbers": map[string]any{"edges": map[string]any{"Clark": []any{n, 5, 1, 12.5, 0, 0, nil, 0.02, 1 << 20, 9, 0}}},
			})
		}
		p.Await(herdtest.Promise(0), fmt.Sprintf(`document.querySelector('#events .what').textContent === 'event %d'`, n), "#events")
		p.Do("collect garbage", func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
			_, err := cdp.Call(ctx, target, heapprofiler.CollectGarbage, cdp.Empty{})
			return chromedp.Void{}, err
		})
		return browser.Eval[float64](p, `document.querySelectorAll('*').length`), browser.Eval[float64](p, `performance.memory.usedJSHeapSize`)
	}
	elements, heap := hour()
	hour()
	more, full := hour()
	if more != elements {
		t.Errorf("%v elements became %v", elements, more)
	}
	if full > heap+1<<20 {
		t.Errorf("%v bytes became %v", heap, full)
	}
	if rows := browser.Eval[float64](p, `document.querySelectorAll('#events tr').length`); rows != 100 {
		t.Errorf("%v events are shown, want the last 100", rows)
	}
	if points := browser.Eval[float64](p, `document.querySelector('#l-lag').getAttribute('d').split(/[ML]/).length - 1`); points > 61 {
		t.Errorf("the history has %v points", points)
	}
}

// TestAHiddenPageAsksNothing: the stream is closed while the page is hidden, and opened again.
func TestAHiddenPageAsksNothing(t *testing.T) {
	b := browser.Start(t)
	s := showMap(t, well(defaultHerd))
	p := b.Open(t, s.URL+"/", browser.Options{})
	awaitDrawn(p)
	hide := func(yes bool) {
		browser.Eval[bool](p, fmt.Sprintf(`Object.defineProperty(document, 'hidden', { value: %v, configurable: true }), document.dispatchEvent(new Event('visibilitychange'))`, yes))
	}
	open := func(want int) func() error {
		return func() error {
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.streams) != want {
				return fmt.Errorf("%d streams are open", len(s.streams))
			}
			return nil
		}
	}
	hide(true)
	herdtest.Eventually(t, herdtest.Promise(0), "no stream", open(0))
	hide(false)
	herdtest.Eventually(t, herdtest.Promise(0), "a stream", open(1))
	s.send("change", map[string]any{"at": now.Add(time.Minute)})
	p.Await(herdtest.Promise(0), `document.querySelector('#note').textContent.includes('11:42:02')`, "#note")
}

var failedLoad = regexp.MustCompile(`^log: Failed to load resource|^log: .*ERR_`)

// TestAPageWithoutAStreamAsks: where the server has no stream left, the page asks for the state.
func TestAPageWithoutAStreamAsks(t *testing.T) {
	t.Parallel() // it mostly waits
	b := browser.Start(t)
	s := show(t, well(defaultHerd))
	s.answer("/events", func(*http.Request) any { return http.StatusServiceUnavailable })
	p := b.Open(t, s.URL+"/", browser.Options{Allow: failedLoad})
	awaitDrawn(p)
	if note := p.Text("#note"); !strings.HasPrefix(note, "asked every 5 s") {
		t.Errorf("the note is %q", note)
	}
	s.mu.Lock()
	s.herd = states()[1].herd
	s.mu.Unlock()
	p.Await(herdtest.Promise(5*time.Second), `document.querySelector('#top').className === 'down'`, "#sentence")
}

// TestAPageWhoseServerIsGoneSaysSo, and does not go on showing green.
func TestAPageWhoseServerIsGoneSaysSo(t *testing.T) {
	t.Parallel() // it mostly waits
	b := browser.Start(t)
	s := show(t, well(defaultHerd))
	p := b.Open(t, s.URL+"/", browser.Options{Allow: failedLoad})
	awaitDrawn(p)
	s.CloseClientConnections()
	s.Close()
	p.Await(herdtest.Promise(6*time.Second), `document.body.classList.contains('stale') && document.title === '? no answer'`, "#note")
	if note := p.Text("#note"); note != "no answer since 11:41:02 UTC" {
		t.Errorf("the note is %q", note)
	}
	if got, want := p.Text("#sentence"), "No answer from this server since 11:41:02 UTC; until then: 5 of 5 edges ready"; !strings.HasPrefix(got, want) {
		t.Errorf("the sentence is %q", got)
	}
	p.Picture("state-gone")
}
