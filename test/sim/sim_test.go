package sim

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"herd/places"
	"herd/test/herdtest"
)

var (
	seedFlag   = flag.Int64("sim.seed", -1, "live the plan of this seed, print it and the hash of its trace")
	seedsFlag  = flag.Uint64("sim.seeds", 0, "live so many plans over all cores, and stop at the first that fails")
	fromFlag   = flag.Uint64("sim.from", 0, "the first of them")
	forFlag    = flag.Duration("sim.for", 0, "stop -sim.seeds after so long; 0: when all are lived")
	traceFlag  = flag.String("sim.trace", "", "write the trace of -sim.seed to this file")
	logFlag    = flag.String("sim.log", "", "write what edges log to this file")
	planFlag   = flag.String("sim.plan", "", "live the plan in this file, as -sim.write writes it, in place of that of -sim.seed")
	writeFlag  = flag.String("sim.write", "", "write the plan of -sim.seed to this file, as JSON")
	keptFlag   = flag.Bool("sim.kept", false, "the seeds are numbers of found plans")
	shrinkFlag = flag.Bool("sim.shrink", false, "shrink the plan of -sim.seed, which fails")
)

// worker is set in processes that run plans: "from step" of the seeds, one process per core. A
// process of its own has one core for goroutines and no preemption, so that a plan's trace is
// always the same.
const worker = "HERD_SIM_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(worker) != "" {
		runtime.GOMAXPROCS(1)
		debug.SetGCPercent(-1)
	}
	os.Exit(m.Run())
}

// planOf is the plan of a number: drawn from it, or that of a file or of the table of found plans.
func planOf(t *testing.T, number uint64) *Plan {
	t.Helper()
	switch {
	case *keptFlag:
		return &found[number].plan
	case *planFlag == "":
		return Draw(number)
	}
	text, err := os.ReadFile(*planFlag)
	if err != nil {
		t.Fatal(err)
	}
	p := &Plan{}
	if err := json.Unmarshal(text, p); err != nil {
		t.Fatalf("%s: %v", *planFlag, err)
	}
	return p
}

// finder finds no places, because no client asks for any. It is created outside the bubbles, which
// use it one after the other.
var finder = sync.OnceValue(func() *places.Finder {
	f := places.NewFinder(slog.New(slog.DiscardHandler))
	<-f.Loaded()
	return f
})

// TestWorker is what worker processes run. Each line on standard output is a Result.
func TestWorker(t *testing.T) {
	var from, step, to uint64
	if _, err := fmt.Sscan(os.Getenv(worker), &from, &step, &to); err != nil {
		t.Skip("skipped: this is not a worker")
	}
	if *shrinkFlag {
		p := planOf(t, from)
		live := func(p *Plan) string {
			defer runtime.GC()
			return Live(t, p, finder(), nil, nil).Wrong
		}
		if wrong := live(p); wrong != "" {
			p, wrong = Shrink(p, wrong, time.Now().Add(2*time.Minute), live)
			fmt.Printf("%d operations are enough:\n%v// %s\n", len(p.Ops), p, wrong)
		}
		return
	}
	out := bufio.NewWriter(os.Stdout)
	enc := json.NewEncoder(out)
	for seed := from; seed < to; seed += step {
		begun := time.Now()
		res := Live(t, planOf(t, seed), finder(), traceTo(t, *traceFlag), traceTo(t, *logFlag))
		res.Seed = seed
		runtime.GC()
		fmt.Fprint(out, "result ")
		_ = enc.Encode(struct {
			Result
			Took time.Duration
		}{res, time.Since(begun)})
		out.Flush()
	}
}

