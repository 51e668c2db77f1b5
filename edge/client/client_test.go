package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"herd/edge/client/clienttest"
	"herd/edge/wire"
)

var noon = time.Unix(1_621_464_827, 959_498_503)

// open returns a Client whose servers are fakes, by their names. It closes the client when the test
// ends.
func open(t *testing.T, cfg Config, fakes ...*clienttest.Fake) *Client {
	t.Helper()
	for _, f := range fakes {
		cfg.Addrs = append(cfg.Addrs, f.Name+":1")
	}
	if cfg.Dial == nil {
		cfg.Dial = pipe(fakes...)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// pipe connects to fakes by name, on port 1.
func pipe(fakes ...*clienttest.Fake) Dialer {
	dial := clienttest.Pipe(fakes...)
	return func(ctx context.Context, addr string) (net.Conn, error) {
		name, _, _ := net.SplitHostPort(addr)
		return dial(ctx, name)
	}
}

func TestAReportAndAQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, Config{}, clienttest.New("Clark"))
		where := Location(34.06893, -118.445127)
		told, err := c.IAMAT(t.Context(), "kiwi", where, noon)
		if err != nil {
			t.Fatal(err)
		}
		if told.Edge != "Clark" || told.Client != "kiwi" || told.Location != where || !told.Time.Equal(noon) || !told.Time.Add(told.Skew).Equal(time.Now()) {
			t.Errorf("%+v", told)
		}
		if lat, lon := told.LatLon(); lat != 34.06893 || lon != -118.445127 {
			t.Errorf("%v %v", lat, lon)
		}
		found, places, err := c.WHATSAT(t.Context(), "kiwi", 9.5, 5)
		if err != nil || found != told || !strings.HasPrefix(string(places), "{") || !strings.HasSuffix(string(places), "}") {
			t.Errorf("%+v, %q, %v", found, places, err)
		}
	})
}

func TestARefusalIsARefusedErrorWithTheCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, Config{}, clienttest.New("Clark"))
		_, _, err := c.WHATSAT(t.Context(), "nobody", 10, 5)
		if refused, ok := errors.AsType[*RefusedError](err); !ok || refused.Text != "WHATSAT nobody 10 5" {
			t.Errorf("%v", err)
		}
		answer, err := c.Do(t.Context(), []byte("HELLO\r\n"))
		if err != nil || !strings.HasPrefix(string(answer), "? HELLO") {
			t.Errorf("%q, %v", answer, err)
		}
	})
}

func TestWhatIsNoCommandIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := clienttest.New("Clark")
		c := open(t, Config{}, f)
		here := Location(1, 1)
		iamat := func(client, location string, at time.Time) error {
			_, err := c.IAMAT(t.Context(), client, location, at)
			return err
		}
		whatsat := func(radius float64, limit int) error {
			_, _, err := c.WHATSAT(t.Context(), "kiwi", radius, limit)
			return err
		}
		for name, err := range map[string]error{
			"C6 two words":     iamat("ki wi", here, noon),
			"C6 a line end":    iamat("kiwi\nIAMAT", here, noon),
			"C6 none":          iamat("", here, noon),
			"C6 a long id":     iamat(strings.Repeat("x", 1025), here, noon),
			"C7 beyond":        iamat("kiwi", Location(91, 0), noon),
			"C7 no number":     iamat("kiwi", Location(math.NaN(), 0), noon),
			"C8 before 1970":   iamat("kiwi", here, time.Unix(0, -1)),
			"C8 the year 9999": iamat("kiwi", here, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)),
			"C8 no time":       iamat("kiwi", here, time.Time{}),
			"C12 radius":       whatsat(50.1, 5),
			"C12 negative":     whatsat(-1, 5),
			"C12 no number":    whatsat(math.Inf(1), 5),
			"C12 max":          whatsat(10, 21),
		} {
			syntax, ok := errors.AsType[*wire.SyntaxError](err)
			rule, _, _ := strings.Cut(name, " ")
			if !errors.Is(err, errField) && (!ok || syntax.Rule != rule) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for line, want := range map[string]error{"a\nb": ErrManyLines, " \n": ErrBlank, "": ErrBlank} {
			if _, err := c.Do(t.Context(), []byte(line)); !errors.Is(err, want) {
				t.Errorf("%q: %v, want %v", line, err, want)
			}
		}
		if f.Lines > 0 {
			t.Errorf("%d lines were sent", f.Lines)
		}
	})
}

