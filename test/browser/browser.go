// Package browser drives a real browser for tests of pages: it opens a page at a size, waits for
// what the page shows, and takes pictures. Whatever a page must never do fails its test: an error in
// the console, a script or style that its policy forbids, a request beyond its own server.
//
// It needs chromium (Debian's package of that name, or Chrome). Where there is none, under the race
// detector and with -short, tests that use it are skipped. It knows nothing of what pages show, and only
// tests import it.
package browser

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"herd/test/herdtest"
)

// names are those under which the browser is installed.
var names = []string{"chromium", "chromium-browser", "google-chrome", "chrome", "google-chrome-stable"}

// A Browser is one running browser. Its pages share no state. All names below .example are this machine
// to it, though not one that it trusts as it does localhost.
type Browser struct {
	ctx  context.Context
	stop func()
}

// running is the browser that the tests of this process share; starting one takes seconds on a busy machine.
var running struct {
	sync.Mutex
	*Browser
}

// Start returns the browser of this test run, which Main stops. It skips the test where there can be none.
func Start(t testing.TB) *Browser {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped: -short")
	}
	if herdtest.RaceDetector {
		t.Skip("skipped: a browser's deadlines do not fit the race detector")
	}
	path := ""
	for _, name := range names {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("skipped: no browser")
	}
	running.Lock()
	defer running.Unlock()
	if running.Browser == nil {
		b, err := launch(path)
		if err != nil {
			t.Fatalf("start %s: %v", path, err)
		}
		running.Browser = b
	}
	return running.Browser
}

func launch(path string) (*Browser, error) {
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path), chromedp.WSURLReadTimeout(herdtest.Promise(0)),
		chromedp.Flag("disable-gpu", true), chromedp.Flag("force-color-profile", "srgb"), chromedp.Flag("lang", "en"),
		chromedp.Flag("host-resolver-rules", "MAP *.example 127.0.0.1"))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // chromium refuses to run as root with it
	}
	ctx, end := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(ctx)
	stop := func() {
		_ = chromedp.Cancel(ctx) // closes it in good order and waits for it
		cancel()
		end()
	}
	if err := chromedp.Do(ctx); err != nil {
		stop()
		return nil, err
	}
	return &Browser{ctx, stop}, nil
}

// Main is m for TestMain of a package whose tests use Start: its Run stops the browser after the last test.
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(browser.Main(m)) }
func Main(m *testing.M) *Tests { return &Tests{m} }

// Tests is a testing.M with a browser.
type Tests struct{ m *testing.M }

// Run runs the tests, and stops the browser if one of them started it.
func (t *Tests) Run() int {
	code := t.m.Run()
	running.Lock()
	defer running.Unlock()
	if running.Browser != nil {
		running.stop()
		running.Browser = nil
	}
	return code
}

// Options says how a page is opened. The zero value is a page of 1280 × 900 pixels with scripts, in
// light colours.
type Options struct {
	Width, Height int64
	Dark          bool
	NoScript      bool
	Touch         bool

	// Allow matches what may stand in the console nonetheless, such as the lost connection of a
	// server that the test stops.
	Allow *regexp.Regexp
}

// A Page is one page in a tab of its own.
type Page struct {
	t    testing.TB
	ctx  context.Context
	home string // scheme and host of its server

	mu    sync.Mutex
	wrong []string // what it must not do
	bytes int64    // received, as they came over the network
}

