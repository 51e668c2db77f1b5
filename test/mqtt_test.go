package test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"herd/test/herdtest"
	"herd/test/ports"
)

// confBlock matches a configuration in a document; its first line names the file.
var confBlock = regexp.MustCompile("(?ms)^```conf\n# (\\S+)\n(.*?)^```$")

// The addresses of the section of deploy/README.md on MQTT.
const (
	docNATS, docLeafNATS, docLeaves, docMQTT = "127.0.0.1:4222", "127.0.0.1:4223", "127.0.0.1:7422", "127.0.0.1:1883"
)

// A recipe is deploy/README.md's section on MQTT with its configurations in a folder, as it stands but
// for the addresses.
type recipe struct {
	t        *testing.T
	dir      string
	addrs    map[string]string // by the document's
	commands []string
}

func newRecipe(t *testing.T) *recipe {
	t.Helper()
	r := &recipe{t: t, dir: t.TempDir(), addrs: map[string]string{}}
	text := section(t, "deploy/README.md", "Devices over MQTT")
	r.commands = commandsInOrder(text)
	var replace []string
	for _, addr := range []string{docNATS, docLeafNATS, docLeaves, docMQTT} {
		if !strings.Contains(text, addr) {
			t.Fatalf("the section does not say %s", addr)
		}
		r.addrs[addr] = ports.Addr(t)
		replace = append(replace, addr, r.addrs[addr])
	}
	for _, m := range confBlock.FindAllStringSubmatch(text, -1) {
		file := filepath.Join(r.dir, m[1])
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(strings.NewReplacer(replace...).Replace(m[2])), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// serve runs one of the section's commands that start a server, and returns when it listens where it
// is asked to.
func (r *recipe) serve(command, listens string) {
	r.t.Helper()
	if !slices.Contains(r.commands, command) {
		r.t.Fatalf("the section has no %q, but %q", command, r.commands)
	}
	// The configurations' paths begin in the folder, and only the shell's own child is to be left.
	script := `cd "$1" && ` + strings.Replace(strings.TrimSuffix(command, " &"), "nats-server ", `exec "$2" `, 1)
	p := herdtest.StartChild(r.t, command, "/bin/sh", nil, "-c", script, "sh", r.dir, herdtest.Binary(r.t, "nats-server"))
	herdtest.Eventually(r.t, herdtest.Promise(20*time.Second), command+" listens", func() error {
		nc, err := net.DialTimeout("tcp", r.addrs[listens], time.Second)
		if err != nil && !p.Running() {
			r.t.Fatalf("%s ended", command)
		}
		if err != nil {
			return fmt.Errorf("%w: %s", err, p.Stderr.Tail())
		}
		return nc.Close()
	})
}

// edge starts an edge of the topology Clark-Jaquez at the recipe's broker.
func (r *recipe) edge(name string, env map[string]string) *herdtest.EdgeProcess {
	r.t.Helper()
	e := &herdtest.EdgeProcess{T: r.t, Name: name, Env: map[string]string{
		"HERD_EDGE": name, "HERD_TOPOLOGY": "Clark-Jaquez", "NATS_URL": "nats://" + r.addrs[docNATS]}}
	for k, v := range env {
		e.Env[k] = v
	}
	e.ChoosePorts()
	e.Start()
	return e
}

// device returns a device that speaks MQTT 3.1.1 and nothing else.
func (r *recipe) device(user, password string) (mqtt.Client, error) {
	r.t.Helper()
	o := mqtt.NewClientOptions().AddBroker("tcp://" + r.addrs[docMQTT]).SetClientID("device-" + user).SetProtocolVersion(4).
		SetUsername(user).SetPassword(password).SetAutoReconnect(false).SetConnectRetry(false).SetConnectTimeout(herdtest.Promise(5 * time.Second))
	c := mqtt.NewClient(o)
	token := c.Connect()
	if !token.WaitTimeout(herdtest.Promise(5 * time.Second)) {
		return nil, errors.New("no answer to CONNECT")
	}
	if err := token.Error(); err != nil {
		return nil, err
	}
	r.t.Cleanup(func() { c.Disconnect(250) })
	return c, nil
}

// connect is device for a device that must be let in. A leaf may still be on its way.
func (r *recipe) connect(user, password string) mqtt.Client {
	r.t.Helper()
	var c mqtt.Client
	herdtest.Eventually(r.t, herdtest.Promise(20*time.Second), "the server takes "+user, func() (err error) {
		c, err = r.device(user, password)
		return err
	})
	return c
}

// publish publishes with QoS 1 and waits for the acknowledgement.
func publish(t *testing.T, c mqtt.Client, topic, payload string) {
	t.Helper()
	token := c.Publish(topic, 1, false, payload)
	if !token.WaitTimeout(herdtest.Promise(5*time.Second)) || token.Error() != nil {
		t.Fatalf("no PUBACK for %s: %v", topic, token.Error())
	}
}

// tellsByMQTT publishes a client's position to an edge until the edge holds it: an edge whose endpoints the
// server did not know of yet has missed it.
func tellsByMQTT(t *testing.T, c mqtt.Client, topic string, to *herdtest.EdgeProcess, id string) int64 {
	t.Helper()
	at := time.Now().UnixNano()
	herdtest.Eventually(t, herdtest.Promise(10*time.Second), to.Name+" holds "+id+" as told over MQTT", func() error {
		publish(t, c, topic, id+" +34.068930-118.445127 "+posix(at))
		return holds(to, []string{id}, []int64{at})
	})
	return at
}

// A device that publishes over MQTT has told an edge, and so the herd, with the server's own means;
// and what deploy/README.md warns of is as it says.
func TestADeviceTellsAnEdgeOverMQTT(t *testing.T) {
	quiet(t)
	r := newRecipe(t)
	r.serve("nats-server -c mqtt.conf &", docMQTT)
	clark, jaquez := r.edge("Clark", nil), r.edge("Jaquez", nil)
	clark.FirstReady()
	jaquez.FirstReady()
	device := r.connect("", "")

	told := tellsByMQTT(t, device, "herd/edge/Clark/iamat", clark, "kiwi")
	learned(jaquez, "kiwi", told)

	t.Run("PUBACK promises nothing", func(t *testing.T) {
		publish(t, device, "herd/edge/Nobody/iamat", "kiwi +34.068930-118.445127 "+posix(time.Now().UnixNano()))
		publish(t, device, "herd/edge/Clark/iamat", "this is no position")
		publish(t, device, "herd/edge/Clark/iamat", "kiwi +91-118.445127 "+posix(time.Now().UnixNano()))
		// What came before on the same connection has had its effect once this one has.
		tellsByMQTT(t, device, "herd/edge/Clark/iamat", clark, "after")
		lines, err := herdtest.Held(clark.Addr, []string{"kiwi"})
		if err != nil || stamp(lines[0]) != told {
			t.Errorf("Clark holds %q, %v; want what was told at %s", lines, err, posix(told))
		}
		if n := clark.Metric("herd_commands_total", `command="iamat"`, `outcome="invalid"`); n != 2 {
			t.Errorf("Clark counts %v invalid IAMATs, want 2", n)
		}
	})
	t.Run("MQTT 3.1 is closed without a word", func(t *testing.T) {
		for _, level := range []struct {
			connect string
			answer  string // "": closed at once
		}{
			{"\x10\x10\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x02ab", ""},
			{"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02ab", "\x20\x02\x00\x00"},
		} {
			nc, err := net.Dial("tcp", r.addrs[docMQTT])
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			nc.SetDeadline(time.Now().Add(herdtest.Promise(5 * time.Second)))
			if _, err := nc.Write([]byte(level.connect)); err != nil {
				t.Fatal(err)
			}
			answer := make([]byte, 4)
			n, err := io.ReadFull(nc, answer)
			if closed := n == 0 && err != nil && !errors.Is(err, os.ErrDeadlineExceeded); level.answer == "" && !closed || level.answer != "" && string(answer[:n]) != level.answer {
				t.Errorf("CONNECT %q is answered %q, %v, want %q", level.connect, answer[:n], err, level.answer)
			}
		}
	})
}

// With an account per edge devices have a server of their own, which is a leaf with the key of `client`.
func TestMQTTOverALeafWithAccounts(t *testing.T) {
	quiet(t)
	r := newRecipe(t)
	p := herdtest.StartChild(t, "herd nats-config", herdtest.Binary(t, "herd"), nil, "nats-config", "--out", filepath.Join(r.dir, "keys"),
		"--topology", "Clark-Jaquez", "--listen", r.addrs[docNATS], "--monitor", "")
	if code := p.Wait(herdtest.Promise(10 * time.Second)); code != 0 {
		t.Fatalf("herd nats-config: exit code %d: %s", code, p.Stderr)
	}
	r.serve("nats-server -c keys/herd.conf &", docLeaves)
	key := func(name string) map[string]string {
		return map[string]string{"NATS_NKEY": filepath.Join(r.dir, "keys", name+".nk")}
	}
	clark, jaquez := r.edge("Clark", key("Clark")), r.edge("Jaquez", key("Jaquez"))
	clark.FirstReady()
	jaquez.FirstReady()
	r.serve("CLIENT_KEY=$(cat keys/client.nk) nats-server -c devices.conf &", docMQTT)

	if _, err := r.device("kiwi", "wrong"); err == nil {
		t.Error("a wrong password is let in")
	}
	device := r.connect("kiwi", "change-me")
	told := tellsByMQTT(t, device, "herd/edge/Clark/iamat", clark, "kiwi")
	learned(jaquez, "kiwi", told)

	// Forbidden, and acknowledged: Jaquez never hears of it.
	publish(t, device, "herd/edge/Jaquez/iamat", "forged +34.068930-118.445127 "+posix(time.Now().UnixNano()))
	told = tellsByMQTT(t, device, "herd/edge/Clark/iamat", clark, "after")
	learned(jaquez, "after", told)
	if answer := talk(t, jaquez.Addr, "WHATSAT forged 0 0\n"); answer != "? WHATSAT forged 0 0\n" {
		t.Errorf("Jaquez was told by a device that may tell Clark alone: %q", answer)
	}
	if n := jaquez.Metric("herd_commands_total", `command="iamat"`, `outcome="ok"`); n != 0 {
		t.Errorf("Jaquez counts %v IAMATs, want none", n)
	}
}
