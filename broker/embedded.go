package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"
)

// EmbeddedConfig is that of a NATS server inside this process.
type EmbeddedConfig struct {
	Name         string        // of the server
	Listen       string        // "host:port" for others to connect to, port 0 for any; "" for none
	StoreDir     string        // of JetStream, which is off where this is ""; one server's alone
	SyncInterval time.Duration // of JetStream; 0 is 2m
	SyncAlways   bool          // JetStream syncs each write
	Log          *slog.Logger
}

// Embedded is a NATS server inside this process.
type Embedded struct {
	server *server.Server
	lock   *os.File // of StoreDir; nil without
	url    string
	stop   sync.Once
}

const readyTimeout = 10 * time.Second

// StartEmbedded starts a server and returns when it is ready. The error has
// the server's own words; it is also a syscall.EADDRINUSE where the address is
// taken.
func StartEmbedded(cfg EmbeddedConfig) (*Embedded, error) {
	o := &server.Options{ // a fresh one each time: NewServer writes to it
		ServerName:             cfg.Name,
		Host:                   "127.0.0.1",
		Port:                   server.RANDOM_PORT,
		DontListen:             cfg.Listen == "",
		NoSigs:                 true,
		JetStream:              cfg.StoreDir != "",
		StoreDir:               cfg.StoreDir,
		SyncInterval:           cfg.SyncInterval,
		SyncAlways:             cfg.SyncAlways,
		DisableJetStreamBanner: true,
	}
	host, port := "", 0
	if cfg.Listen != "" {
		var err error
		if host, port, err = splitListen(cfg.Listen); err != nil {
			return nil, fmt.Errorf("listen on %q: %w", cfg.Listen, err)
		}
		o.Host, o.Port = host, port
	}
	e := &Embedded{}
	if cfg.StoreDir != "" {
		var err error
		if e.lock, err = lockDir(cfg.StoreDir); err != nil {
			return nil, err
		}
	}
	s, err := server.NewServer(o)
	if err != nil {
		e.unlock()
		return nil, fmt.Errorf("nats server: %w", err)
	}
	e.server = s
	words := &serverLog{log: cfg.Log, fatal: make(chan string, 1)}
	s.SetLoggerV2(words, false, false, false) // without it, a failing start says nothing (NATS.md 0.5)
	s.Start()
	if err := awaitReady(s, words.fatal); err != nil {
		e.Shutdown()
		if !o.DontListen {
			err = &startError{words: err, cause: listenError(host, port)}
		}
		return nil, err
	}
	words.started.Store(true)
	if !o.DontListen {
		e.url = s.ClientURL()
	}
	return e, nil
}

func awaitReady(s *server.Server, fatal <-chan string) error {
	for end := time.Now().Add(readyTimeout); time.Now().Before(end); {
		ready := s.ReadyForConnections(20 * time.Millisecond)
		select {
		case text := <-fatal:
			return fmt.Errorf("nats server: %s", text)
		default:
		}
		if ready {
			return nil
		}
	}
	return fmt.Errorf("nats server: not ready within %v", readyTimeout)
}

// splitListen reads "host:port". Port 0 is any, which the server calls -1.
func splitListen(text string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(text)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(p)
	if err != nil || port < -1 || port > 65535 {
		return "", 0, fmt.Errorf("port %q is not one of 0 to 65535", p)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

// A startError is told in the server's words, and is what they mean.
type startError struct{ words, cause error }

func (e *startError) Error() string { return e.words.Error() }
func (e *startError) Unwrap() error { return e.cause }

// listenError finds out as an error what the server only says in words: why
// nobody can listen there. nil where one can.
func listenError(host string, port int) error {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(max(port, 0))))
	if err != nil {
		return err
	}
	return l.Close()
}

// lockDir makes dir this process's own until the file is closed: the server
// itself would share it with another without a word (NATS.md 1).
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("nats server's folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock nats server's folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: another server uses this folder: %w", dir, err)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}

func (e *Embedded) unlock() {
	if e.lock != nil {
		e.lock.Close()
	}
}

// URL is where others connect to the server; "" when it does not listen.
func (e *Embedded) URL() string { return e.url }

// Dial makes a connection to the server that does not leave this process; see
// [Dial].
func (e *Embedded) Dial(name string, ev Events, log *slog.Logger) (*Conn, error) {
	s := settings()
	if err := nats.InProcessServer(e.server)(&s); err != nil {
		return nil, fmt.Errorf("in-process connection: %w", err)
	}
	return dial(s, "", "in-process "+e.server.Name(), name, ev, log), nil
}

// Shutdown stops the server and returns when it is gone. Close the connections
// first, or they try to reconnect until they are.
func (e *Embedded) Shutdown() {
	e.stop.Do(func() {
		e.server.Shutdown()
		e.server.WaitForShutdown()
		e.unlock()
	})
}

// serverLog writes the server's log to slog. What it has to say when all is
// well is for debugging.
type serverLog struct {
	log     *slog.Logger
	fatal   chan string // why the start failed; holds the first
	started atomic.Bool
}

func (l *serverLog) write(level slog.Level, format string, v []any) {
	if ctx := context.Background(); l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, "nats server", "says", fmt.Sprintf(format, v...))
	}
}

func (l *serverLog) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }
func (l *serverLog) Debugf(format string, v ...any)  { l.write(slog.LevelDebug, format, v) }
func (l *serverLog) Tracef(format string, v ...any)  { l.write(slog.LevelDebug, format, v) }
func (l *serverLog) Warnf(format string, v ...any)   { l.write(slog.LevelWarn, format, v) }
func (l *serverLog) Errorf(format string, v ...any)  { l.write(slog.LevelError, format, v) }

// Fatalf does not end the process, which is not the server's.
func (l *serverLog) Fatalf(format string, v ...any) {
	if !l.started.Load() {
		select {
		case l.fatal <- fmt.Sprintf(format, v...): // StartEmbedded returns it
			return
		default:
		}
	}
	l.write(slog.LevelError, format, v)
}
