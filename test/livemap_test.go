package test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"golang.org/x/crypto/bcrypt"

	"herd/test/browser"
	"herd/test/herdtest"
	"herd/test/ports"
)

// lostEdge is what a browser says of an edge that a test kills.
var lostEdge = regexp.MustCompile(`WebSocket connection to|Failed to load resource|net::ERR_`)

// startWithDevices starts two edges; Clark has a port for devices at the address that is returned.
func startWithDevices(t *testing.T, env map[string]string) (h *herdtest.Processes, devices string) {
	t.Helper()
	devices = ports.Addr(t)
	h = herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark-Jaquez", Env: map[string]string{"HERD_JOURNAL": "off"}, Each: func(e *herdtest.EdgeProcess) {
		if e.Name == "Clark" {
			e.Env["HERD_DEVICES"] = devices
			for name, value := range env {
				e.Env[name] = value
			}
		}
	}})
	return h, devices
}

// phone posts a position as Traccar Client does, with a user's name and password if there are any.
func phone(t *testing.T, devices, login, id string, lat, lon float64) {
	t.Helper()
	form := url.Values{"id": {id}, "lat": {fmt.Sprintf("%.6f", lat)}, "lon": {fmt.Sprintf("%.6f", lon)}}
	request, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+devices+"/", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if login != "" {
		request.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(login)))
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%s's position is answered %s", id, answer.Status)
	}
}

// rowOf is a JavaScript expression: the text of a client's row in the list, or ”.
func rowOf(id string) string {
	return fmt.Sprintf(`([...document.querySelectorAll('#rows tr')].find((r) => r.querySelector('bdi').textContent === %q)?.textContent ?? '')`, id)
}

// saw waits until the list says where a client is.
func saw(p *browser.Page, id, where string) {
	p.Await(herdtest.Promise(0), fmt.Sprintf("%s.includes(%q)", rowOf(id), where), "#rows")
}

// painted counts the points of the map on which something is drawn.
const painted = `(() => {
	const c = document.querySelector('#map canvas:last-of-type'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
	let n = 0;
	for (let i = 3; i < d.length; i += 4) n += d[i] > 0;
	return n;
})()`

