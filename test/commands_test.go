package test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"herd/test/herdtest"
	"herd/test/ports"
)

// seenToWork says of each command in the documents what runs it:
//
//   - the name of a test that runs it, or the same with other addresses, ports and sizes;
//   - "ci: " and a text in .ci/run, in the step that does;
//   - "hand: " and where it was run as it stands, once, by a person;
//   - "not run: " and why not.
var seenToWork = map[string]string{
	// README.md
	"go run ./cmd/herd up":     "TestOneCommandRunsTheHerd",
	"go run ./cmd/herd watch":  "TestToolsOnARunningHerd",
	"go run ./cmd/herd status": minute,
	"go run ./cmd/herd iamat kiwi.cs.ucla.edu +34.068930-118.445127 --addr 127.0.0.1:12001":                minute,
	"go run ./cmd/herd whatsat kiwi.cs.ucla.edu 10 5 --addr 127.0.0.1:12003":                               minute,
	`printf 'IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1621464827.959498503\n' | nc -N 127.0.0.1 12001`: minute,
	`printf 'WHATSAT kiwi.cs.ucla.edu 10 5\n' | nc -N 127.0.0.1 12003`:                                     minute,
	"go test ./...":                             "ci: go test -count=1 -timeout 1500s ./...",
	"go test -short ./...":                      "ci: go test -count=1 -timeout 1500s ./...",
	"HERD_TEST=full go test -timeout 60m ./...": "ci: HERD_TEST=full go test -count=1 -timeout 1700s -run Docker ./test/",
	".ci/run": "ci: Everything that must hold before a change is taken",
	"go build -o bin/ ./cmd/... github.com/nats-io/nats-server/v2": "hand: " + debian,
	"bin/nats-server -js -sd nats-data -a 127.0.0.1 &":             daemons,
	"i=0\nfor e in Bernard Clark Jaquez Johnson Juzang; do\nHERD_EDGE=$e HERD_LISTEN=127.0.0.1:$((12000+i)) HERD_HTTP=127.0.0.1:$((12080+i)) bin/edge &\ni=$((i+1))\ndone": daemons,
	"bin/herd status":      daemons,
	"docker compose up":    "TestDockerHerd",
	"nats sub 'herd.at.>'": "hand: " + stackByHand,

	// docs/
	"printf 'IAMAT kiwi +34.068930-118.445127 %s\\nWHATSAT kiwi 10 5\\n' \"$(date +%s)\" |\nnc -N \"${1%:*}\" \"${1##*:}\"": "TestTheClientsOfTheDocumentsWork",
	"go run ./cmd/herd bench --addr 127.0.0.1:12001 --observe 127.0.0.1:12000,127.0.0.1:12003 --rate 2000 --whatsat 0.1":    "hand: " + debian,
	"go run ./test/bench":                                                                                                           "ci: go run ./test/bench -quick",
	"go run ./test/bench -run devices":                                                                                              "ci: go run ./test/bench -quick",
	"go run ./test/bench -run 'live|whosat|watch'":                                                                                  "ci: go run ./test/bench -quick",
	"go test -run '^$' -bench Memory ./edge/position":                                                                               "ci: go test -run \"^$\" -bench . -benchtime 20ms",
	"go test -run '^$' -bench 'Near$' ./edge/position":                                                                              "ci: go test -run \"^$\" -bench . -benchtime 20ms",
	"go test -run '^$' -bench ReceiveLine ./edge/position":                                                                          "ci: go test -run \"^$\" -bench . -benchtime 20ms",
	"HERD_GOOGLE_KEY=... go run ./cmd/herd places +34.068930-118.445127 10 5":                                                       "TestPlacesAsksTheProvidersOfTheEnvironment",
	"HERD_OSM_FILE=monaco.osm.pbf go run ./cmd/herd up":                                                                             "hand: " + debian,
	"HERD_OSM_FILE=monaco.osm.pbf go run ./cmd/herd places +43.7384+007.4246 1 5":                                                   "hand: " + debian,
	"go test ./test/sim -run One -sim.seed 443":                                                                                     "hand: " + debian,
	"go test ./test/sim -run One -sim.seed 443 -sim.shrink":                                                                         "hand: " + debian,
	"go test ./test/sim -run Large -sim.edges 60 -timeout 0 -v":                                                                     "hand: " + debian,
	"go test ./test/sim -run One -sim.seed 443 -sim.write plan.json":                                                                "hand: " + debian,
	"go test ./test/sim -run One -sim.plan plan.json":                                                                               "hand: " + debian,
	"go test ./test/sim -run One -sim.seed 443 -sim.trace trace.txt -sim.log log.txt":                                               "hand: " + debian,
	"go test ./test/sim -run Planted -sim.faults all -sim.times 3 -timeout 0":                                                       "hand: " + debian,
	"go test ./test/sim -run Many -sim.seeds 10000 -sim.from 1000000":                                                               "ci: TestManySeeds",
	"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \\\n-subj /CN=herd -keyout ca.key -out ca.pem": certificates,
	"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 \\\n-CA ca.pem -CAkey ca.key -subj /CN=edge -addext basicConstraints=critical,CA:false \\\n-addext subjectAltName=IP:127.0.0.1,DNS:localhost -keyout edge.key -out edge.pem": certificates,
	"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 \\\n-CA ca.pem -CAkey ca.key -subj /CN=kiwi -addext basicConstraints=critical,CA:false \\\n-addext extendedKeyUsage=clientAuth -keyout kiwi.key -out kiwi.pem":               certificates,
	"HERD_TLS_CERT=edge.pem HERD_TLS_KEY=edge.key HERD_TLS_CLIENT_CA=ca.pem HERD_TLS_IDENTITY=cn \\\ngo run ./cmd/herd up":                                                                                                                                      certificates,
	"go run ./cmd/herd iamat kiwi +34.068930-118.445127 --tls-ca ca.pem --tls-cert kiwi.pem --tls-key kiwi.key":                                                                                                                                                 certificates,

	"go build -o bin/ ./cmd/herd":                                                       "hand: " + debian,
	"bin/herd phone --users phone.users --create":                                       phoneToMap,
	"HERD_DEVICES_USERS=phone.users bin/herd up --devices 0.0.0.0:12010":                phoneToMap,
	"bin/herd phone alice --users phone.users --url http://192.0.2.10:12010":            phoneToMap,
	"curl -u alice -d 'id=phone&lat=34.06893&lon=-118.445127' http://192.0.2.10:12010/": phoneToMap,
	"bin/herd phone --users phone.users":                                                phoneToMap,
	"bin/herd phone alice --users phone.users --remove":                                 phoneToMap,
	"export HERD_DEVICES_ORIGINS=herd.example":                                          "hand: " + debian + ", with Caddy 2.6.2 and nginx 1.22.1 in front",
	"docker compose run --rm phones":                                                    "TestDockerHerd",
	"docker compose run --rm phones alice --url http://127.0.0.1:12010":                 "TestDockerHerd",

	// deploy/README.md, without containers
	"bin/herd nats-config --out keys":                                network,
	"nats-server -c keys/nats.conf &":                                network,
	"herd page --nkey operator.nk":                                   "TestWithAccountsTheToolsPageShowsAll",
	"HERD_EDGE=Clark NATS_NKEY=keys/Clark.nk bin/edge &":             network,
	"NATS_NKEY=keys/operator.nk bin/herd status":                     network,
	"nats-server -c mqtt.conf &":                                     mqttOverOne,
	"nats-server -c keys/herd.conf &":                                mqttOverLeaf,
	"CLIENT_KEY=$(cat keys/client.nk) nats-server -c devices.conf &": mqttOverLeaf,
	"mosquitto_pub -V mqttv311 -p 1883 -q 1 -t herd/edge/Clark/iamat -m \"kiwi +34.068930-118.445127 $(date +%s)\"": "hand: " + debian + ", mosquitto 2.0.11",
	"promtool test rules herd.rules_test.yml":                                                         "ci: test rules herd.rules_test.yml",
	"systemctl enable --now herd-edge@Clark":                                                          "not run: no test machine has systemd running; TestTheSystemdUnitVerifies has it check the unit",
	"openssl s_client -connect 127.0.0.1:12001 </dev/null 2>/dev/null | openssl x509 -noout -enddate": "hand: " + debian + ", beside the edges of docs/tls.md",
	"nats --nkey Milo.nk stream rm KV_herd_Milo":                                                      "hand: " + stackByHand + ", with -f in place of an answer to its question",
	"timedatectl": "not run: it needs systemd running",

	// deploy/README.md, the composed herd
	"docker compose up -d":                   "TestDockerHerd",
	"docker compose --profile observe up -d": "not run: it pulls images",
	"curl -s http://127.0.0.1:9090/api/v1/targets | grep -o '\"lastError\":\"[^\"]*\"'": "not run: it needs the image of Prometheus",
	"HERD_TAG=0.2.0 docker compose build":                                               "not run: it pulls an image",
}

