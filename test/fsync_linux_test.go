package test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"herd/test/herdtest"
)

// The files that hold a journal's lines: those of the stream, and with replicas the log of its Raft
// group.
var (
	streamFile = regexp.MustCompile(`/streams/KV_herd_Clark/msgs/\d+\.blk$`)
	raftFile   = regexp.MustCompile(`/_js_/S-R3F-\w+/msgs/\d+\.blk$`)
)

// D3: with `sync_interval: always` an answered position is on disk, which killing processes cannot
// show. With the default it is not.
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
		disks := func(n int) int { // number of servers that must have synced it
			if form.always {
				return n
			}
			return 0
		}
		t.Run("D3 one nats-server, "+form.name, func(t *testing.T) {
			quiet(t)
			h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark", Env: durable(nil), NATS: []string{"-c", natsConfig(t, 0, []int{0}, form.sync)}})
			tr := startTracer(t, h.NATS.Child)
			ids := tellSlowly(t, h.Edges["Clark"])
			onDisk(t, tr.stop(), ids, atBroker, streamFile, disks(1))
		})
		t.Run("D3 three nats-servers, "+form.name, func(t *testing.T) {
			quiet(t)
			h, servers := newClusteredHerd(t, herdtest.ProcessOptions{Topology: "Clark", Env: durable(nil)}, form.sync)
			tr := startTracer(t, servers[0].Child, servers[1].Child, servers[2].Child)
			ids := tellSlowly(t, h.Edges["Clark"])
			onDisk(t, tr.stop(), ids, atBroker, raftFile, disks(2)) // a quorum
		})
		t.Run("D3 the server inside, "+form.name, func(t *testing.T) {
			quiet(t)
			env := durable(map[string]string{"HERD_EMBEDDED_NATS": "true", "HERD_DATA": t.TempDir()})
			if !form.always { // HERD_DURABILITY=journal alone is always
				env["HERD_EMBEDDED_NATS_SYNC"] = "2m"
			}
			h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark", Env: env, Each: func(e *herdtest.EdgeProcess) { delete(e.Env, "NATS_URL") }})
			tr := startTracer(t, h.Edges["Clark"].Child)
			ids := append(tellSlowly(t, h.Edges["Clark"]), tellAtOnce(t, h.Edges["Clark"])...)
			onDisk(t, tr.stop(), ids, atEdge, streamFile, disks(1))
		})
	}
}

// A path is how the write of an id arrives and how it is acknowledged, in strace's notation.
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

// durable returns the environment of an edge whose answers wait for the journal, for long enough
// while strace slows the server.
func durable(more map[string]string) map[string]string {
	env := map[string]string{"HERD_DURABILITY": "journal", "HERD_JOURNAL_TIMEOUT": "1m", "HERD_JOIN_TIMEOUT": "1m"}
	for name, value := range more {
		env[name] = value
	}
	return env
}

// tellSlowly sends positions of clients one at a time, each after the answer to the one before.
func tellSlowly(t *testing.T, e *herdtest.EdgeProcess) (ids []string) {
	t.Helper()
	for i := range 10 {
		id := fmt.Sprintf("slow-%d", i)
		tellAll(t, e, []string{id})
		ids = append(ids, id)
	}
	return ids
}

// tellAtOnce sends as many positions in one write, so that the journal writes them together.
func tellAtOnce(t *testing.T, e *herdtest.EdgeProcess) (ids []string) {
	t.Helper()
	for i := range 10 {
		ids = append(ids, fmt.Sprintf("quick-%d", i))
	}
	tellAll(t, e, ids)
	return ids
}

func tellAll(t *testing.T, e *herdtest.EdgeProcess, ids []string) {
	t.Helper()
	c := dial(t, e.Addr)
	defer c.Close()
	c.SetDeadline(time.Now().Add(herdtest.Promise(20 * time.Second)))
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

// onDisk fails unless, between the arrival of each id and its acknowledgement, files of this kind
// are synced to disk in at least folders folders, or in none if folders is 0.
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
