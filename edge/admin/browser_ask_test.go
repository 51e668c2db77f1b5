package admin_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"herd/test/browser"
	"herd/test/herdtest"
)

// kiwi is what four edges say of a client, one of which holds an older line and one of which is silent.
func kiwi(*http.Request) any {
	line := "AT Clark +0.263873386 kiwi +34.1-118.4 1621464827.5"
	return map[string]any{"id": "kiwi", "edges": []any{
		map[string]any{"edge": "Bernard", "state": "ready", "client": map[string]any{"edge": "Bernard", "known": true, "line": line, "lat": 34.1, "lon": -118.4, "received": now, "effective": "2021-05-19T22:53:47.5Z", "from": "neighbour", "neighbour": "Juzang", "links": []any{}}},
		map[string]any{"edge": "Clark", "state": "ready", "client": map[string]any{"edge": "Clark", "known": true, "line": line, "lat": 34.1, "lon": -118.4, "received": now, "effective": "2021-05-19T22:53:47.5Z", "from": "client", "own": true, "in_journal": true,
			"links": []any{map[string]any{"neighbour": "Jaquez", "up": true, "lag": 3}, map[string]any{"neighbour": "Juzang", "up": true, "acknowledged": true}}}},
		map[string]any{"edge": "Jaquez", "state": "ready", "client": map[string]any{"edge": "Jaquez", "known": true, "line": "AT Clark +0.1 kiwi +34.0-118.4 1621464820.5", "lat": 34.0, "lon": -118.4, "received": now, "effective": "2021-05-19T22:53:40.5Z", "from": "neighbour", "neighbour": "Clark"}},
		map[string]any{"edge": "Johnson", "state": "ready", "client": map[string]any{"edge": "Johnson", "known": false}},
		map[string]any{"edge": "Juzang", "state": "silent"},
	}}
}

// TestOneClientIsLookedUp: which edge holds which line, whether they are the same, from whom, and in whose journal.
func TestOneClientIsLookedUp(t *testing.T) {
	b := browser.Start(t)
	s := showMap(t, well(defaultHerd))
	s.answer("/client.json", kiwi)
	p := openMap(t, b, s, browser.Options{})
	p.Do("look up", chromedp.Focus(chromedp.CSS("#client-id")), chromedp.KeyEvent("kiwi"), chromedp.KeyEvent(kb.Enter))
	p.Await(herdtest.Promise(0), `document.querySelectorAll('#client-rows tr').length === 5`, "#client-answer")
	if got, want := p.Text("#client-answer"), "kiwi: 2 of 4 edges hold the newest line, 1 holds another, 1 does not know it; 1 edge does not answer"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	text := p.Text("#client-rows")
	for _, want := range []string{"the newest", "older", "unknown here", "silent", "Juzang ✓", "Jaquez (lag 3)", "written", "AT Clark +0.263873386 kiwi +34.1-118.4 1621464827.5"} {
		if !strings.Contains(text, want) {
			t.Errorf("the table does not say %q: %q", want, text)
		}
	}
	before := s.box()
	p.Do("show on the map", chromedp.Click(chromedp.CSS("#client-go")))
	herdtest.Eventually(t, herdtest.Promise(0), "the map shows it", s.differs(before, func(_, is [4]float64) bool {
		return is[0] < 34.1 && is[2] > 34.1 && is[1] < -118.4 && is[3] > -118.4 && is[3]-is[1] < 1
	}))
	p.Picture("client")

	for _, id := range nasty {
		s.answer("/client.json", func(*http.Request) any {
			return map[string]any{"edges": []any{map[string]any{"edge": "Clark", "state": "ready", "client": map[string]any{"known": true, "line": "AT Clark +0.1 " + id + " +1+2 3", "lat": 1, "lon": 2}}}}
		})
		browser.Eval[bool](p, fmt.Sprintf(`(document.querySelector('#client-id').value = %q, document.querySelector('#client-form').requestSubmit(), true)`, id))
		herdtest.Eventually(t, herdtest.Promise(0), "asked for", func() error {
			if got := s.last("/client.json"); got != id {
				return fmt.Errorf("%.60q was asked for", got)
			}
			return nil
		})
		p.Await(herdtest.Promise(0), `document.querySelector('#client-answer').textContent.endsWith('one edge holds its line')`, "#client-answer")
	}
	if title := browser.Eval[string](p, "document.title"); strings.Contains(title, "broken") {
		t.Error("an id was run as a script")
	}
}