func init() {
	for _, command := range []string{
		"HERD_JOURNAL_MAX_BYTES=4GiB docker compose up -d --no-deps clark",
		"HERD_TAG=0.2.0 docker compose up -d --no-deps bernard",
		"HERD_TAG=0.2.0 docker compose up -d --no-deps nats-1",
		"curl -s http://127.0.0.1:12081/metrics | grep herd_connections",
		"curl -s http://127.0.0.1:12081/metrics | grep herd_positions",
		"curl -s http://127.0.0.1:12081/metrics | grep process_.*_fds",
		"curl -s http://127.0.0.1:12081/readyz",
		"docker compose kill -s HUP nats-1 nats-2 nats-3",
		"docker compose logs --timestamps --tail 100 clark",
		"docker compose logs clark | grep '? IAMAT' | tail -50",
		"docker compose logs clark | grep 'broker disconnected'",
		"docker compose logs clark | grep 'older by'",
		"docker compose logs clark | grep 'put off'",
		"docker compose logs clark | grep 'refused'",
		"docker compose logs clark | grep places",
		"docker compose logs nats-1 nats-2 nats-3 | grep -i 'slow consumer'",
		"docker compose ps -a && docker compose logs --tail 50 clark",
		"docker compose ps nats-1",
		"docker compose ps nats-1 nats-2 nats-3",
		"docker compose ps nats-1 nats-2 nats-3 && docker compose logs --tail 50 clark",
		"docker compose rm -f nats-1 nats-2 nats-3",
		"docker compose stop nats-1 nats-2 nats-3",
		"docker compose up -d --no-deps bernard",
		"docker compose up -d --no-deps clark",
		"docker compose up -d --no-deps milo",
		"docker compose up -d --no-deps nats-1 nats-2 nats-3",
		"docker compose up accounts",
		`docker cp "$(docker compose ps -q nats-1)":/config keys`,
		`docker cp "$(docker compose ps -q nats-1)":/config/Clark.nk .`,
		`docker cp "$(docker compose ps -q nats-1)":/config/operator.nk .`,
		"docker stats --no-stream",
		"docker stats --no-stream && df -h",
		"docker volume rm herd_nats-1 herd_nats-2 herd_nats-3",
		"export NATS_URL=nats://127.0.0.1:4222",
		"export NATS_URL=nats://127.0.0.1:4222 NATS_NKEY=operator.nk",
		"for key in keys/[A-Z]*.nk; do edge=$(basename $key .nk)\nnats --nkey $key server check stream --stream KV_herd_$edge \\\n--peer-expect 3 --peer-lag-critical 100 --peer-seen-critical 5s; done",
		"herd status",
		"herd status --check",
		"herd status --check --http http://127.0.0.1:12080,http://127.0.0.1:12081,…",
		"herd status --json > status.json && docker compose logs --no-color > herd.log",
		"herd watch",
		"herd verify",
		"herd explain kiwi.cs.ucla.edu",
		"nats --js-api-prefix JS.Clark.API kv get herd_Clark kiwi.cs.ucla.edu",
		"nats --nkey Clark.nk kv ls herd_Clark",
		"nats --nkey Clark.nk stream backup KV_herd_Clark backup-Clark",
		"nats --nkey Clark.nk stream info KV_herd_Clark",
		"nats --nkey Clark.nk stream restore backup-Clark",
		"nats --nkey keys/operator.nk --js-api-prefix JS.Clark.API kv get herd_Clark kiwi.cs.ucla.edu",
		"nats --nkey keys/operator.nk micro stats herd-edge",
		"nats --nkey keys/operator.nk sub 'herd.at.>'",
		"nats --nkey sys.nk server ls",
		"nats --nkey sys.nk server report jetstream",
		"nats micro ls",
		"nats micro stats herd-edge",
		"nats req herd.edge.Clark.iamat 'x +1+1 1' --timeout 1s",
	} {
		seenToWork[command] = "hand: " + stackByHand
	}
}

