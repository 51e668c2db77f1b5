package admin_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"herd/test/browser"
	"herd/test/herdtest"
)

// openMap opens a page, and brings its map into view.
func openMap(t *testing.T, b *browser.Browser, s *shown, o browser.Options) *browser.Page {
	p := b.Open(t, s.URL+"/", o)
	awaitDrawn(p)
	browser.Eval[bool](p, `document.querySelector('#map').scrollIntoView({ block: 'center' }), document.querySelector('#map-details').open = true`)
	p.Await(herdtest.Promise(0), `document.querySelector('#map-sum').textContent`, "#map-note")
	return p
}

// TestTheMapShowsCellsAndClients: cells with their counts where many are in view, single clients where few are;
// it is zoomed and dragged by keys, mouse and touch; and the table says what the canvas shows.
func TestTheMapShowsCellsAndClients(t *testing.T) {
	b := browser.Start(t)
	for name, o := range map[string]browser.Options{
		"1280": {}, "390-touch": {Width: 390, Height: 844, Touch: true}, "1280-dark": {Width: 1280, Height: 900, Dark: true},
	} {
		if o.Dark && os.Getenv("HERD_PICTURES") == "" {
			continue // for a picture alone
		}
		t.Run(name, func(t *testing.T) {
			s := showMap(t, well(defaultHerd))
			p := openMap(t, b, s, o)
			if got := p.Text("#map-sum"); !strings.HasSuffix(got, "cells") {
				t.Errorf("the whole world: %q", got)
			}
			if rows := browser.Eval[float64](p, `document.querySelectorAll('#map-cells tr').length`); rows != 100 {
				t.Errorf("the table has %v cells, want the largest 100", rows)
			}
			p.Picture("map-" + name + "-world")

			p.Do("focus", chromedp.Focus(chromedp.CSS("#map canvas:last-of-type")))
			before := s.box()
			p.Do("zoom by a key", chromedp.KeyEvent("+"))
			herdtest.Eventually(t, herdtest.Promise(0), "zoomed in by a key", s.differs(before, func(was, is [4]float64) bool { return is[3]-is[1] < was[3]-was[1] }))
			before = s.box()
			p.Do("move by a key", chromedp.KeyEvent(kb.ArrowRight))
			herdtest.Eventually(t, herdtest.Promise(0), "moved east by a key", s.differs(before, func(was, is [4]float64) bool { return is[1] > was[1] }))
			before = s.box()
			if o.Touch {
				browser.Eval[bool](p, pinch)
			} else {
				x, y := middle(p)
				p.Do("drag", chromedp.DragAndDropXY(x, y, x-60, y, 5))
				herdtest.Eventually(t, herdtest.Promise(0), "dragged", s.differs(before, func(was, is [4]float64) bool { return is[1] > was[1] }))
				before = s.box()
				browser.Eval[bool](p, `document.querySelector('#map canvas:last-of-type').dispatchEvent(new WheelEvent('wheel', { deltaY: -200, clientX: innerWidth / 3, clientY: innerHeight / 2, cancelable: true }))`)
			}
			herdtest.Eventually(t, herdtest.Promise(0), "zoomed by wheel or fingers", s.differs(before, func(was, is [4]float64) bool { return is[3]-is[1] < was[3]-was[1] }))
			before = s.box()
			p.Do("the world", chromedp.KeyEvent("0"))
			herdtest.Eventually(t, herdtest.Promise(0), "the world", s.differs(before, func(_, is [4]float64) bool { return is[1] == -180 && is[3] == 180 }))

			// By the table into a cell, where single clients are.
			browser.Eval[bool](p, `document.querySelector('#map-cells button').click(), true`)
			for range 3 {
				p.Await(herdtest.Promise(0), `document.querySelector('#map-sum').textContent`, "#map-note")
			}
			p.Await(herdtest.Promise(0), `document.querySelectorAll('#map-clients tr').length > 3`, "#map-sum")
			sum := strings.Fields(p.Text("#map-sum"))[0]
			if rows := browser.Eval[float64](p, `document.querySelectorAll('#map-clients tr').length`); fmt.Sprint(rows) != strings.ReplaceAll(sum, ",", "") {
				t.Errorf("the map has %s clients, its table %v", sum, rows)
			}
			p.Picture("map-" + name + "-town")
			if painted := browser.Eval[float64](p, painted); painted < 50 {
				t.Errorf("only %v points of the canvas are painted", painted)
			}
		})
	}
}

// painted counts the points of the upper canvas that are not empty.
const painted = `(() => {
	const c = document.querySelector('#map canvas:last-of-type'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
	let n = 0;
	for (let i = 3; i < d.length; i += 4) n += d[i] > 0;
	return n;
})()`

