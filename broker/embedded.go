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

// EmbeddedConfig configures an embedded NATS server.
type EmbeddedConfig struct {
	Name         string        // name of the server
	Listen       string        // "host:port" to listen on, port 0 for any; "" means none
	StoreDir     string        // directory of JetStream, used by one server only; "" means no JetStream
	SyncInterval time.Duration // how often JetStream syncs; 0 means 2m
	SyncAlways   bool          // JetStream syncs each write
	Log          *slog.Logger  // nil: no log
}

// Embedded is a NATS server inside this process.
type Embedded struct {
	server *server.Server
	lock   *os.File // lock of StoreDir; nil without StoreDir
	url    string
	stop   sync.Once
}

const readyTimeout = 10 * time.Second

// StartEmbedded starts a server and returns when it is ready. The error has the server's own
// text; it also matches syscall.EADDRINUSE if the address is in use.
func StartEmbedded(cfg EmbeddedConfig) (*Embedded, error) {
	o := &server.Options{ // new each time, because NewServer writes to it
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
	if cfg.Listen != "" {
		host, text, err := net.SplitHostPort(cfg.Listen)
		if err != nil {
			return nil, fmt.Errorf("listen on %q: %w", cfg.Listen, err)
		}
		port, err := strconv.Atoi(text)
		if err != nil || port < server.RANDOM_PORT || port > 65535 {
			return nil, fmt.Errorf("listen on %q: port %q is not between 0 and 65535", cfg.Listen, text)
		}
		o.Host = host
		if port > 0 {
			o.Port = port
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
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
	s.SetLoggerV2(words, false, false, false) // without it, a failed start is silent
	s.Start()
	if err := awaitReady(s, words.fatal); err != nil {
		e.Shutdown()
		if !o.DontListen {
			err = &startError{words: err, cause: listenError(o.Host, o.Port)}
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

// A startError has the server's text and its cause.
type startError struct{ words, cause error }

func (e *startError) Error() string { return e.words.Error() }
func (e *startError) Unwrap() error { return e.cause }

// listenError finds the cause of an error that the server reports only as text: why it cannot
// listen there. It returns nil if it can.
func listenError(host string, port int) error {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(max(port, 0))))
	if err != nil {
		return err
	}
	return l.Close()
}

// lockDir locks dir for this process until the file is closed. The server itself does not
// prevent two servers from using it.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("nats server's directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock nats server's directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: another server uses this directory: %w", dir, err)
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

// URL returns the URL of the server, or "" if it does not listen.
func (e *Embedded) URL() string { return e.url }

// Dial makes a connection to the server inside this process; see [Dial].
func (e *Embedded) Dial(name string, ev Events, log *slog.Logger) (*Conn, error) {
	s := settings()
	if err := nats.InProcessServer(e.server)(&s); err != nil {
		return nil, fmt.Errorf("in-process connection: %w", err)
	}
	return dial(s, "", "in-process "+e.server.Name(), name, ev, log), nil
}

// Shutdown stops the server and returns when it has ended. Close connections to it first,
// otherwise they keep trying to reconnect.
func (e *Embedded) Shutdown() {
	e.stop.Do(func() {
		e.server.Shutdown()
		e.server.WaitForShutdown()
		e.unlock()
	})
}

// serverLog writes the server's log to slog. Its ordinary messages have the level debug.
type serverLog struct {
	log     *slog.Logger
	fatal   chan string // why the start failed; holds the first reason
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

// Fatalf does not end the process, which the server does not own.
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