// The tests that run several commands, and where people ran others.
const (
	minute       = "TestTheFirstMinuteOfTheREADME"
	daemons      = "TestTheFiveDaemonsOfTheREADME"
	certificates = "TestTheCommandsOfTheTLSDocument"
	network      = "TestTheHerdOnANetworkOfTheDocuments"
	phoneToMap   = "TestFromAPhoneToTheMapOfTheDocuments"
	mqttOverOne  = "TestADeviceTellsAnEdgeOverMQTT"
	mqttOverLeaf = "TestMQTTOverALeafWithAccounts"

	debian      = "Debian 12, Go 1.26.8, two cores, 30 November 2026"
	stackByHand = "the composed herd on Debian 12, Docker 20.10, docker-compose 1.29, nats 0.3.0, 30 November 2026"
)

// documents are those that have commands.
var documents = []string{"README.md", "ARCHITECTURE.md", "deploy/README.md", rulesFile,
	"docs/clients.md", "docs/configuration.md", "docs/performance.md", "docs/phones.md", "docs/places.md", "docs/tls.md", "docs/trust.md"}

var (
	shellBlock = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")
	// commandStart matches the first line of a command, with the variables in front of it.
	commandStart = regexp.MustCompile(`^([A-Z_]+=\S* +)+\\$|^(\w+=(\$\(\(?[^)]*\)\)?|\S)* +)*(go|bin/\w[\w-]*|herd|edge|nats|nats-server|docker|docker-compose|printf|curl|mosquitto_pub|openssl|export|timedatectl|promtool|systemctl|for|\.ci/run)( |$)|^i=0$`)
	inlineStart  = regexp.MustCompile("`((?:HERD_TEST=full )?go (?:run|test) \\S[^`]*|\\.ci/run|docker compose (?:up|run|--)[^`]*|nats (?:--|sub ')[^`]*|promtool test[^`]*|systemctl enable[^`]*)`")
	remark       = regexp.MustCompile(` +# .*$`)
)