// Open opens a page in a new tab with no state of others. When the test ends, it closes the tab and
// fails the test if the page did what no page may do.
func (b *Browser) Open(t testing.TB, address string, o Options) *Page {
	t.Helper()
	if o.Width == 0 {
		o.Width, o.Height = 1280, 900
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	p := &Page{t: t, ctx: ctx, home: u.Scheme + "://" + u.Host}
	t.Cleanup(func() {
		p.Check(o.Allow)
		_ = chromedp.Cancel(ctx)
		cancel()
	})
	if err := chromedp.Listen(ctx, p.hear); err != nil { // opens the tab, too
		t.Fatalf("open a tab: %v", err)
	}
	scheme := "light"
	if o.Dark {
		scheme = "dark"
	}
	p.limited("prepare "+address, func(ctx context.Context) error {
		_, err := chromedp.Call(ctx, network.Enable, network.EnableParams{})
		_, also := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		return errors.Join(err, also)
	})
	viewport := []chromedp.EmulateViewportOption{}
	if o.Touch {
		viewport = append(viewport, chromedp.EmulateMobile, chromedp.EmulateTouch)
	}
	p.Do("set the size", chromedp.EmulateViewport(o.Width, o.Height, viewport...))
	if o.NoScript {
		p.limited("turn scripts off", func(ctx context.Context) error {
			_, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
			return err
		})
	}
	p.Do("open "+address, chromedp.Navigate(address))
	return p
}

// hear notes what the page does that it must not, and how much it receives.
func (p *Page) hear(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning || e.Type == runtime.ConsoleAPICalledTypeAssert {
			text := "console: " + string(e.Type)
			for _, a := range e.Args {
				text += " " + string(a.Value) + a.Description
			}
			p.wrong = append(p.wrong, text)
		}
	case *runtime.EventExceptionThrown:
		p.wrong = append(p.wrong, "exception: "+exception(e.ExceptionDetails))
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			p.wrong = append(p.wrong, fmt.Sprintf("log: %s %s", e.Entry.Text, e.Entry.URL))
		}
	case *network.EventRequestWillBeSent:
		if !strings.HasPrefix(e.Request.URL, p.home+"/") && !strings.HasPrefix(e.Request.URL, "data:") {
			p.wrong = append(p.wrong, "request to "+e.Request.URL)
		}
	case *network.EventDataReceived:
		p.bytes += e.EncodedDataLength
	}
}

func exception(d *runtime.ExceptionDetails) string {
	if d.Exception != nil && d.Exception.Description != "" {
		return d.Exception.Description
	}
	return d.Text
}

// Received returns how many bytes the page has received so far, without headers.
func (p *Page) Received() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes
}

// Wrong returns what the page did that no page may do.
func (p *Page) Wrong() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.wrong)
}

// Check fails the test for each thing that the page did and no page may do; allow may be nil.
func (p *Page) Check(allow *regexp.Regexp) {
	p.t.Helper()
	for _, text := range p.Wrong() {
		if allow == nil || !allow.MatchString(text) {
			p.t.Errorf("%s: %s", p.home, text)
		}
	}
}

// limited runs act, and fails the test with what it was for.
func (p *Page) limited(what string, act func(context.Context) error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, herdtest.Promise(0))
	defer cancel()
	if err := act(ctx); err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
}

// Do runs actions of chromedp, and fails the test with what they were for.
func (p *Page) Do(what string, actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	p.limited(what, func(ctx context.Context) error { return chromedp.Do(ctx, actions...) })
}

// Eval evaluates a JavaScript expression, which may be a promise, as T.
func Eval[T any](p *Page, expression string) (value T) {
	p.t.Helper()
	p.limited("evaluate "+expression, func(ctx context.Context) (err error) {
		value, err = chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
		return err
	})
	return value
}

// Text returns the text of the first element that a selector matches, as it is shown.
func (p *Page) Text(selector string) string {
	p.t.Helper()
	return Eval[string](p, fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector))
}

// Await waits until a JavaScript expression is true, and returns how long that took. It fails the test
// after limit; at says what is shown then.
func (p *Page) Await(limit time.Duration, expression, at string) time.Duration {
	p.t.Helper()
	return herdtest.Eventually(p.t, limit, expression, func() error {
		if Eval[bool](p, "!!("+expression+")") {
			return nil
		}
		return fmt.Errorf("%s is %q", at, p.Text(at))
	})
}

// Picture writes a picture of the whole page to the folder that HERD_PICTURES names, if it names one.
func (p *Page) Picture(name string) {
	p.t.Helper()
	dir := os.Getenv("HERD_PICTURES")
	if dir == "" {
		return
	}
	scrolled := Eval[float64](p, "scrollY") // a picture of the whole page scrolls it
	var picture []byte
	p.limited("picture "+name, func(ctx context.Context) (err error) {
		picture, err = chromedp.Run(ctx, chromedp.FullScreenshot(100))
		return err
	})
	Eval[bool](p, fmt.Sprintf("(scrollTo(0, %v), true)", scrolled))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644); err != nil {
		p.t.Fatal(err)
	}
}