// pinch moves two fingers apart.
const pinch = `(() => {
	const c = document.querySelector('#map canvas:last-of-type'), r = c.getBoundingClientRect(), y = r.top + r.height / 2, x = r.left + r.width / 2;
	c.setPointerCapture = () => {};
	const send = (type, id, x) => c.dispatchEvent(new PointerEvent(type, { pointerId: id, pointerType: 'touch', clientX: x, clientY: y, bubbles: true }));
	send('pointerdown', 11, x - 20); send('pointerdown', 12, x + 20);
	for (let i = 1; i < 6; i++) { send('pointermove', 11, x - 20 - 10 * i); send('pointermove', 12, x + 20 + 10 * i); }
	send('pointerup', 11, x - 70); send('pointerup', 12, x + 70);
	return true;
})()`

func middle(p *browser.Page) (x, y float64) {
	at := browser.Eval[[]float64](p, `(() => { const r = document.querySelector('#map').getBoundingClientRect(); return [r.left + r.width / 2, r.top + r.height / 2]; })()`)
	return at[0], at[1]
}

// box is the box that the page asked for last.
func (s *shown) box() (b [4]float64) {
	_, _ = fmt.Sscanf(s.last("/map.json"), "%f,%f,%f,%f", &b[0], &b[1], &b[2], &b[3])
	return b
}

func (s *shown) differs(was [4]float64, how func(was, is [4]float64) bool) func() error {
	return func() error {
		if is := s.box(); !how(was, is) {
			return fmt.Errorf("the box was %v and is %v", was, is)
		}
		return nil
	}
}

// nasty are ids that a page could show as something else than they are.
var nasty = []string{
	`<script>document.title='broken'</script>`, `"><img/src=x/onerror=document.title='broken'>`, "a\u202eb\u2066c\u200f", strings.Repeat("x", 1024), "__proto__", "constructor", `\u{202e}`,
}

// TestIdsAreShownAsWhatTheyAre: on the map, in its table, and looked up.
func TestIdsAreShownAsWhatTheyAre(t *testing.T) {
	b := browser.Start(t)
	s := show(t, well(defaultHerd))
	s.answer("/map.json", func(*http.Request) any {
		var all []single
		for i, id := range nasty {
			all = append(all, single{id, 10 * float64(i-3), 20 * float64(i-3), "Clark", "1796038862.5"})
		}
		return cells(5, nil, all...)
	})
	p := openMap(t, b, s, browser.Options{})
	p.Await(herdtest.Promise(0), fmt.Sprintf(`document.querySelectorAll('#map-clients tr').length === %d`, len(nasty)), "#map-sum")
	shownAs := browser.Eval[[]string](p, `[...document.querySelectorAll('#map-clients th')].map((e) => e.textContent)`)
	for i, id := range nasty {
		want := strings.NewReplacer("\u202e", `\u{202e}`, "\u2066", `\u{2066}`, "\u200f", `\u{200f}`, `\u{`, `\u{5c}u{`).Replace(id)
		if shownAs[i] != want {
			t.Errorf("%.60q is shown as %.60q", id, shownAs[i])
		}
	}
	if title := browser.Eval[string](p, "document.title"); strings.Contains(title, "broken") {
		t.Error("an id was run as a script")
	}
	if wide := browser.Eval[float64](p, `document.documentElement.scrollWidth - innerWidth`); wide > 0 {
		t.Errorf("the page is %v pixels wider than the window", wide)
	}
	p.Picture("map-nasty")
}

// TestDrawingAMillionClientsIsQuick: a full answer of cells or clients is drawn within a frame of 100 ms. A
// million clients arrive as no more than that.
func TestDrawingAMillionClientsIsQuick(t *testing.T) {
	if !full() {
		t.Skip("skipped: set HERD_TEST=full")
	}
	b := browser.Start(t)
	s := show(t, well(sixty()))
	s.answer("/map.json", func(*http.Request) any {
		var counts [][3]int
		for i := range 2700 {
			counts = append(counts, [3]int{i/90*3 + 2, i % 90, 1 + int(math.Exp(float64(i%13)))})
		}
		return cells(2, counts)
	})
	p := openMap(t, b, s, browser.Options{Width: 1920, Height: 1080})
	p.Do("focus", chromedp.Focus(chromedp.CSS("#map canvas:last-of-type")))
	for range 20 {
		p.Do("zoom", chromedp.KeyEvent("+"))
		p.Do("zoom", chromedp.KeyEvent("-"))
	}
	var frames struct{ Count, Longest float64 }
	p.Await(herdtest.Promise(0), `JSON.parse(document.body.dataset.frames).count > 20`, "#map-sum")
	if err := json.Unmarshal([]byte(browser.Eval[string](p, `document.body.dataset.frames`)), &frames); err != nil {
		t.Fatal(err)
	}
	t.Logf("%v frames of the map, the longest %v ms; the page's longest %s ms", frames.Count, frames.Longest, browser.Eval[string](p, `document.body.dataset.slowest`))
	if frames.Longest > 100 {
		t.Errorf("a frame took %v ms", frames.Longest)
	}
}
