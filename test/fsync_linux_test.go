package test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// The files that a journal's lines go to: the stream's own, and with replicas the log of
// its Raft group.
var (
	streamFile = regexp.MustCompile(`/streams/KV_herd_Clark/msgs/\d+\.blk$`)
	raftFile   = regexp.MustCompile(`/_js_/S-R3F-\w+/msgs/\d+\.blk$`)
)

// Item 2 of what must be seen to work, D3: with `sync_interval: always` what is answered is
// on disk, which killing processes cannot show. With the default it is not.
func TestAnAnswerIsOnDiskWhereThatIsAskedFor(t *testing.T) {
	quiet(t)
	needsStrace(t)
	for _, form := range []struct {
		name, sync string // sync: of nats-server
		always     bool
	}{
		{"always", "sync_interval: always", true},
		{"default", "", false},
	} {
		disks := func(n int) int { // that must have it
			if form.always {
				return n
			}
			return 0
		}
		t.Run("D3 one nats-server, "+form.name, func(t *testing.T) {
			quiet(t)
			h := newHerd(t, options{topology: "Clark", env: durable(nil), nats: []string{"-c", natsConfig(t, 0, []int{0}, form.sync)}})
			tr := startTracer(t, h.nats.process)
			ids := tellSlowly(t, h.edges["Clark"])
			onDisk(t, tr.stop(), ids, atBroker, streamFile, disks(1))
		})
		t.Run("D3 three nats-servers, "+form.name, func(t *testing.T) {
			quiet(t)
			routes := []int{freePort(t), freePort(t), freePort(t)}
			second := startNATS(t, "-c", natsConfig(t, 1, routes, form.sync))
			third := startNATS(t, "-c", natsConfig(t, 2, routes, form.sync))
			h := newHerd(t, options{topology: "Clark", env: durable(map[string]string{"HERD_JOURNAL_REPLICAS": "3"}),
				nats: []string{"-c", natsConfig(t, 0, routes, form.sync)}, unready: []string{"Clark"}})
			awaitCluster(t, h)
			h.edges["Clark"].start()
			h.edges["Clark"].firstReady()
			tr := startTracer(t, h.nats.process, second.process, third.process)
			ids := tellSlowly(t, h.edges["Clark"])
			onDisk(t, tr.stop(), ids, atBroker, raftFile, disks(2)) // a quorum
		})
		t.Run("D3 the server inside, "+form.name, func(t *testing.T) {
			quiet(t)
			env := durable(map[string]string{"HERD_EMBEDDED_NATS": "true", "HERD_DATA": t.TempDir()})
			if !form.always { // HERD_DURABILITY=journal alone is always
				env["HERD_EMBEDDED_NATS_SYNC"] = "2m"
			}
			h := newHerd(t, options{topology: "Clark", env: env, each: func(e *edge) { delete(e.env, "NATS_URL") }})
			tr := startTracer(t, h.edges["Clark"].process)
			ids := append(tellSlowly(t, h.edges["Clark"]), tellAtOnce(t, h.edges["Clark"])...)
			onDisk(t, tr.stop(), ids, atEdge, streamFile, disks(1))
		})
	}
}

// A path is how an id's write arrives and how it is acknowledged, as strace writes that.
type path struct{ arrival, ack func(id string) string }

var (
	// A write to the journal and JetStream's answer to it.
	atBroker = path{
		func(id string) string { return "$KV.herd_Clark." + id + " " },
		func(string) string { return `{\"stream\":\"KV_herd_Clark\"` },
	}
	// An IAMAT and its answer.
	atEdge = path{
		func(id string) string { return "IAMAT " + id + " " },
		func(id string) string { return " " + id + " " },
	}
)

// durable is the environment of an edge whose answers wait for the journal, long enough for
// a server that is being looked at.
func durable(more map[string]string) map[string]string {
	env := map[string]string{"HERD_DURABILITY": "journal", "HERD_JOURNAL_TIMEOUT": "1m", "HERD_JOIN_TIMEOUT": "1m"}
	for name, value := range more {
		env[name] = value
	}
	return env
}

