package sim

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	faultsFlag = flag.String("sim.faults", "", "plant the faults whose names contain this (all: every one), each in a build of its own, until a seed finds it")
	timesFlag  = flag.Int("sim.times", 1, "how often a planted fault is to be found")
	plantFlag  = flag.Uint64("sim.plant", 5000, "seeds that a planted fault has at most")
)

// A fault is a small change to the herd that some plan must find. It is applied at build time (go
// test -overlay), so the herd's source does not contain it.
type fault struct {
	name, file, is, becomes string
}

// also are further changes that belong to a fault, by its name.
var also = map[string][]fault{
	"D6 much that is to be deleted goes before any write": {
		{file: "edge/journal/machine.go", is: "deleteMost = 256 ", becomes: "deleteMost = 1 << 20 "},
		{file: "edge/journal/delete.go", is: "if now.Before(m.deleteAt) {\n\t\treturn task{}, false\n\t}", becomes: ""},
	},
	"D5 another owner of the bucket is not noticed": {
		{file: "edge/journal/machine.go", is: "case e.state.ID != m.id, e.state.Owner != m.owner,", becomes: "case e.state.ID != m.id,"},
	},
}

var faults = []fault{
	{"D3 a line counts as kept whatever its revision", "edge/journal/marks.go",
		"r.SetKept(r.Revision() == it.Revision)", "r.SetKept(true)"},
	{"H4 a touched record keeps its holders", "edge/position/table.go",
		"r.revision, r.holders = t.head, 0", "r.revision = t.head"},
	{"H4 holdings are remembered past an epoch", "edge/position/table.go",
		"h.floor = t.head", "h.floor += 0"},
	{"H4 no Herd-To", "edge/link/receive.go",
		`follows := (m.To == "" || m.To == l.cfg.Epoch) && m.After <= s.through`, "follows := m.After <= s.through"},
	{"D5 a refused batch is taken as written", "edge/journal/write.go",
		"case e.err == nil:\n\t\tm.wrote(now, e.sequence)", "case e.err == nil, errors.Is(e.err, ErrRefused):\n\t\tm.wrote(now, max(e.sequence, m.known))"},
	{"D5 a write without an answer is taken as written", "edge/journal/write.go",
		"\t\tm.failed(now, fmt.Errorf(\"write %d entries", "\t\tm.awaits.kept(m.batch.items)\n\t\tm.failed(now, fmt.Errorf(\"write %d entries"},
	{"D5 the journal's going back is not noticed", "edge/journal/machine.go",
		"back := s.Last < m.known || !m.reloading && s.Messages <= uint64(held)", "back := s.Last > 1<<62"},
	{"D3 an answer does not wait for the journal", "edge/command/caller.go",
		"return r.promise.await(ctx)", "go func() { _ = r.promise.await(ctx) }()\n\treturn nil"},
	{"D2 nothing of a journal is read", "edge/journal/journal.go",
		"if more := j.entry(&entry); !more", "if more := t.call == callRead || j.entry(&entry); !more"},
	{"S4 retention trusts a clock that jumped", "edge/clock.go",
		"return e.clocks.Retain(moment, e.shared.Clock.Wall(moment))", "return e.shared.Clock.Wall(moment)"},
	{"S2 an older line replaces a newer one", "edge/position/table.go",
		"\tcase c < 0:\n\t\top.Outcome, op.Revision, op.Behind = Older", "\tcase c < -1:\n\t\top.Outcome, op.Revision, op.Behind = Older"},
	{"H10 an earlier claim is not answered", "edge/name.go",
		"do.claim = n.ours && ev.claim < n.epoch", "do.claim = false && ev.claim < n.epoch"},
	{"H10 a later claim ends nobody", "edge/name.go",
		"case ev.claim > n.epoch:\n", "case ev.claim > n.epoch && n.epoch == \"\":\n"},
	{"H7 a join waits for those who join", "edge/joining.go",
		"\t\tif !owes {\n", "\t\tif !owes && s.Level >= link.LevelOpen {\n"},
	{"H5 the window is not checked", "edge/link/send.go",
		"if len(s.flights) >= l.cfg.Window {", "if len(s.flights) >= 1000 {"},
	{"H6 what does not follow is not sent again", "edge/link/ack.go",
		"case back && through < s.cursor && s.mayGoBack(now, l.cfg.Heartbeat):", "case back && through < s.acked && s.mayGoBack(now, l.cfg.Heartbeat):"},
	{"H6 two runs' acks are heeded by turns, without a pause", "edge/link/ack.go",
		"case a.Epoch < s.to && !l.saidBye(s.to) && now.Sub(l.health.out.heard) < l.patience():\n\t\treturn false\n\t}\n\treturn s.mayGoBack(now, l.cfg.Heartbeat)", "}\n\treturn true"},
	{"H9 an ack beyond what was sent is believed", "edge/link/ack.go",
		"if a.Of != l.cfg.Epoch || through > s.sent {", "if a.Of != l.cfg.Epoch {"},
	{"H9 a head that a lie raised stays", "edge/link/stream.go",
		"if now.Sub(s.bad) < patience ||", "if now.Sub(s.bad) < 1000*patience ||"},
	{"H9 what is put off is not asked for again", "edge/link/receive.go",
		"\t\tif late.lines > 0 {\n\t\t\ts.later(", "\t\tif late.lines > 1<<20 {\n\t\t\ts.later("},

	// Faults that the herd once had.
	{"D6 much that is to be deleted goes before any write", "edge/journal/machine.go",
		"\tif m.turn {\n", "\tif m.turn || true {\n"},
	{"D5 after a refusal nothing is read", "edge/journal/write.go",
		"\t\tm.phase = looking\n\t\tif m.refusals++", "\t\tif m.refusals++"},
	{"S4 who is forgotten while being written stays in the bucket", "edge/journal/marks.go",
		"\t\t\t\t\torphan(it.client())\n", ""},
	{"D5 a bucket that may drop what it acknowledged is trusted", "edge/journal/machine.go",
		"\t\t\tm.pause(now, retryMost)\n\t\t\tm.phase = opening\n", "\t\t\tm.phase, m.looked = serving, now\n"},
	{"D5 a bucket is not looked at while nothing is written", "edge/journal/machine.go",
		"lookMost    = 10 * time.Second", "lookMost    = 10 * time.Hour"},
	{"C19 answers wait for the journal as long as a stop takes", "edge/edge.go",
		"{ return time.Duration(t) / 2 }", "{ return time.Duration(t) }"},
	{"D5 another owner of the bucket is not noticed", "edge/journal/machine.go",
		"|| s.ID != m.id || s.Owner != m.owner:", "|| s.ID != m.id:"},
	{"H8 a clock in doubt is not said", "edge/readiness.go",
		"e.whyPayload, e.clockDoubt,", "e.whyPayload,"},
	{"H3 whoever moves most is never sent", "edge/position/reader.go",
		"turns := hand != nil && hand.on", "turns := hand != nil && hand.on && limit < 0"},
	{"H6 the stream of one run only is remembered", "edge/link/stream.go",
		"if r.streams[1].heard.Before(s.heard) {", "if s.heard.IsZero() && r.streams[1].heard.Before(s.heard) {"},
	{"H8 a dead subscription is not made anew", "edge/renew.go",
		"\t\t*since = now\n\t\treturn true", "\t\t*since = now\n\t\treturn false"},
	{"H5 lines that were too long are not told anew", "edge/payload.go",
		"if most <= least {", "if most <= least || least > 0 {"},
	{"H5 a max_payload that is too small is not said", "edge/readiness.go",
		"e.whyStopping, e.whyPayload,", "e.whyStopping,"},
	{"H7 no levels", "edge/joining.go",
		"\t\tif j.level < j.edges {\n", "\t\tif j.level < 1 {\n"},
	{"H8 nobody watches over silence", "edge/silence.go",
		"if err != nil && ctx.Err() == nil {", "if err != nil && ctx.Err() == nil && limit < 0 {"},
	{"H9 revisions out of order are believed", "edge/link/stream.go",
		"if m.After > m.Through || m.Through > m.Head {", "if m.After > m.Through && m.Through > m.Head {"},
	{"H9 each good-bye counts", "edge/link/receive.go",
		" || now.Sub(h.byeAt) < l.cfg.Heartbeat {", " {"},
	{"D6 known clients are left out of a bucket that is nearly full", "edge/journal/batch.go",
		"(!w.known || r.Sequence() != 0)", "!w.known"},
	{"C19 nothing is handed over", "edge/link/link.go",
		"if !l.draining || l.health.out.up && !(read", "if !l.draining || l.health.out.up && false && !(read"},
	{"H10 nothing is claimed on a connect", "edge/name.go",
		"do.claim, do.settled = true, true\n\tcase ev.connected && n.askAt", "do.settled = true\n\tcase ev.connected && n.askAt"},
	{"H4 nothing goes back when a link is made anew", "edge/link/link.go",
		"\tl.send.back()\n\tl.send.failed = false\n", "\tl.send.failed = false\n"},
}