func traceTo(t *testing.T, name string) io.Writer {
	if name == "" {
		return nil
	}
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// work runs seeds in processes with one core each, and calls each for every result until that
// returns false.
func work(t *testing.T, from, to uint64, each func(Result, time.Duration) bool, args ...string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	workOf(t, exe, from, to, each, func(seed uint64, complaint string) {
		t.Errorf("seed %d ended its process: %s", seed, complaint)
	}, args...)
}

// workOf is work with another build of this package's tests. died is called at most once, where a
// process ends with a seed that it has not lived to the end.
func workOf(t *testing.T, exe string, from, to uint64, each func(Result, time.Duration) bool, died func(seed uint64, complaint string), args ...string) {
	t.Helper()
	var mu sync.Mutex
	over := false
	var all sync.WaitGroup
	cores := uint64(runtime.GOMAXPROCS(0)) // by GOMAXPROCS, where that is set
	for i := range min(cores, to-from) {
		cmd := process(t, exe, fmt.Sprint(from+i, " ", min(cores, to-from), " ", to), args...)
		var complaints strings.Builder
		cmd.Stderr = &complaints
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			var rest []string
			lines := bufio.NewScanner(out)
			lines.Buffer(nil, 1<<24)
			seeds := from + i
			for lines.Scan() {
				text, ok := strings.CutPrefix(lines.Text(), "result ")
				if !ok {
					rest = append(rest, lines.Text())
					continue
				}
				var res struct {
					Result
					Took time.Duration
				}
				if err := json.Unmarshal([]byte(text), &res); err != nil {
					t.Errorf("%q: %v", text, err)
				}
				seeds = res.Seed + min(cores, to-from)
				mu.Lock()
				over = over || !each(res.Result, res.Took)
				stop := over
				mu.Unlock()
				if stop {
					_ = cmd.Process.Kill()
				}
			}
			err := cmd.Wait()
			mu.Lock()
			defer mu.Unlock()
			if err != nil && !over {
				over = true
				died(seeds, fmt.Sprintf("%v\n%s\n%s", err, strings.Join(rest, "\n"), complaints.String()))
			}
		})
	}
	all.Wait()
}

func TestOneSeed(t *testing.T) {
	if *seedFlag < 0 && *planFlag == "" {
		t.Skip("skipped: no -sim.seed and no -sim.plan")
	}
	seed := uint64(max(0, *seedFlag))
	if *shrinkFlag {
		shrink(t, seed)
		return
	}
	p := planOf(t, seed)
	fmt.Print(p)
	if *writeFlag != "" {
		text, err := json.MarshalIndent(p, "", " ")
		if err == nil {
			err = os.WriteFile(*writeFlag, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	work(t, seed, seed+1, func(res Result, took time.Duration) bool {
		fmt.Printf("seed %d: hash %s, %d events in %v (%v of virtual time), %d promises\n", seed, res.Hash, res.Events, took, res.Virtual, res.Judged)
		if res.Wrong != "" {
			t.Errorf("seed %d: %s", seed, res.Wrong)
		}
		return true
	}, "-sim.trace="+*traceFlag, "-sim.log="+*logFlag, "-sim.plan="+*planFlag)
}

// Plans that once failed, or by which a planted fault was found, fail no more.
func TestFoundPlans(t *testing.T) {
	work(t, 0, uint64(len(found)), func(res Result, _ time.Duration) bool {
		if res.Wrong != "" {
			t.Errorf("%s: %s", found[res.Seed].why, res.Wrong)
		}
		return true
	}, "-sim.kept")
}

// A plan is the same after it was written to a file and read.
func TestAPlanFromAFileIsTheSame(t *testing.T) {
	for seed := range uint64(300) {
		p, q := Draw(seed), &Plan{}
		text, err := json.Marshal(p)
		if err == nil {
			err = json.Unmarshal(text, q)
		}
		if err != nil || !reflect.DeepEqual(p, q) {
			t.Fatalf("seed %d: %v\n%v\n%v", seed, err, p, q)
		}
	}
}

// shrink prints, as Go, what is left of a plan that fails.
func shrink(t *testing.T, seed uint64) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := process(t, exe, fmt.Sprint(seed, " 1 ", seed+1), "-sim.shrink", "-sim.plan="+*planFlag)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
}

// process runs seeds: from, step and to.
func process(t *testing.T, exe, seeds string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), exe, append([]string{"-test.run=^TestWorker$", "-test.count=1", "-test.timeout=0"}, args...)...)
	cmd.Env = append(os.Environ(), worker+"="+seeds, "GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1")
	return cmd
}