// The live map shows who is where, and that they move, come and leave; in words beside the canvas, by
// mouse and by keys.
func TestTheLiveMap(t *testing.T) {
	b := browser.Start(t)
	for name, o := range map[string]browser.Options{
		"1280": {}, "390": {Width: 390, Height: 844, Touch: true}, "1280-dark": {Width: 1280, Height: 900, Dark: true},
	} {
		if o.Dark && os.Getenv("HERD_PICTURES") == "" {
			continue // for a picture alone
		}
		t.Run(name, func(t *testing.T) {
			h, devices := startWithDevices(t, nil)
			step := 0
			move := func() {
				step++
				phone(t, devices, "", "anna", 34.06+float64(step)/500, -118.44)
				phone(t, devices, "", "ben", 34.07, -118.44-float64(step)/500)
				phone(t, devices, "", "<b>c\u202egro</b>", 34.05, -118.45+float64(step)/500)
			}
			p := b.Open(t, "http://"+devices+"/", o)
			p.Await(herdtest.Promise(0), `document.querySelector('header').className === 'live'`, "#state")
			p.Await(herdtest.Promise(0), `document.querySelector('#count').textContent === 'Nobody'`, "#count")
			move()
			saw(p, "anna", "34.06200° N, 118.44000° W")
			saw(p, "ben", "34.07000° N, 118.44200° W")
			saw(p, "<b>c\u202egro</b>", "now")
			browser.Eval[bool](p, `document.querySelector('#all').click(), true`)
			for range 3 {
				move()
				saw(p, "anna", fmt.Sprintf("%.5f° N", 34.06+float64(step)/500))
			}
			p.Await(herdtest.Promise(0), painted+" > 200", "#state")
			if got := p.Text("#count"); got != "3 clients" {
				t.Errorf("counts %q", got)
			}
			p.Picture("live-" + name)
			if wide := browser.Eval[float64](p, `document.documentElement.scrollWidth - innerWidth`); wide > 0 {
				t.Errorf("the page is %v pixels too wide", wide)
			}

			// Told to another edge, without a port for devices.
			if got := talk(t, h.Edges["Jaquez"].Addr, "IAMAT dora -34.5+18.25 "+posix(time.Now().UnixNano())+"\n"); !strings.HasPrefix(got, "AT Jaquez") {
				t.Fatalf("Jaquez answers %q", got)
			}
			saw(p, "dora", "34.50000° S, 18.25000° E")
			if got := p.Text("#news"); !strings.Contains(got, "dora has come") {
				t.Errorf("the news are %q", got)
			}

			// An id is any bytes.
			odd := func(at string) {
				t.Helper()
				if got := talk(t, h.Edges["Jaquez"].Addr, "IAMAT \xffz "+at+" "+posix(time.Now().UnixNano())+"\n"); !strings.HasPrefix(got, "AT Jaquez") {
					t.Fatalf("Jaquez answers %q", got)
				}
			}
			odd("-35+18")
			saw(p, `\xffz`, "35.00000° S, 18.00000° E")
			odd("-36+18")
			saw(p, `\xffz`, "36.00000° S, 18.00000° E")

			// By keys: the search, the first of the list, and what the map shows.
			p.Do("search", chromedp.Focus("#filter"), chromedp.KeyEvent("ann"))
			p.Await(herdtest.Promise(0), `document.querySelectorAll('#rows tr').length === 1`, "#rows")
			p.Do("pick", chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
			p.Await(herdtest.Promise(0), `document.querySelector('#rows tr.marked')`, "#rows")
			if got := p.Text("#pointed"); !strings.HasPrefix(got, "anna: 34.0") {
				t.Errorf("picked: %q", got)
			}
			browser.Eval[bool](p, `(() => { const f = document.querySelector('#filter'); f.value = ''; f.dispatchEvent(new Event('input')); return true; })()`)
			p.Do("what the map shows", chromedp.Focus("#map canvas:last-of-type"), chromedp.KeyEvent("--"), chromedp.Focus("#view"), chromedp.KeyEvent(" "))
			p.Await(herdtest.Promise(0), `document.querySelector('#count').textContent === '3 clients in view'`, "#count")

			// One leaves what is shown, and comes back.
			phone(t, devices, "", "ben", 48.1, 11.5)
			p.Await(herdtest.Promise(0), `document.querySelector('#count').textContent === '2 clients in view'`, "#count")
			if got := p.Text("#news"); !strings.Contains(got, "ben has left") {
				t.Errorf("the news are %q", got)
			}
			p.Picture("live-" + name + "-left")
			phone(t, devices, "", "ben", 34.07, -118.45)
			saw(p, "ben", "34.07000° N")
			p.Do("the world", chromedp.Focus("#map canvas:last-of-type"), chromedp.KeyEvent("0"))
			saw(p, "dora", "34.50000° S")
		})
	}
}

// A page outlives its edge: it says so, keeps what it knew, and goes on when an edge is there.
func TestTheLiveMapOutlivesItsEdge(t *testing.T) {
	b := browser.Start(t)
	h, devices := startWithDevices(t, nil)
	clark, jaquez := h.Edges["Clark"], h.Edges["Jaquez"]
	phone(t, devices, "", "anna", 34.06, -118.44)
	phone(t, devices, "", "ben", 34.07, -118.44)
	awaitHolds(t, time.Now(), herdtest.Promise(0), []*herdtest.EdgeProcess{jaquez}, []string{"anna", "ben"}, []int64{0, 0})
	p := b.Open(t, "http://"+devices+"/", browser.Options{Allow: lostEdge})
	saw(p, "anna", "34.06000° N")
	clark.Kill()
	p.Await(herdtest.Promise(0), `document.querySelector('header').className === 'away' && document.querySelector('#state').textContent.includes('was so at')`, "#state")
	saw(p, "anna", "34.06000° N")
	p.Picture("live-away")
	tells(jaquez, "anna") // at +34.068930-118.445127
	clark.Start()
	clark.AwaitReady()
	saw(p, "anna", "34.06893° N, 118.44513° W")
	saw(p, "ben", "34.07000° N")
	p.Await(herdtest.Promise(0), `document.querySelector('header').className === 'live'`, "#state")
}

// With users the browser asks who looks, and shows that user's phones alone. Somebody who is taken out
// sees no more.
func TestTheLiveMapWithALogin(t *testing.T) {
	b := browser.Start(t)
	users := filepath.Join(t.TempDir(), "users")
	write := func(names ...string) {
		t.Helper()
		text := ""
		for _, name := range names {
			hash, err := bcrypt.GenerateFromPassword([]byte(name+"-secret"), bcrypt.MinCost)
			if err != nil {
				t.Fatal(err)
			}
			text += name + ":" + string(hash) + "\n"
		}
		if err := os.WriteFile(users, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("alice", "bob")
	_, devices := startWithDevices(t, map[string]string{"HERD_DEVICES_USERS": users})
	if answer, err := http.Get("http://" + devices + "/"); err != nil || answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a login: %v, %v", answer, err)
	} else {
		answer.Body.Close()
	}
	phone(t, devices, "alice:alice-secret", "pixel", 34.06, -118.44)
	phone(t, devices, "bob:bob-secret", "iphone", 34.07, -118.44)
	for name, address := range map[string]string{
		"by the browser": "http://alice:alice-secret@" + devices + "/",
		"in the path":    "http://" + devices + "/t/alice:alice-secret/",
	} {
		t.Run(name, func(t *testing.T) {
			// Files below an address that has a login are asked for with it.
			p := b.Open(t, address, browser.Options{Allow: regexp.MustCompile("^request to http://alice:alice-secret@" + devices + "/")})
			saw(p, "alice/pixel", "34.06000° N")
			phone(t, devices, "alice:alice-secret", "pixel", 34.08, -118.44)
			saw(p, "alice/pixel", "34.08000° N")
			phone(t, devices, "alice:alice-secret", "pixel", 34.06, -118.44)
			saw(p, "alice/pixel", "34.06000° N")
			if got := p.Text("#count"); got != "1 client" {
				t.Errorf("alice sees %q: %s", got, p.Text("#rows"))
			}
			p.Picture("live-login")
		})
	}
	t.Run("taken out", func(t *testing.T) {
		p := b.Open(t, "http://"+devices+"/t/alice:alice-secret/", browser.Options{Allow: lostEdge})
		saw(p, "alice/pixel", "34.06000° N")
		write("bob")
		p.Await(herdtest.Promise(0), `document.querySelector('header').className === 'refused'`, "#state")
		if got := p.Text("#state"); !strings.Contains(got, "to log in") {
			t.Errorf("says %q", got)
		}
		p.Picture("live-taken-out")
	})
}

// The script of docs/clients.md follows an area from a page of the edge's own.
func TestTheWebPageOfTheDocumentsWorks(t *testing.T) {
	b := browser.Start(t)
	_, devices := startWithDevices(t, nil)
	phone(t, devices, "", "anna", 34.07, -118.44)
	p := b.Open(t, "http://"+devices+"/", browser.Options{})
	browser.Eval[any](p, strings.Replace(programsOf(t)["javascript"], "127.0.0.1:12010", devices, 1)+"; null")
	p.Await(herdtest.Promise(0), `inside.has('anna')`, "#state")
	phone(t, devices, "", "ben", 34.071, -118.441)
	p.Await(herdtest.Promise(0), `inside.get('ben')?.location === '+34.071000-118.441000'`, "#state")
	phone(t, devices, "", "anna", 35, -118.44)
	p.Await(herdtest.Promise(0), `!inside.has('anna') && inside.size === 1`, "#state")
}

// Where an edge tells nothing, or not so many, the page says that.
func TestTheLiveMapSaysWhatItCannotShow(t *testing.T) {
	b := browser.Start(t)
	for _, test := range []struct{ variable, class, says string }{
		{"HERD_LIVE=off", "refused", "HERD_LIVE"},
		{"HERD_WATCH_MEMBERS=2", "full", "Zoom in"},
	} {
		t.Run(test.class, func(t *testing.T) {
			name, value, _ := strings.Cut(test.variable, "=")
			_, devices := startWithDevices(t, map[string]string{name: value})
			for i, id := range []string{"anna", "ben", "cleo"} {
				phone(t, devices, "", id, 1, float64(60*i-60))
			}
			p := b.Open(t, "http://"+devices+"/", browser.Options{})
			p.Await(herdtest.Promise(0), fmt.Sprintf("document.querySelector('header').className === %q", test.class), "#state")
			if got := p.Text("#state"); !strings.Contains(got, test.says) {
				t.Errorf("says %q", got)
			}
			p.Picture("live-" + test.class)
			if test.class != "full" {
				return
			}
			// Fewer are in a smaller area.
			browser.Eval[bool](p, `document.querySelector('#world').click(), document.querySelector('#view').click(), true`)
			for range 6 {
				browser.Eval[bool](p, `document.querySelector('#in').click(), true`)
			}
			p.Await(herdtest.Promise(0), `document.querySelector('header').className === 'live'`, "#state")
			saw(p, "ben", "1.00000° N")
		})
	}
}