func TestLocationsAreValid(t *testing.T) { // C7
	for _, lat := range []float64{0, math.Copysign(0, -1), -1e-9, 90, -90, 34.06893} {
		for _, lon := range []float64{0, math.Copysign(0, -1), -1e-9, 180, -180, 7.25} {
			text := Location(lat, lon)
			gotLat, gotLon, err := wire.ParseLocation([]byte(text))
			if err != nil || math.Abs(gotLat-lat) > 1e-7 || math.Abs(gotLon-lon) > 1e-7 {
				t.Errorf("%v %v is %s: %v", lat, lon, text, err)
			}
		}
	}
}

func TestTimesAreExact(t *testing.T) { // C8
	for ns, want := range map[int64]string{0: "0.000000000", 1: "0.000000001", 1_621_464_827_959_498_503: "1621464827.959498503"} {
		if got := string(AppendTime(nil, ns)); got != want {
			t.Errorf("%d ns are %s, want %s", ns, got, want)
		}
	}
}

func TestWhatManyAskGoesOverOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := clienttest.New("Clark")
		f.Twist = func(_, answer []byte) []byte { time.Sleep(time.Millisecond); return answer }
		var dials atomic.Int32
		dial := pipe(f)
		c := open(t, Config{Pipeline: 20, Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			dials.Add(1)
			return dial(ctx, addr)
		}}, f)
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				id := fmt.Sprint("device-", i)
				if at, err := c.IAMAT(t.Context(), id, Location(1, float64(i)/2), noon); err != nil || at.Client != id {
					t.Errorf("%+v, %v", at, err)
				}
			})
		}
		all.Wait()
		if n := dials.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

// breaks ends the connection at every n-th command, before or after the command took effect.
func breaks(f *clienttest.Fake, every int) {
	var n atomic.Int64
	f.Twist = func(_, answer []byte) []byte {
		if n.Add(1)%int64(every) == 0 {
			return nil
		}
		return answer
	}
}

func TestWhatABrokenConnectionLeftIsSentAgainAtTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clark, jaquez := clienttest.New("Clark"), clienttest.New("Jaquez")
		breaks(clark, 7)
		breaks(jaquez, 11)
		c := open(t, Config{}, clark, clienttest.New("nobody"), jaquez)
		c.cfg.Dial = pipe(clark, jaquez)
		var all sync.WaitGroup
		for i := range 300 {
			all.Go(func() {
				id := fmt.Sprint("device-", i)
				at, err := c.IAMAT(t.Context(), id, Location(1, 2), noon)
				if err != nil || at.Client != id {
					t.Errorf("%+v, %v", at, err)
				}
			})
		}
		all.Wait()
		if clark.Lines == 0 || jaquez.Lines == 0 {
			t.Errorf("%d and %d commands came", clark.Lines, jaquez.Lines)
		}
	})
}

func TestTheCallerMayDecideInsteadOfARepetition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clark, jaquez := clienttest.New("Clark"), clienttest.New("Jaquez")
		breaks(clark, 1)
		c := open(t, Config{NoRepeat: true}, clark, jaquez)
		if _, err := c.IAMAT(t.Context(), "kiwi", Location(1, 2), noon); !errors.Is(err, ErrBroken) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%v, want %v", err, ErrBroken)
		}
		if jaquez.Lines != 0 || clark.Known["kiwi"] == nil {
			t.Error("it was sent again, or had no effect")
		}
		at, err := c.IAMAT(t.Context(), "kiwi", Location(1, 2), noon)
		if err != nil || at.Edge != "Jaquez" {
			t.Errorf("%+v, %v", at, err)
		}
	})
}

func TestACallEndsWithItsContextAndSaysWhatTheConnectionsEndedWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := errors.New("nobody there")
		c := open(t, Config{Dial: func(context.Context, string) (net.Conn, error) { return nil, refused }}, clienttest.New("Clark"))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		_, err := c.IAMAT(ctx, "kiwi", Location(1, 2), noon)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, refused) || !strings.Contains(err.Error(), "Clark:1") {
			t.Errorf("%v", err)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("after %v", took)
		}
		if len(c.room) > 0 {
			t.Error("it still takes room")
		}
	})
}

func TestAnAnswerThatNobodyWaitsForIsNobodyElses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := clienttest.New("Clark")
		f.Twist = func(_, answer []byte) []byte { time.Sleep(time.Second); return answer }
		c := open(t, Config{Pipeline: 2}, f)
		for i := range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
			if _, err := c.IAMAT(ctx, "impatient", Location(1, 2), noon); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
			cancel()
			id := fmt.Sprint("patient-", i)
			if at, err := c.IAMAT(t.Context(), id, Location(1, 2), noon); err != nil || at.Client != id {
				t.Errorf("%+v, %v", at, err)
			}
		}
	})
}

func TestASilentEdgeIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clark, jaquez := clienttest.New("Clark"), clienttest.New("Jaquez")
		silence := make(chan struct{})
		clark.Twist = func(_, _ []byte) []byte { <-silence; return nil }
		defer close(silence)
		c := open(t, Config{Timeout: 3 * time.Second}, clark, jaquez)
		start := time.Now()
		at, err := c.IAMAT(t.Context(), "kiwi", Location(1, 2), noon)
		if took := time.Since(start); err != nil || at.Edge != "Jaquez" || took != 3*time.Second {
			t.Errorf("%+v, %v, after %v", at, err, took)
		}
	})
}

func TestAnIdleConnectionThatWasClosedIsMadeAnewAtTheSameEdge(t *testing.T) { // C18
	synctest.Test(t, func(t *testing.T) {
		clark, jaquez := clienttest.New("Clark"), clienttest.New("Jaquez")
		var far net.Conn
		dial := pipe(clark, jaquez)
		c := open(t, Config{Timeout: time.Second, Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			edge, err := dial(ctx, addr)
			if err != nil {
				return nil, err
			}
			var near net.Conn
			near, far = net.Pipe()
			go func(far net.Conn) { io.Copy(edge, far); edge.Close() }(far)
			go func(far net.Conn) { io.Copy(far, edge); far.Close() }(far)
			return near, nil
		}}, clark, jaquez)
		for range 5 {
			if at, err := c.IAMAT(t.Context(), "kiwi", Location(1, 2), noon); err != nil || at.Edge != "Clark" {
				t.Fatalf("%+v, %v", at, err)
			}
			time.Sleep(time.Minute) // idle for longer than Timeout
			far.Close()
			synctest.Wait()
		}
	})
}

func TestAStreamThatIsOutOfStepIsLeft(t *testing.T) { // C1
	synctest.Test(t, func(t *testing.T) {
		clark, jaquez := clienttest.New("Clark"), clienttest.New("Jaquez")
		clark.Twist = func(_, answer []byte) []byte {
			return append([]byte("AT Clark +0.000000000 emu +1+1 1.000000000\n"), answer...)
		}
		c := open(t, Config{}, clark, jaquez)
		if at, err := c.IAMAT(t.Context(), "kiwi", Location(1, 2), noon); err != nil || at.Edge != "Jaquez" {
			t.Errorf("%+v, %v", at, err)
		}
	})
}

func TestCloseEndsCallsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := clienttest.New("Clark")
		silence := make(chan struct{})
		f.Twist = func(_, answer []byte) []byte { <-silence; return nil }
		c := open(t, Config{Pipeline: 1}, f)
		errs := make(chan error, 3)
		for range 3 {
			go func() {
				_, err := c.IAMAT(t.Context(), "kiwi", Location(1, 2), noon)
				errs <- err
			}()
		}
		synctest.Wait()
		c.Close()
		for range 3 {
			if err := <-errs; !errors.Is(err, ErrClosed) {
				t.Errorf("%v, want %v", err, ErrClosed)
			}
		}
		if _, err := c.Do(t.Context(), []byte("x")); !errors.Is(err, ErrClosed) {
			t.Errorf("%v, want %v", err, ErrClosed)
		}
		c.Close()
		close(silence)
	})
}

func TestNewRefusesWhatIsNoAddress(t *testing.T) {
	for _, cfg := range []Config{{}, {Addrs: []string{"localhost"}}, {Addrs: []string{"a:1"}, Timeout: -1}, {Addrs: []string{"a:1"}, Pipeline: -1}} {
		if c, err := New(cfg); err == nil {
			c.Close()
			t.Errorf("%+v was taken", cfg)
		}
	}
}

func BenchmarkCalls(b *testing.B) { // the fake's work counts too
	c, err := New(Config{Addrs: []string{clienttest.New("Clark").Listen(b, nil)}})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.IAMAT(context.Background(), "kiwi", "+34.068930-118.445127", noon); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// An edge that closes each connection at once, before the first command was sent over it, is asked
// again after a pause and at the next address, like one that cannot be reached.
func TestAConnectionClosedAtOnceServedNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, Config{Dial: func(context.Context, string) (net.Conn, error) {
			near, far := net.Pipe()
			far.Close()
			return near, nil
		}}, clienttest.New("Clark"))
		if _, err := c.connect(t.Context(), "Clark:1"); !errors.Is(err, errIdle) { // nothing waits to be sent
			t.Errorf("%v", err)
		}
	})
}