// The seeds that run with every test run. Others are run with -sim.seeds.
func TestAFixedSetOfDays(t *testing.T) {
	days := uint64(60)
	if testing.Short() || herdtest.RaceDetector {
		days = 12
	}
	many(t, 1000, 1000+days, false)
}

// New seeds: for .ci/run, and as many as time allows.
func TestManySeeds(t *testing.T) {
	if *seedsFlag == 0 {
		t.Skip("skipped: no -sim.seeds")
	}
	many(t, *fromFlag, *fromFlag+*seedsFlag, true)
}

// many runs seeds and stops at the first that fails.
func many(t *testing.T, from, to uint64, progress bool) {
	begun, told, done, events := time.Now(), time.Now(), 0, 0
	if progress {
		fmt.Printf("seeds from %d on\n", from)
	}
	var slow time.Duration
	var failed []uint64
	work(t, from, to, func(res Result, took time.Duration) bool {
		done++
		events += res.Events
		slow = max(slow, took)
		if res.Wrong != "" {
			t.Errorf("seed %d: %s\nreplay: go test ./test/sim -run OneSeed -sim.seed %d; with -sim.shrink as short as it gets", res.Seed, res.Wrong, res.Seed)
			failed = append(failed, res.Seed)
			return false
		}
		if progress && *forFlag > 0 && time.Since(begun) > *forFlag {
			return false
		}
		if progress && time.Since(told) > 5*time.Second {
			told = time.Now()
			fmt.Printf("%d of %d seeds in %v, %d events, the slowest took %v\n", done, to-from, time.Since(begun).Round(time.Second), events, slow)
		}
		return true
	})
	if progress && len(failed) > 0 {
		shrink(t, failed[0])
	}
	t.Logf("%d seeds in %v, %d events, the slowest took %v", done, time.Since(begun), events, slow)
}

func TestTheSameSeedHasTheSameTraceInTwoProcesses(t *testing.T) {
	if herdtest.RaceDetector {
		t.Skip("skipped: the race detector shuffles goroutines")
	}
	seeds := uint64(20)
	if os.Getenv("HERD_TEST") == "full" {
		seeds = 200
	}
	var hashes [2]map[uint64]string
	for i := range hashes {
		hashes[i] = map[uint64]string{}
		work(t, 0, seeds, func(res Result, _ time.Duration) bool {
			hashes[i][res.Seed] = sum(res)
			return true
		})
	}
	var unlike []uint64
	for seed := range seeds {
		if hashes[0][seed] != hashes[1][seed] || hashes[0][seed] == "" {
			unlike = append(unlike, seed)
		}
	}
	if len(unlike) > 1+int(seeds/20) {
		t.Fatalf("%d of %d seeds have no trace of their own: %v", len(unlike), seeds, unlike)
	}
	// On a very busy machine the runtime makes a goroutine give way that has had the core for 10 ms,
	// most of which others may have used. Such a day is lived again, alone.
	for _, seed := range unlike {
		again := map[string]int{hashes[0][seed]: 1}
		again[hashes[1][seed]]++
		for range 4 {
			work(t, seed, seed+1, func(res Result, _ time.Duration) bool {
				again[sum(res)]++
				return true
			})
		}
		if most := slices.Max(slices.Collect(maps.Values(again))); most < 5 {
			t.Errorf("seed %d: %v", seed, again)
		}
	}
}

// sum is what two days have in common if all in them is the same.
func sum(res Result) string { return res.Hash + " " + strconv.Itoa(res.Events) }
