package admin_test

import (
	"os"
	"strings"
	"testing"

	"herd/test/browser"
)

// TestThePageFitsEverySize: from a phone to a wide screen, light and dark, nothing is wider than the page, and no
// text has less contrast than WCAG AA asks for (4.5:1, 3:1 where it is large).
func TestThePageFitsEverySize(t *testing.T) {
	b := browser.Start(t)
	// Each size with a state that fills it; all of them for pictures.
	looked := map[string]bool{
		"killed 390": true, "killed 390-dark": true, "killed 1280": true, "killed 1280-dark": true, "killed plain": true,
		"differs 1920": true, "differs 1280-dark": true, "away 390": true, "odd 390": true, "odd 1280": true,
	}
	for _, state := range states() {
		switch state.name {
		case "killed", "differs", "away", "odd":
		default:
			continue
		}
		for name, o := range map[string]browser.Options{
			"390": {Width: 390, Height: 844, Touch: true}, "390-dark": {Width: 390, Height: 844, Dark: true},
			"1280": {}, "1280-dark": {Width: 1280, Height: 900, Dark: true}, "1920": {Width: 1920, Height: 1080},
			"plain": {NoScript: true},
		} {
			if !looked[state.name+" "+name] && os.Getenv("HERD_PICTURES") == "" {
				continue
			}
			t.Run(state.name+" "+name, func(t *testing.T) {
				p := b.Open(t, showMap(t, state.herd).URL+"/", o)
				if o.NoScript {
					// The browser evaluates what a test asks for even where a page may have no scripts.
					if text := p.Text("body"); !strings.Contains(text, state.herd.Summary.Sentence) || !strings.Contains(text, "Without JavaScript") {
						t.Errorf("without scripts: %.300q", text)
					}
				} else {
					awaitDrawn(p)
				}
				if wide := browser.Eval[float64](p, `document.documentElement.scrollWidth - innerWidth`); wide > 0 {
					t.Errorf("the page is %v pixels wider than the window", wide)
				}
				for _, text := range browser.Eval[[]string](p, contrast) {
					t.Error(text)
				}
				p.Picture("size-" + state.name + "-" + name)
			})
		}
	}
}

// contrast lists texts whose contrast with what is behind them is too low. The colours of the map are custom
// properties, since a canvas has no elements.
const contrast = `(() => {
	const parse = (text) => {
		const m = text.match(/rgba?\(([\d.]+), ([\d.]+), ([\d.]+)(?:, ([\d.]+))?\)/);
		return m ? [+m[1], +m[2], +m[3], m[4] === undefined ? 1 : +m[4]] : null;
	};
	const light = ([r, g, b]) => {
		const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
		return 0.2126 * x + 0.7152 * y + 0.0722 * z;
	};
	const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
	const behind = (e) => {
		for (; e; e = e.parentElement) {
			const s = getComputedStyle(e);
			if (e.tagName === 'g' || e.tagName === 'a') { // a label, or a node of the graph, has a rectangle of its own
				const rect = e.querySelector(':scope > rect.box, :scope > rect:not(.outer)');
				const fill = rect && parse(getComputedStyle(rect).fill);
				if (fill?.[3]) return fill;
			}
			const c = parse(s.backgroundColor);
			if (c?.[3] === 1) return c;
		}
		return [255, 255, 255, 1];
	};
	const wrong = new Set();
	let texts = 0;
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let n; n = walk.nextNode();) {
		const e = n.parentElement;
		if (!n.data.trim() || ['SCRIPT', 'NOSCRIPT', 'title', 'OPTION'].includes(e.tagName) || !e.checkVisibility()) continue;
		texts++;
		const s = getComputedStyle(e), ink = parse(e instanceof SVGElement ? s.fill : s.color), size = parseFloat(s.fontSize);
		const need = size >= 24 || (size >= 18.66 && s.fontWeight >= 700) ? 3 : 4.5, is = ratio(ink, behind(e));
		if (is < need) wrong.add(is.toFixed(2) + ':1 is less than ' + need + ':1 for ' + JSON.stringify(n.data.trim().slice(0, 40)) + ' in ' + e.tagName + '.' + (e.getAttribute('class') ?? ''));
	}
	if (texts < 50) wrong.add('only ' + texts + ' texts were looked at');
	const colour = (name) => {
		const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
		const c = document.createElement('canvas').getContext('2d');
		c.fillStyle = text;
		c.fillRect(0, 0, 1, 1);
		return [...c.getImageData(0, 0, 1, 1).data].slice(0, 3);
	};
	for (const [a, b, need] of [['--map-ink', '--map-sea', 4.5], ['--map-ink', '--map-land', 4.5], ['--map-ink', '--map-halo', 4.5], ['--map-dot', '--map-land', 3], ['--map-dot', '--map-sea', 3], ['--map-mark', '--map-land', 3], ['--chart', '--card', 3], ['--soft', '--card', 3]])
		if (ratio(colour(a), colour(b)) < need) wrong.add(a + ' on ' + b + ' is ' + ratio(colour(a), colour(b)).toFixed(2) + ':1');
	return [...wrong];
})()`
