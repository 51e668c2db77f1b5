package test

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"herd/test/herdtest"
)

// A phoneConn is a connection of one phone to the port for devices, on which it asks one thing after the other.
type phoneConn struct {
	net.Conn
	r    *bufio.Reader
	addr string
}

// dialPhone connects from 127.0.x.y, which is an address of its own to the edge.
func dialPhone(ctx context.Context, addr string, x, y byte) (*phoneConn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, x, y)}}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &phoneConn{nc, bufio.NewReader(nc), addr}, nil
}

// ask reports a position with a user's password.
func (c *phoneConn) ask(user, password, query string) (status int, header http.Header, err error) {
	c.SetDeadline(time.Now().Add(herdtest.Promise(0)))
	login := ""
	if user != "" {
		login = "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)) + "\r\n"
	}
	if _, err := fmt.Fprintf(c, "POST /?%s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: 0\r\n\r\n", query, c.addr, login); err != nil {
		return 0, nil, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header, err
}

// A phoneUser is one who reports with a password.
type phoneUser struct{ name, password string }

// times are how long requests took.
type times []time.Duration

func (all times) at(share float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(all))[int(float64(len(all)-1)*share)]
}

func (all times) String() string {
	return fmt.Sprintf("%d requests, p50 %v, p99 %v, slowest %v", len(all), all.at(0.5).Round(time.Microsecond), all.at(0.99).Round(time.Microsecond), all.at(1).Round(time.Microsecond))
}

// phones has each user report 20 times a second until the context ends, and returns how long that took. All
// must be answered 200.
func phones(ctx context.Context, t *testing.T, addr string, users []phoneUser) times {
	t.Helper()
	var mu sync.Mutex
	var took times
	var all sync.WaitGroup
	for i, user := range users {
		c, err := dialPhone(t.Context(), addr, 201, byte(1+i))
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			defer c.Close()
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for n := 0; ; n++ {
				begun := time.Now()
				status, _, err := c.ask(user.name, user.password, fmt.Sprintf("id=good%d&lat=50&lon=%d.5", i, n%100))
				if err != nil || status != 200 {
					t.Errorf("a good request is answered %d, %v", status, err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(begun))
				mu.Unlock()
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	all.Wait()
	return took
}

// unhindered judges good requests by the same without what is going on.
func unhindered(t *testing.T, without, with times) {
	t.Helper()
	t.Logf("without: %v", without)
	t.Logf("with:    %v", with)
	if most := max(20*without.at(0.99), time.Second); with.at(0.99) > most {
		t.Errorf("p99 of good requests is %v, and %v without what is going on", with.at(0.99), without.at(0.99))
	}
}

// C18, V5: a thousand wrong passwords a second, from several addresses, keep nobody from reporting, known
// users and such as log in for the first time; a guess that has no turn is told to come again, and that says nothing
// of the password; and no more is kept of them than of others.
func TestAThousandGuessesASecondHarmNobodyElse(t *testing.T) {
	const cost, perSecond, addresses, conns = bcrypt.DefaultCost, 1000, 4, 100
	var text []byte
	var known, fresh []phoneUser
	add := func(name string) phoneUser {
		hash, err := bcrypt.GenerateFromPassword([]byte("secret of "+name), cost)
		if err != nil {
			t.Fatal(err)
		}
		text = fmt.Appendf(text, "%s:%s\n", name, hash)
		return phoneUser{name, "secret of " + name}
	}
	for i := range 5 {
		known, fresh = append(known, add(fmt.Sprint("known", i))), append(fresh, add(fmt.Sprint("fresh", i)))
	}
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark", Each: withDevices, Env: map[string]string{"HERD_DEVICES_USERS": file}})
	e := h.Edges["Clark"]
	addr := e.Env["HERD_DEVICES"]
	phones(cancelled, t, addr, known) // each is right once, and remembered
	span := size(2*time.Second, 10*time.Second)
	alone, cancel := context.WithTimeout(t.Context(), span)
	defer cancel()
	without := phones(alone, t, addr, known)
	memory := e.Memory()

	during, over := context.WithCancel(t.Context())
	defer over()
	var good sync.WaitGroup
	var with times
	good.Go(func() { with = phones(during, t, addr, known) })

	guesses := make(chan int)
	var said [600]atomic.Int64
	var guessing sync.WaitGroup
	begun := time.Now()
	for i := range conns {
		c, err := dialPhone(t.Context(), addr, 202, byte(1+i%addresses))
		if err != nil {
			t.Fatal(err)
		}
		guessing.Go(func() {
			defer c.Close()
			for n := range guesses {
				// Of known users, of such as are not known yet, and of nobody.
				name := []string{"known", "fresh", "nobody"}[n%3] + fmt.Sprint(n%5)
				status, header, err := c.ask(name, fmt.Sprint("guess ", n), "id=evil&lat=1&lon=2")
				if err != nil {
					t.Errorf("a guess is answered %v", err)
					continue
				}
				said[status].Add(1)
				if status == 503 && header.Get("Retry-After") == "" {
					t.Error("a guess that has no turn is not told when to come again")
				}
			}
		})
	}
	// Those who log in for the first time do so one after the other, and come again where they are told to.
	tried := 0
	good.Go(func() {
		for i, user := range fresh {
			c, err := dialPhone(t.Context(), addr, 203, byte(1+i))
			if err != nil {
				t.Error(err)
				return
			}
			status := 503
			for begun := time.Now(); status == 503 && time.Since(begun) < herdtest.Promise(5*time.Second); tried++ {
				if status, _, err = c.ask(user.name, user.password, "id=first&lat=1&lon=2"); err != nil {
					t.Error(err)
				}
			}
			if status != 200 {
				t.Errorf("%s, who logs in for the first time, is answered %d", user.name, status)
			}
			c.Close()
		}
	})
	n := perSecond * int(span/time.Second)
	peak, tick := memory, time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for i := range n {
		if i%(perSecond/100) == 0 {
			<-tick.C
			if i%perSecond == 0 {
				peak = max(peak, e.Memory())
			}
		}
		guesses <- i
	}
	close(guesses)
	guessing.Wait()
	took := time.Since(begun)
	over()
	good.Wait()
	peak = max(peak, e.Memory())

	denied, later := said[401].Load(), said[503].Load()
	t.Logf("%d guesses in %v: %d were checked, %d had no turn; %d who logged in for the first time asked %d times", n, took.Round(time.Millisecond), denied, later, len(fresh), tried)
	unhindered(t, without, with)
	if denied == 0 || later == 0 || denied+later != int64(n) {
		t.Errorf("of %d guesses %d are denied and %d are told to come again", n, denied, later)
	}
	// One is checked at a time, at a cost for which a quick machine takes 40 ms: more would be refused without a check.
	if most := int64(took/(10*time.Millisecond)) + 1; denied > most {
		t.Errorf("%d guesses are denied; there was time to check %d at most", denied, most)
	}
	// The race detector needs memory of its own and does not free it.
	if grown := peak - memory; grown > 64<<20 && !herdtest.RaceDetector {
		t.Errorf("the edge takes %d MiB more", grown>>20)
	}
	held, err := herdtest.Held(e.Addr, []string{"known0/evil", "fresh0/evil", "nobody0/evil", "evil"})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range held {
		if line != "" {
			t.Errorf("a guess has reported %s", line)
		}
	}
}

// cancelled is a context that has ended.
var cancelled = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()