// TestPlantedFaultsAreFound shows that the simulator finds faults. It takes minutes.
func TestPlantedFaultsAreFound(t *testing.T) {
	// That each fault can still be planted is checked in every run.
	for _, f := range faults {
		f.plant(t)
	}
	if *faultsFlag == "" {
		t.Skip("skipped: no -sim.faults")
	}
	for _, f := range faults {
		if *faultsFlag != "all" && !strings.Contains(f.name, *faultsFlag) {
			continue
		}
		t.Run(f.name, func(t *testing.T) { f.find(t) })
	}
}

// find lives seeds with a planted fault until it was found as often as was asked for, and prints
// the median of how many that took each time.
func (f *fault) find(t *testing.T) {
	exe := f.build(t)
	begun, next, first := time.Now(), *fromFlag, ""
	var took []int
	for len(took) < *timesFlag {
		seeds, wrong := uint64(0), ""
		end := next + *plantFlag
		workOf(t, exe, next, end, func(res Result, _ time.Duration) bool {
			seeds++
			if res.Wrong != "" {
				wrong = fmt.Sprintf("seed %d: %.300s", res.Seed, res.Wrong)
			}
			return wrong == ""
		}, func(seed uint64, complaint string) { // a build with a fault may do anything
			seeds++
			wrong = fmt.Sprintf("seed %d: %.300s", seed, complaint)
		})
		if wrong == "" {
			break
		}
		if first == "" {
			first = wrong
		}
		next += seeds
		took = append(took, int(seeds))
	}
	slices.Sort(took)
	median := 0
	if len(took) > 0 {
		median = took[len(took)/2]
	}
	fmt.Printf("| %s | %d | %v | %.0f s | %s |\n", f.name, median, took, time.Since(begun).Seconds(), strings.ReplaceAll(first, "\n", " "))
	if len(took) == 0 {
		t.Errorf("not found by %d seeds", *plantFlag)
	}
}

// plant returns the files as they are with the fault, by name.
func (f *fault) plant(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, change := range append([]fault{*f}, also[f.name]...) {
		text := files[change.file]
		if text == "" {
			read, err := os.ReadFile(filepath.Join("../..", change.file))
			if err != nil {
				t.Fatal(err)
			}
			text = string(read)
		}
		if n := strings.Count(text, change.is); n != 1 {
			t.Errorf("%s: %s has its text %d times, want once", f.name, change.file, n)
		}
		files[change.file] = strings.Replace(text, change.is, change.becomes, 1)
	}
	return files
}

// build builds this package's tests with the fault laid over it.
func (f *fault) build(t *testing.T) (exe string) {
	t.Helper()
	dir := t.TempDir()
	replace := map[string]string{}
	for name, text := range f.plant(t) {
		whole, err := filepath.Abs(filepath.Join("../..", name))
		if err != nil {
			t.Fatal(err)
		}
		replace[whole] = filepath.Join(dir, fmt.Sprintf("planted%d.go", len(replace)))
		if err := os.WriteFile(replace[whole], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	exe = filepath.Join(dir, "sim.test")
	out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", filepath.Join(dir, "overlay.json"), "-o", exe, ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return exe
}