// natsConfig writes the configuration of one server of as many as there are routes' ports.
func natsConfig(t *testing.T, number int, routes []int, sync string) string {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf("server_name: n%d\njetstream {\n\tstore_dir: %q\n\t%s\n}\n", number, filepath.Join(dir, "state"), sync)
	if len(routes) > 1 {
		var urls []string
		for _, port := range routes {
			urls = append(urls, `"nats://`+local(port)+`"`)
		}
		text += fmt.Sprintf("cluster {\n\tname: herd\n\tlisten: %q\n\troutes: [ %s ]\n}\n", local(routes[number]), strings.Join(urls, ", "))
	}
	path := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// awaitCluster waits until JetStream has a leader.
func awaitCluster(t *testing.T, h *herd) {
	t.Helper()
	nc := h.operator()
	eventually(t, promise(20*time.Second), "JetStream has a leader", func() error {
		reply, err := nc.Request("$JS.API.INFO", nil, time.Second)
		if errors.Is(err, nats.ErrTimeout) || err == nil && strings.Contains(string(reply.Data), `"error"`) {
			return errors.New("not yet")
		}
		return err
	})
}

// tellSlowly has clients told of one after the other, each when the last was answered.
func tellSlowly(t *testing.T, e *edge) (ids []string) {
	t.Helper()
	for i := range 10 {
		id := fmt.Sprintf("slow-%d", i)
		tellAll(t, e, []string{id})
		ids = append(ids, id)
	}
	return ids
}

// tellAtOnce has as many told of in one write, which the journal writes together.
func tellAtOnce(t *testing.T, e *edge) (ids []string) {
	t.Helper()
	for i := range 10 {
		ids = append(ids, fmt.Sprintf("quick-%d", i))
	}
	tellAll(t, e, ids)
	return ids
}

func tellAll(t *testing.T, e *edge, ids []string) {
	t.Helper()
	c := dial(t, e.addr)
	defer c.Close()
	c.SetDeadline(time.Now().Add(promise(20 * time.Second)))
	var text strings.Builder
	for _, id := range ids {
		text.WriteString("IAMAT " + id + " " + ucla + " " + posix(time.Now().UnixNano()) + "\n")
	}
	c.send(text.String())
	for _, id := range ids {
		if line := c.line(); !strings.HasPrefix(line, "AT Clark ") || !strings.Contains(line, " "+id+" ") {
			t.Fatalf("%s is answered %q", id, line)
		}
	}
}

// onDisk fails unless between the arrival of each id and its acknowledgement this kind of
// file is written to disk in at least so many folders; 0 is in none.
func onDisk(t *testing.T, calls []call, ids []string, p path, file *regexp.Regexp, folders int) {
	t.Helper()
	for _, id := range ids {
		from, to := -1, -1
		for _, c := range calls {
			if from < 0 && c.received(p.arrival(id)) {
				from = c.end
			}
		}
		for _, c := range calls { // the first that begins after it
			if from >= 0 && c.begin > from && (to < 0 || c.begin < to) && c.sends(p.ack(id)) {
				to = c.begin
			}
		}
		if from < 0 || to < 0 {
			t.Fatalf("the arrival (%d) or the acknowledgement (%d) of %s is not among %d calls", from, to, id, len(calls))
		}
		synced := map[string]bool{}
		for _, c := range calls {
			if name := c.synced(); c.begin > from && c.end < to && file.MatchString(name) {
				synced[filepath.Dir(name)] = true // each server has its own
			}
		}
		if len(synced) < folders || folders == 0 && len(synced) > 0 {
			t.Errorf("%s: between its arrival and its acknowledgement a file is written to disk in %d folders, want %d: %v", id, len(synced), folders, synced)
		}
	}
	total := 0
	for _, c := range calls {
		if file.MatchString(c.synced()) {
			total++
		}
	}
	t.Logf("%d positions told, %d times such a file was written to disk", len(ids), total)
}
