package test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"herd/test/browser"
	"herd/test/herdtest"
)

// V5: a page of another site can report nothing by anything that a browser lets it do, nor read or
// follow; one of the port itself can.
func TestPagesOfOtherSitesInABrowser(t *testing.T) {
	quiet(t)
	b := browser.Start(t)
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark", Each: withDevices})
	e := h.Edges["Clark"]
	addr := e.Env["HERD_DEVICES"]
	other, port := otherSite(t)
	anything := browser.Options{Allow: regexp.MustCompile(`.*`)}
	for i, from := range []string{"http://localhost:" + port, other} { // another site, and another origin of the same
		p := b.Open(t, from+"/?http://"+addr, anything)
		if said := browser.Eval[string](p, tryAll+"('http://"+addr+"')"); said != "" {
			t.Errorf("a page of %s is told %q", from, said)
		}
		awaitForeign(t, e, (i+1)*(len(tried)-2)) // but for the WebSocket and the link
		held, err := herdtest.Held(e.Addr, tried)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range held {
			// A script of another origin sends no Origin and no Referer; only Sec-Fetch-Site tells.
			if line != "" {
				t.Errorf("a page of %s has reported %s: %s", from, tried[i], line)
			}
		}
	}
	// The port's own page may.
	p := b.Open(t, "http://"+addr+"/", anything)
	said := browser.Eval[string](p, `(async () => {
		const r = await fetch('/?id=own&lat=1&lon=2', {method: 'POST'});
		return r.status + ' ' + await new Promise(done => {
			const ws = new WebSocket('ws://' + location.host + '/lines');
			ws.onopen = () => ws.send('IAMAT ws +1+2 3\nUNWATCH x');
			ws.onmessage = m => done(m.data);
			ws.onerror = () => done('an error');
		});
	})()`)
	if !strings.HasPrefix(said, "200 AT Clark ") {
		t.Errorf("the port's own page is told %q", said)
	}
}

// tryAll is what a page tries, as a function of an edge's address: each in a way that has it report another
// position. It says what it was told.
const tryAll = `(async edge => {
		const q = id => edge + '/?lat=1&lon=2&id=' + id;
		const loaded = (tag, attributes) => new Promise(done => {
			const x = Object.assign(document.createElement(tag), attributes);
			x.onload = x.onerror = done;
			document.body.append(x);
		});
		const form = (id, method, type, fields, action) => new Promise(done => {
			const frame = document.createElement('iframe');
			frame.name = 'f' + id;
			document.body.append(frame);
			const f = Object.assign(document.createElement('form'), {method, enctype: type, action: action || q(id), target: frame.name});
			for (const [name, value] of Object.entries(fields)) f.append(Object.assign(document.createElement('input'), {name, value}));
			document.body.append(f);
			frame.onload = done;
			f.submit();
		});
		const said = [];
		const fetched = (id, options) => fetch(q(id), options).then(r => said.push(id + ' ' + r.type), () => 0);
		await form('form-post', 'post', 'application/x-www-form-urlencoded', {});
		await form('form-body', 'post', 'application/x-www-form-urlencoded', {id: 'form-body', lat: 1, lon: 2}, edge + '/');
		await form('form-text', 'post', 'text/plain', {'{"_type":"location","topic":"owntracks/form-text/x","lat":1,"lon":2,"x":"': '"}'}, edge + '/');
		await form('form-get', 'get', '', {id: 'form-get', lat: 1, lon: 2}, edge + '/');
		await fetched('fetch-get', {mode: 'no-cors'});
		await fetched('fetch-post', {mode: 'no-cors', method: 'POST'});
		await fetched('fetch-silent', {mode: 'no-cors', method: 'POST', referrerPolicy: 'no-referrer'});
		await fetched('fetch-cors', {method: 'POST'});
		await fetched('fetch-json', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{}'});
		await fetched('fetch-put', {method: 'PUT'});
		await loaded('img', {src: q('img'), referrerPolicy: 'no-referrer'});
		await loaded('script', {src: q('script'), referrerPolicy: 'no-referrer'});
		await loaded('link', {rel: 'stylesheet', href: q('css')});
		await loaded('iframe', {src: q('iframe'), referrerPolicy: 'no-referrer'});
		navigator.sendBeacon(q('beacon'), '');
		await loaded('link', {rel: 'prefetch', href: q('prefetch'), referrerPolicy: 'no-referrer'});
		await loaded('object', {data: q('object')});
		await new Promise(done => {
			const x = Object.assign(document.createElement('video'), {src: q('video'), onerror: done, onloadeddata: done});
			document.body.append(x);
		});
		const link = Object.assign(document.createElement('a'), {href: '#', ping: q('ping'), referrerPolicy: 'no-referrer'});
		document.body.append(link);
		link.click();
		await new Promise(done => {
			const ws = new WebSocket(edge.replace('http', 'ws') + '/lines');
			ws.onopen = () => { ws.send('IAMAT ws +1+2 3'); said.push('ws'); };
			ws.onmessage = ws.onerror = done;
		});
		await fetched('last', {mode: 'no-cors', method: 'POST'});
		return said.filter(x => !x.endsWith(' opaque')).join(', ');
	})`