// commandsOf returns the commands in a document, without remarks. A line that goes on, and a loop,
// are one command.
func commandsOf(text string) (all []string) {
	blocks := []string{}
	prose := shellBlock.ReplaceAllStringFunc(text, func(block string) string {
		if m := shellBlock.FindStringSubmatch(block); m[1] == "" || m[1] == "sh" {
			blocks = append(blocks, m[2])
		}
		return ""
	})
	var block strings.Builder
	for line := range strings.Lines(prose + "\n") {
		if code, ok := strings.CutPrefix(line, "    "); ok {
			block.WriteString(strings.TrimLeft(code, " "))
			continue
		}
		blocks = append(blocks, block.String())
		block.Reset()
		for _, m := range inlineStart.FindAllStringSubmatch(line, -1) {
			all = append(all, m[1])
		}
	}
	for _, block := range blocks {
		all = append(all, commandsInBlock(block)...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// commandsInBlock returns the commands in a block of code.
func commandsInBlock(block string) (all []string) {
	open := false // the last command goes on
	for line := range strings.Lines(block) {
		line = strings.TrimSpace(remark.ReplaceAllString(strings.TrimSuffix(line, "\n"), ""))
		line, _ = strings.CutPrefix(line, "$ ")
		switch {
		case open:
			line, _ = strings.CutPrefix(line, "> ")
			all[len(all)-1] += "\n" + strings.TrimSpace(line)
		case commandStart.MatchString(line):
			all = append(all, line)
		default:
			continue
		}
		last := all[len(all)-1]
		open = strings.HasSuffix(last, `\`) || strings.HasSuffix(last, "|") || last == "i=0" ||
			strings.Contains("\n"+last, "\nfor ") && !strings.HasSuffix(last, "done")
	}
	return all
}

// Each command that a document tells people to type has been seen to work.
func TestEachCommandInTheDocumentsIsKnownToWork(t *testing.T) {
	quiet(t)
	tests := map[string]bool{}
	for name, text := range repository(t) {
		if strings.HasSuffix(name, "_test.go") {
			for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(text, -1) {
				tests[m[1]] = true
			}
		}
	}
	ci := document(t, ".ci/run")
	left := maps.Clone(seenToWork)
	count := 0
	for _, name := range documents {
		text := document(t, name)
		hand := false
		for _, command := range commandsOf(text) {
			count++
			by, ok := seenToWork[command]
			delete(left, command)
			inCI, isCI := strings.CutPrefix(by, "ci: ")
			where, isHand := strings.CutPrefix(by, "hand: ")
			why, notRun := strings.CutPrefix(by, "not run: ")
			hand = hand || isHand || notRun
			switch {
			case !ok:
				t.Errorf("%s: nothing is known to run\n%q", name, command)
			case isCI && !strings.Contains(ci, inCI):
				t.Errorf("%s: %q is not in .ci/run", name, inCI)
			case isHand && where == "", notRun && why == "", !isCI && !isHand && !notRun && !tests[by]:
				t.Errorf("%s: %q is run by %q, which does not exist", name, command, by)
			}
		}
		if hand && name != rulesFile && !strings.Contains(text, "test/commands_test.go") {
			t.Errorf("%s does not say where its commands were run by hand", name)
		}
	}
	for command, by := range left {
		t.Errorf("%q (%s) is in no document", command, by)
	}
	if count < 80 {
		t.Errorf("%d commands were found, that cannot be all", count)
	}
}

// The finder of commands sees them, and nothing else.
func TestCommandsAreFound(t *testing.T) {
	text := "Type `go run ./x` or `herd status`.\n\n    A=1 B=$((1+2)) bin/edge --x   # a remark\n    output\n\n    $ nats sub 'a.>'\n    11:37:12 Subscribing\n\n" +
		"   1. in a list:\n\n       $ docker compose kill \\\n       >   -s HUP\n\n    i=0\n    for e in A B; do\n      E=$e bin/edge &\n    done\n    bin/herd status\n\n" +
		"```sh\nprintf 'x' |\n  nc a b\n```\n```\n# no command\n```\n```go\ngo func() {}()\n```\n"
	want := []string{"A=1 B=$((1+2)) bin/edge --x", "bin/herd status", "docker compose kill \\\n-s HUP", "go run ./x",
		"i=0\nfor e in A B; do\nE=$e bin/edge &\ndone", "nats sub 'a.>'", "printf 'x' |\nnc a b"}
	if got := commandsOf(text); !slices.Equal(got, want) {
		t.Errorf("found\n%q\nwant\n%q", got, want)
	}
}

// section returns what stands in a document under a heading.
func section(t *testing.T, name, heading string) string {
	t.Helper()
	_, text, ok := strings.Cut(document(t, name), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("%s has no section %q", name, heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// A shell runs commands of documents in a folder of its own, with binaries of the tests in bin/.
type shell struct {
	t       *testing.T
	dir     string
	env     []string
	replace *strings.Replacer
}

// newShell returns a shell that replaces texts in the commands, such as addresses, by others.
func newShell(t *testing.T, env []string, replace ...string) *shell {
	t.Helper()
	s := &shell{t: t, dir: t.TempDir(), replace: strings.NewReplacer(replace...)}
	if err := os.Symlink(filepath.Dir(herdtest.Binary(t, "herd")), filepath.Join(s.dir, "bin")); err != nil {
		t.Fatal(err)
	}
	s.env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TMPDIR=" + s.dir}, env...)
	return s
}

// run runs a script and returns what it printed. What it left in the background ends with it.
func (s *shell) run(script string) (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), herdtest.Promise(20*time.Second))
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", "trap 'jobs -p >jobs; kill $(cat jobs) 2>/dev/null; wait' EXIT\n"+s.replace.Replace(script))
	cmd.Dir, cmd.Env, cmd.WaitDelay = s.dir, s.env, 10*time.Second
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The commands of the README's first minute work as they stand there, but for the addresses.
func TestTheFirstMinuteOfTheREADME(t *testing.T) {
	quiet(t)
	nats, page := ports.Addr(t), ports.Addr(t)
	u := startUp(t, "--base-port", "0", "--http", page, "--nats", nats)
	_, clark, _ := strings.Cut(u.addrs["Clark"], ":")
	_, johnson, _ := strings.Cut(u.addrs["Johnson"], ":")
	s := newShell(t, []string{"NATS_URL=nats://" + nats}, "go run ./cmd/herd", "bin/herd", "12001", clark, "12003", johnson)
	usage, _ := exec.Command("nc", "-h").CombinedOutput()
	netcat := strings.Contains(string(usage), "-N")
	ran := 0
	for _, command := range commandsInOrder(section(t, "README.md", "One minute")) {
		want := ""
		switch {
		case strings.Contains(command, "| nc ") && !netcat:
			t.Logf("not run, no nc of OpenBSD: %s", command)
			continue
		case strings.Contains(command, "IAMAT") || strings.Contains(command, " iamat "):
			want = "AT Clark "
		case strings.Contains(command, "WHATSAT") || strings.Contains(command, " whatsat "):
			want = `"status":"OK"`
		case strings.HasSuffix(command, " status"):
			want = "5 of 5 edges ready, 6 of 6 links up, 1 client, "
		default: // starts a herd, watches one, or runs the tests
			continue
		}
		ran++
		herdtest.Eventually(t, herdtest.Promise(5*time.Second), command, func() error { // another edge may not know the client yet
			if out, err := s.run(command); !strings.Contains(out, want) {
				return fmt.Errorf("prints %q, %v; want %q", out, err, want)
			}
			return nil
		})
	}
	if least := 3; ran < least {
		t.Errorf("%d commands were run, want %d at least", ran, least)
	}
}

// commandsInOrder returns the commands in the indented blocks of a text, as they stand there.
func commandsInOrder(text string) (all []string) {
	for line := range strings.Lines(text) {
		if code, ok := strings.CutPrefix(line, "    "); ok {
			all = append(all, strings.TrimSpace(remark.ReplaceAllString(code, "")))
		}
	}
	return all
}

// The daemons of the README are a herd, as they stand there, but for the ports.
func TestTheFiveDaemonsOfTheREADME(t *testing.T) {
	quiet(t)
	broker := ports.Addr(t)
	_, port, _ := strings.Cut(broker, ":")
	s := newShell(t, []string{"NATS_URL=nats://" + broker, "HERD_LOG_LEVEL=warn", "HERD_SHUTDOWN_TIMEOUT=1s"},
		"-a 127.0.0.1", "-a 127.0.0.1 -p "+port, "127.0.0.1:$((12000+i))", "127.0.0.1:0", "127.0.0.1:$((12080+i))", "127.0.0.1:0",
		"go build", "true go build", // its result is in bin/ already
		"\nbin/herd status", "\nn=0; until bin/herd status >status 2>&1 && grep '^5 of 5 edges ready, 6 of 6 links up' status || [ $((n+=1)) = 100 ]; do sleep 0.2; done; cat status")
	script := "\n" + strings.Join(commandsInOrder(section(t, "README.md", "Five daemons on a NATS server of your own")), "\n")
	if out, err := s.run(script); err != nil || !strings.Contains(out, "5 of 5 edges ready, 6 of 6 links up, 0 clients") {
		t.Errorf("prints %s, %v", out, err)
	}
}

// The commands of docs/tls.md make certificates with which an edge and a device talk.
func TestTheCommandsOfTheTLSDocument(t *testing.T) {
	quiet(t)
	if out, err := exec.Command("openssl", "version").Output(); err != nil || !strings.HasPrefix(string(out), "OpenSSL 3") {
		t.Skipf("skipped: no openssl 3: %q, %v", out, err)
	}
	s := newShell(t, nil)
	var edge, device, certificates []string
	for _, command := range strings.Split(strings.ReplaceAll(strings.Join(commandsInOrder(document(t, "docs/tls.md")), "\n"), "\\\n", " "), "\n") {
		switch {
		case strings.HasPrefix(command, "openssl "):
			certificates = append(certificates, command)
		case strings.Contains(command, "go run ./cmd/herd up"):
			edge = strings.Fields(command)
		case strings.Contains(command, "go run ./cmd/herd iamat"):
			device = append(device, command)
		}
	}
	if len(certificates) != 3 || len(edge) == 0 || len(device) != 1 {
		t.Fatalf("%d certificates, an edge %q, a device %q", len(certificates), edge, device)
	}
	if out, err := s.run(strings.Join(certificates, " && ")); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	env := map[string]string{}
	for _, variable := range edge {
		if name, value, ok := strings.Cut(variable, "="); ok {
			if strings.HasSuffix(value, ".pem") || strings.HasSuffix(value, ".key") {
				value = filepath.Join(s.dir, value)
			}
			env[name] = value
		}
	}
	u := startUpWith(t, env, "--base-port", "0", "--http", ports.Addr(t), "--nats", ports.Addr(t))
	s.replace = strings.NewReplacer("go run ./cmd/herd", "bin/herd")
	for _, name := range []string{"kiwi", "emu"} { // the certificate is kiwi's
		out, err := s.run(strings.Replace(device[0], " kiwi ", " "+name+" ", 1) + " --addr " + u.addrs["Clark"])
		if ok := err == nil && strings.HasPrefix(out, "AT Clark "); ok != (name == "kiwi") {
			t.Errorf("the IAMAT of %s with kiwi's certificate prints %q, %v", name, out, err)
		}
	}
}

// The commands of docs/phones.md put a phone on the map, as they stand there but for addresses, ports and
// the password that curl asks for.
func TestFromAPhoneToTheMapOfTheDocuments(t *testing.T) {
	quiet(t)
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("skipped: no curl")
	}
	commands := commandsInOrder(section(t, "docs/phones.md", "From a phone to the map in five minutes"))
	users := commandsInOrder(section(t, "docs/phones.md", "Users"))
	if len(commands) != 5 || len(users) != 2 {
		t.Fatalf("the sections have %q and %q", commands, users)
	}
	create, up, add, post := commands[1], commands[2], commands[3], commands[4]
	s := newShell(t, nil)
	run := func(command, want string) string {
		t.Helper()
		out, err := s.run(command)
		if err != nil || !strings.Contains(out, want) {
			t.Fatalf("%s prints %s, %v", command, out, err)
		}
		return out
	}
	run(create, "")
	name, file, _ := strings.Cut(strings.Fields(up)[0], "=")
	herd := startUpWith(t, map[string]string{name: filepath.Join(s.dir, file)}, "--base-port", "0", "--http", "", "--nats", ports.Addr(t), "--devices", "127.0.0.1:0")
	m := regexp.MustCompile(`reach Bernard at (\S+)`).FindStringSubmatch(herd.Stderr.String())
	if m == nil {
		t.Fatalf("no address for devices in %s", herd.Stderr)
	}
	s.replace = strings.NewReplacer("192.0.2.10:12010", m[1])
	password := regexp.MustCompile(`Password +(\S+)`).FindStringSubmatch(run(add, "on the map it is alice/phone"))
	if password == nil {
		t.Fatal("no password")
	}
	run(strings.Replace(post, "-u alice", "-sS -f -u alice:"+password[1], 1), "")
	herdtest.Eventually(t, herdtest.Promise(5*time.Second), "the position is at another edge", func() error {
		if got := talk(t, herd.addrs["Juzang"], "WHATSAT alice/phone 0 0\n"); !strings.Contains(got, " +34.06893-118.445127 ") {
			return fmt.Errorf("it answers %q", got)
		}
		return nil
	})
	run(users[0], "alice\n")
	run(users[1], "alice is taken out")
}

// The commands with which deploy/README.md gives each edge an account work as they stand there, but
// for the port.
func TestTheHerdOnANetworkOfTheDocuments(t *testing.T) {
	quiet(t)
	commands := commandsInOrder(section(t, "deploy/README.md", "A herd on a network"))
	i := slices.IndexFunc(commands, func(c string) bool { return strings.Contains(c, "bin/herd status") })
	if i < 0 {
		t.Fatalf("no status in %q", commands)
	}
	broker := ports.Addr(t)
	_, port, _ := strings.Cut(broker, ":")
	s := newShell(t, []string{"NATS_URL=nats://" + broker, "HERD_LISTEN=127.0.0.1:0", "HERD_HTTP=127.0.0.1:0", "HERD_LOG_LEVEL=warn", "HERD_SHUTDOWN_TIMEOUT=1s", "HERD_JOIN_TIMEOUT=1s"},
		"nats-server -c", "bin/nats-server -a 127.0.0.1 -p "+port+" -c",
		"bin/herd status", "sh -c 'n=0; until bin/herd status >status 2>&1; grep \"^1 of 5 edges ready\" status || [ $((n+=1)) = 100 ]; do sleep 0.2; done; cat status'")
	if out, err := s.run(strings.Join(commands[:i+1], "\n")); err != nil || !strings.Contains(out, "1 of 5 edges ready") {
		t.Errorf("prints %s, %v", out, err)
	}
}
