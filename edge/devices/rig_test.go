package devices

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"

	"herd/edge/command"
	"herd/edge/position"
	"herd/edge/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A rig is a listener over a real table.
type rig struct {
	t       *testing.T
	s       *Server
	table   *position.Table
	addr    string
	stop    context.CancelFunc
	ended   chan error
	journal *journal
	log     *syncBuffer
	rec     *recorder
}

// A rigged changes what a rig is made with.
type rigged struct {
	users      string // lines of the file of users
	see        bool   // all
	journalled bool
	closed     bool // not opened
	max        int  // clients
	conns      int
	origins    []string
	lines      server.Config
	stop       time.Duration
	tls        *tls.Config
	page       http.Handler
	broken     bool                            // sessions panic
	listen     func(net.Listener) net.Listener // to listen otherwise
}

func start(t *testing.T, o rigged) *rig {
	t.Helper()
	r := &rig{t: t, ended: make(chan error, 1), log: new(syncBuffer), rec: new(recorder)}
	r.table = position.New(position.Config{MaxClients: o.max, Journal: o.journalled})
	commands := command.Config{
		Edge: "Clark", Table: r.table, Finder: noPlaces{}, PlacesTimeout: time.Second, JournalTimeout: 5 * time.Second,
		Wall: func(time.Time) int64 { return now },
	}
	if o.journalled {
		r.journal = &journal{says: make(chan error)}
		commands.Journal = r.journal
	}
	h := command.New(commands)
	o.lines.Recorder = r.rec
	o.lines.DrainTimeout = 50 * time.Millisecond
	cfg := Config{
		Lines: o.lines, Gate: server.NewGate(server.GateConfig{MaxConns: o.conns}), TLS: o.tls,
		Caller: func(from netip.Addr, who Who) *command.Caller {
			if who.User != "" {
				return h.CallerOf(from, who.User, o.see)
			}
			return h.Caller(from)
		},
		Session: func(c *command.Caller) server.Session {
			if o.broken {
				panic("no session")
			}
			s := c.Session()
			s.Marked = true
			return session{s}
		},
		Wall: func(time.Time) int64 { return now }, Origins: o.origins, StopTimeout: o.stop, Page: o.page,
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if o.users != "" {
		cfg.Users = filepath.Join(t.TempDir(), "users")
		if err := os.WriteFile(cfg.Users, []byte(o.users), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if r.s, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = ln.Addr().String()
	if o.listen != nil {
		ln = o.listen(ln)
	}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	go func() { r.ended <- r.s.Serve(ctx, ln) }()
	if !o.closed {
		r.s.Open()
	}
	t.Cleanup(func() {
		r.stop()
		if r.ended != nil {
			if err := <-r.ended; err != nil {
				t.Errorf("it ends with %v", err)
			}
		}
	})
	return r
}

type session struct{ *command.Session }

func (s session) Take(received time.Time, lines []byte, out *server.Answers) int {
	return s.Session.Take(received, lines, out)
}
func (s session) Overlong(received time.Time, head, tail []byte, out *server.Answers) {
	s.Session.Overlong(received, head, tail, out)
}

type noPlaces struct{}

func (noPlaces) Find(context.Context, command.Query) []byte {
	return []byte("{\n\"status\": \"ZERO_RESULTS\"\n}")
}
func (f noPlaces) FindNow(q command.Query) ([]byte, bool) {
	return f.Find(context.Background(), q), true
}

// A journal says of each wait what the test says, and keeps to the context meanwhile.
type journal struct {
	says  chan error
	never string // a client of which it never takes a line
	away  string // a client of which it does not take a line now
	table *position.Table
	asked atomic.Int32
}

func (j *journal) Await(ctx context.Context, _ command.Peer, lines []position.Ref) error {
	j.asked.Add(1)
	if j.never != "" {
		has := func(client string) bool {
			return slices.ContainsFunc(lines, func(x position.Ref) bool { return string(j.table.AppendClient(nil, x.Slot)) == client })
		}
		switch {
		case has(j.never):
			return command.ErrNever
		case has(j.away):
			return errors.New("away")
		}
		return nil
	}
	select {
	case err := <-j.says:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// A recorder is a transcript in memory.
type recorder struct{ syncBuffer }

func (r *recorder) Opened(_ time.Time, _ string)             { r.Write([]byte("+ connected\n")) }
func (r *recorder) Closed(_ time.Time, _, why string)        { r.Write([]byte("- closed: " + why + "\n")) }
func (r *recorder) Certified(_ time.Time, _, subject string) { r.Write([]byte("+ " + subject + "\n")) }
func (r *recorder) In(_ time.Time, _ string, lines []byte)   { r.Write(append([]byte("> "), lines...)) }
func (r *recorder) Out(_ time.Time, _ string, lines []byte)  { r.Write(append([]byte("< "), lines...)) }

// A wire is one raw connection.
type rawConn struct {
	t  *testing.T
	nc net.Conn
	r  *bufio.Reader
}

func (r *rig) dial() *rawConn {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(3 * time.Minute))
	return &rawConn{r.t, nc, bufio.NewReader(nc)}
}

func (c *rawConn) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.nc, text); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads one answer.
func (c *rawConn) answer() (status int, body string, header http.Header) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

// once sends one request on a connection of its own.
func (r *rig) once(request string) (status int, body string, header http.Header) {
	r.t.Helper()
	c := r.dial()
	defer c.nc.Close()
	c.send(request)
	return c.answer()
}

func (r *rig) get(target string, headers ...string) int {
	r.t.Helper()
	status, _, _ := r.once("GET " + target + " HTTP/1.1\r\nHost: " + r.addr + "\r\n" + strings.Join(headers, "") + "\r\n")
	return status
}

func post(target, body string, headers ...string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %d\r\n\r\n%s", target, strings.Join(headers, ""), len(body), body)
}

// held is the line held of a client; "" for none.
func (r *rig) held(client string) string {
	op := make([]position.Op, 1)
	r.table.PrepareGet(&op[0], []byte(client))
	r.table.Apply(0, position.Source{}, op)
	return strings.TrimSuffix(string(op[0].Line), "\n")
}

func (r *rig) clients() int { n, _, _ := r.table.Stats(); return n }

func (r *rig) counted(positions bool, app App, o Outcome) uint64 {
	if positions {
		return r.s.count.positions[app][o].Load()
	}
	return r.s.count.requests[app][o].Load()
}

func hashed(t *testing.T, name, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return name + ":" + strings.Replace(string(hash), "$2a$", "$2y$", 1) + "\n" // as htpasswd writes it
}

func basic(name, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password)) + "\r\n"
}

// await waits for what comes about by itself.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}