// tried are the ids of the positions that it would report.
var tried = []string{"form-post", "form-body", "form-text/x", "form-get", "fetch-get", "fetch-post", "fetch-silent", "fetch-cors", "fetch-json", "fetch-put",
	"img", "script", "css", "iframe", "beacon", "ws", "prefetch", "video", "object", "ping", "csp", "link", "last"}

// otherSite serves the page of another site, and returns its address and its port. What its policy forbids is reported
// to the address in its query.
func otherSite(t *testing.T) (address, port string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if r.URL.RawQuery != "" {
			w.Header().Set("Content-Security-Policy-Report-Only", "img-src 'none'; report-uri "+r.URL.RawQuery+"/?lat=1&lon=2&id=csp")
		}
		fmt.Fprint(w, `<!DOCTYPE html><html lang="en"><title>x</title><link rel="icon" href="data:,"><body>`)
	}))
	t.Cleanup(s.Close)
	_, port, _ = net.SplitHostPort(strings.TrimPrefix(s.URL, "http://"))
	return s.URL, port
}

// awaitForeign waits until an edge has refused so many requests of other sites' pages: some are sent
// when it suits the browser.
func awaitForeign(t *testing.T, e *herdtest.EdgeProcess, want int) {
	t.Helper()
	herdtest.Eventually(t, herdtest.Promise(0), "all that was tried came and was refused", func() error {
		m, err := e.Metrics()
		if n := m[`herd_device_requests_total{app="unknown",edge="`+e.Name+`",outcome="foreign"}`]; err == nil && n < float64(want) {
			err = fmt.Errorf("%v of %d", n, want)
		}
		return err
	})
}

// V5: nor can it over plain HTTP to another machine, of which a browser does not say where a request comes from,
// where the page has it send no Referer; with a user's password, which the browser remembers, as without.
func TestPagesOfOtherSitesOverPlainHTTPInABrowser(t *testing.T) {
	quiet(t)
	b := browser.Start(t)
	users := usersFile(t, "alice")
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark-Bernard", Env: map[string]string{"HERD_DEVICES_ORIGINS": "herd.example"},
		Each: func(e *herdtest.EdgeProcess) {
			withDevices(e)
			if e.Name == "Clark" {
				e.Env["HERD_DEVICES_USERS"] = users
			}
		}})
	_, port := otherSite(t)
	for _, c := range []struct{ edge, login, owner, elsewhere string }{
		// Chromium has no passwords of herd.example for pages of another site, but for pages of the same one.
		{"Clark", "alice:secret%20of%20alice@", "alice/", "evil.herd.example"},
		{"Bernard", "", "", "evil.example"},
	} {
		t.Run(c.edge, func(t *testing.T) {
			e := h.Edges[c.edge]
			_, at, _ := net.SplitHostPort(e.Env["HERD_DEVICES"])
			host := "herd.example:" + at
			edge := "http://" + host
			p := b.Open(t, "http://"+c.login+host+"/", browser.Options{Allow: regexp.MustCompile(`.*`)})
			if said := browser.Eval[string](p, `fetch(location.origin + '/?id=own&lat=1&lon=2', {method: 'POST'}).then(r => r.status + ' ' + isSecureContext)`); said != "200 false" {
				t.Fatalf("its own page is told %q", said)
			}
			p.Do("go elsewhere", chromedp.Navigate("http://"+c.elsewhere+":"+port+"/?"+edge))
			if said := browser.Eval[string](p, tryAll+"('"+edge+"')"); said != "" {
				t.Errorf("a page of %s is told %q", c.elsewhere, said)
			}
			p.Do("go to another site", chromedp.Navigate("http://evil.example:"+port+"/"))
			browser.Eval[bool](p, `(() => {
				const link = Object.assign(document.createElement('a'), {href: '`+edge+`/?lat=1&lon=2&id=link', rel: 'noreferrer'});
				document.body.append(link);
				link.click();
				return true;
			})()`)
			p.Await(herdtest.Promise(0), "location.hostname !== 'evil.example'", "body")
			awaitForeign(t, e, len(tried)-1) // but for the WebSocket
			ids := []string{c.owner + "own"}
			for _, id := range tried {
				ids = append(ids, c.owner+id)
			}
			held, err := herdtest.Held(e.Addr, ids)
			if err != nil {
				t.Fatal(err)
			}
			for i, line := range held {
				if (line != "") != (i == 0) {
					t.Errorf("of %s is held %q", ids[i], line)
				}
			}
		})
	}
}