// TestAQuestionIsTried, which asks as a client would, and shows the answer or the refusal as it is.
func TestAQuestionIsTried(t *testing.T) {
	b := browser.Start(t)
	s := showMap(t, well(defaultHerd))
	s.answer("/try.json", func(r *http.Request) any {
		if r.FormValue("line") == "WHATSAT kiwi 10 5" {
			return map[string]any{"edge": r.FormValue("edge"), "answer": "AT Clark +0.1 kiwi +1+2 3\n{\n\"results\": []\n}\n\n"}
		}
		return map[string]any{"edge": r.FormValue("edge"), "refused": "? " + r.FormValue("line")}
	})
	p := openMap(t, b, s, browser.Options{Allow: failedLoad})
	p.Do("try", chromedp.SendKeys(chromedp.CSS("#try-client"), "kiwi"+kb.Enter))
	p.Await(herdtest.Promise(0), `document.querySelector('#try-answer').textContent.includes('(Bernard,')`, "#try-answer")
	if got := p.Text("#try-answer"); !strings.HasPrefix(got, "AT Clark +0.1 kiwi +1+2 3\n{\n\"results\": []\n}") {
		t.Errorf("the answer is shown as %q", got)
	}
	browser.Eval[bool](p, `(document.querySelector('#try-edge').value = 'Juzang', document.querySelector('#try-command').value = 'WHOSAT', document.querySelector('#try-client').value = '<b>', true)`)
	p.Do("try", chromedp.Click(chromedp.CSS("#try-form button")))
	p.Await(herdtest.Promise(0), `document.querySelector('#try-answer').textContent.includes('(Juzang,')`, "#try-answer")
	if got := p.Text("#try-answer"); !strings.HasPrefix(got, "? WHOSAT <b> 10 5") {
		t.Errorf("the refusal is shown as %q", got)
	}
	s.answer("/try.json", func(*http.Request) any { return http.StatusForbidden })
	p.Do("try", chromedp.Click(chromedp.CSS("#try-form button")))
	p.Await(herdtest.Promise(0), `document.querySelector('#try-answer').textContent === 'No answer: refused'`, "#try-answer")
}

// TestEdgesAreCompared: that all are the same is said, and where they are not, which client differs where and how.
func TestEdgesAreCompared(t *testing.T) {
	b := browser.Start(t)
	s := showMap(t, well(defaultHerd))
	s.answer("/client.json", kiwi)
	s.answer("/verify.json", func(*http.Request) any {
		return map[string]any{"level": "ok", "sentence": "5 edges, 10,200 clients, all the same", "differences": []any{}}
	})
	p := openMap(t, b, s, browser.Options{})
	p.Do("compare", chromedp.Click(chromedp.CSS("#verify")))
	p.Await(herdtest.Promise(0), `document.querySelector('#verify-answer').textContent === '✓ 5 edges, 10,200 clients, all the same' && document.querySelector('#verify-table').hidden`, "#verify-answer")
	s.answer("/verify.json", func(*http.Request) any {
		return map[string]any{"level": "down", "sentence": "5 edges, 10,200 clients, 1 differs", "differences": []any{map[string]any{"id": "<i>\u202e", "edge": "Jaquez", "text": "lacks the line that Clark holds"}}}
	})
	p.Do("compare", chromedp.Click(chromedp.CSS("#verify")))
	p.Await(herdtest.Promise(0), `document.querySelector('#verify-answer').className === 'down' && !document.querySelector('#verify-table').hidden`, "#verify-answer")
	if got, want := strings.Join(strings.Fields(p.Text("#verify-rows")), " "), `<i>\u{202e} Jaquez lacks the line that Clark holds`; got != want {
		t.Errorf("the difference is shown as %q, want %q", got, want)
	}
	p.Do("look it up", chromedp.Click(chromedp.CSS("#verify-rows button")))
	p.Await(herdtest.Promise(0), `document.querySelectorAll('#client-rows tr').length === 5`, "#client-answer")
	if got := s.last("/client.json"); got != "<i>\u202e" {
		t.Errorf("looked up was %q", got)
	}
	p.Picture("verify")
}

// TestAllIsReachedByTab: links, buttons, fields, tables that scroll, the map and the nodes of the graph; each shows
// that it is reached, and has a name.
func TestAllIsReachedByTab(t *testing.T) {
	b := browser.Start(t)
	s := showMap(t, states()[1].herd)
	s.answer("/client.json", kiwi)
	p := openMap(t, b, s, browser.Options{})
	browser.Eval[bool](p, `(document.querySelector('#client-id').value = 'kiwi', document.querySelector('#client-form').requestSubmit(), document.querySelector('#links-details').open = true)`)
	p.Await(herdtest.Promise(0), `document.querySelectorAll('#client-rows tr').length === 5`, "#client-answer")
	browser.Eval[bool](p, `(window.reached = new Set(), window.unseen = new Set(), document.body.focus(), document.addEventListener('focusin', (e) => {
		reached.add(e.target);
		const s = getComputedStyle(e.target), box = e.target.querySelector?.(':scope > rect.box');
		if (s.outlineStyle === 'none' && !(box && parseFloat(getComputedStyle(box).strokeWidth) >= 3)) unseen.add(e.target.outerHTML.slice(0, 80));
	}), true)`)
	const all = `[...document.querySelectorAll('a[href], button, input, select, summary, [tabindex="0"]')].filter((e) => e.checkVisibility() && !e.disabled)`
	n := int(browser.Eval[float64](p, all+".length"))
	if n < 30 {
		t.Fatalf("only %d elements can be reached", n)
	}
	for i := range n + 10 {
		p.Do("Tab", chromedp.KeyEvent(kb.Tab))
		if i >= n-1 && browser.Eval[bool](p, all+`.every((e) => reached.has(e))`) {
			break
		}
	}
	for _, missed := range browser.Eval[[]string](p, all+`.filter((e) => !reached.has(e)).map((e) => e.outerHTML.slice(0, 120))`) {
		t.Errorf("not reached: %s", missed)
	}
	for _, text := range browser.Eval[[]string](p, `[...unseen]`) {
		t.Errorf("it cannot be seen that this is reached: %s", text)
	}
	nameless := browser.Eval[[]string](p, all+`.filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length || e.title)).map((e) => e.outerHTML.slice(0, 120))`)
	for _, text := range nameless {
		t.Errorf("it has no name: %s", text)
	}
}
