package broker_test

import (
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"herd/broker"
	"herd/broker/brokertest"
)

func start(t *testing.T, cfg broker.EmbeddedConfig) *broker.Embedded {
	t.Helper()
	cfg.Name, cfg.Log = "test", brokertest.Log(t)
	e, err := broker.StartEmbedded(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Shutdown)
	return e
}

func TestAServerWithoutAListenerIsForThisProcessAlone(t *testing.T) {
	e := start(t, broker.EmbeddedConfig{})
	if e.URL() != "" {
		t.Errorf("it listens on %s", e.URL())
	}
	w := newWitness()
	c, err := e.Dial("Clark", w.events(), brokertest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	take(t, w.connected, "connection")
	if err := c.Alive(soon(t)); err != nil {
		t.Error(err)
	}
	if want := "in-process test"; c.Server() != want {
		t.Errorf("connected to %q, want %q", c.Server(), want)
	}
	if err := c.Reconnect(); err != nil {
		t.Fatal(err)
	}
	take(t, w.connected, "second connection")
	e.Shutdown()
	take(t, w.disconnected, "loss of the connection")
}

func TestAServerWithAListenerIsForOthersToo(t *testing.T) {
	for _, port := range []string{"0", "-1"} {
		e := start(t, broker.EmbeddedConfig{Listen: "127.0.0.1:" + port})
		u, err := url.Parse(e.URL())
		if err != nil || u.Scheme != "nats" || u.Hostname() != "127.0.0.1" || u.Port() == port {
			t.Fatalf("port %s: it listens on %q, %v", port, e.URL(), err)
		}
		c, _ := connect(t, e.URL())
		if c.Server() != e.URL() {
			t.Errorf("connected to %q, want %q", c.Server(), e.URL())
		}
		c.Close()
	}
}

func TestAnOccupiedPortIsNamed(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	log := &memory{}
	_, err = broker.StartEmbedded(broker.EmbeddedConfig{Name: "test", Listen: taken.Addr().String(), Log: text(log)})
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v, want %v", err, syscall.EADDRINUSE)
	}
	if err == nil || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("got %v, want the address in it", err)
	}
	if strings.Contains(log.String(), "ERROR") {
		t.Errorf("it is also logged:\n%s", log)
	}
}

func TestNonsensicalAddressesAreRefused(t *testing.T) {
	for _, listen := range []string{"127.0.0.1", "127.0.0.1:nats", "127.0.0.1:65536", "127.0.0.1:-2", "4222"} {
		e, err := broker.StartEmbedded(broker.EmbeddedConfig{Name: "test", Listen: listen, Log: brokertest.Log(t)})
		if err == nil {
			e.Shutdown()
			t.Errorf("%q is accepted", listen)
		} else if !strings.Contains(err.Error(), listen) {
			t.Errorf("%q: %v does not name it", listen, err)
		}
	}
}

func TestAFolderIsOneServersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "nats")
	e := start(t, broker.EmbeddedConfig{StoreDir: dir, SyncInterval: time.Minute})
	_, err := broker.StartEmbedded(broker.EmbeddedConfig{Name: "second", StoreDir: dir, Log: brokertest.Log(t)})
	if err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second server on the folder: %v", err)
	}
	e.Shutdown()
	e.Shutdown()
	start(t, broker.EmbeddedConfig{StoreDir: dir, SyncAlways: true})
}

func TestAFolderThatCannotBeUsedIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := broker.StartEmbedded(broker.EmbeddedConfig{Name: "test", StoreDir: file, Log: brokertest.Log(t)}); err == nil {
		t.Error("a file is accepted for a folder")
	}
	dir := t.TempDir() // the directory can be locked, but not used as the store
	if err := os.WriteFile(filepath.Join(dir, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := broker.StartEmbedded(broker.EmbeddedConfig{Name: "test", StoreDir: dir, Log: brokertest.Log(t)})
	if err == nil || !strings.Contains(err.Error(), "JetStream") {
		t.Errorf("got %v, want the server's words", err)
	}
}

func TestStateOutlivesAServer(t *testing.T) {
	s := brokertest.Start(t, brokertest.JetStream)
	nc := operator(t, s.URL())
	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := js.CreateKeyValue(&nats.KeyValueConfig{Bucket: "herd_Clark"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bucket.PutString("kiwi", "AT"); err != nil {
		t.Fatal(err)
	}
	nc.Close()
	address := s.URL()
	s.Restart()
	if s.URL() != address {
		t.Errorf("it listens on %s, before on %s", s.URL(), address)
	}
	if js, err = operator(t, s.URL()).JetStream(); err != nil {
		t.Fatal(err)
	}
	if bucket, err = js.KeyValue("herd_Clark"); err != nil {
		t.Fatal(err)
	}
	if e, err := bucket.Get("kiwi"); err != nil || string(e.Value()) != "AT" {
		t.Errorf("got %v, %v", e, err)
	}
}

func TestAHealthyServerIsQuiet(t *testing.T) {
	log := &memory{}
	e, err := broker.StartEmbedded(broker.EmbeddedConfig{Name: "test", Listen: "127.0.0.1:0", StoreDir: t.TempDir(), Log: text(log)})
	if err != nil {
		t.Fatal(err)
	}
	e.Shutdown()
	if log.String() != "" {
		t.Errorf("it says, above debugging:\n%s", log)
	}
}
