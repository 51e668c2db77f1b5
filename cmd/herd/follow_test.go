package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"herd/edge/client"
)

func TestHowAnEventLooks(t *testing.T) {
	now := time.Date(2026, 11, 30, 6, 20, 3, 607e6, time.UTC)
	at := client.Position{
		Line: "AT Jaquez -0.001000000 ki\xffwi +34.07-118.44 1796019602.5", Edge: "Jaquez", Client: "ki\xffwi",
		Location: "+34.07-118.44", Time: time.Unix(1796019602, 5e8), Skew: -time.Millisecond,
	}
	for _, test := range []struct {
		event     client.Event
		row, json string
	}{
		{client.Event{Kind: client.In, Position: at, Inside: 1, Addr: "a:1"},
			`06:20:03.607 in     ki\xffwi                     +34.07-118.44            1.107s       Jaquez -0.001` + "\n",
			`{"told":"2026-11-30T06:20:03.607Z","event":"in","client":"ki\ufffdwi","client_base64":"a2n/d2k=","location":"+34.07-118.44","lat":34.07,"lon":-118.44,"time":"1796019602.5","edge":"Jaquez","inside":1,"from":"a:1"}` + "\n"},
		{client.Event{Kind: client.Moved, Position: at},
			`06:20:03.607 moved  ki\xffwi                     +34.07-118.44            1.107s       Jaquez -0.001` + "\n", `"event":"moved"`},
		{client.Event{Kind: client.Out, Position: at, Why: client.Left},
			`06:20:03.607 out    ki\xffwi                     +34.07-118.44            1.107s       Jaquez -0.001` + "\n", `"why":"left"`},
		{client.Event{Kind: client.Out, Position: at, Why: client.Missing},
			`06:20:03.607 out    ki\xffwi                     +34.07-118.44            1.107s       Jaquez -0.001 (missing)` + "\n", `"why":"missing"`},
		{client.Event{Kind: client.Complete, Inside: 2, Addr: "a:1"}, "", `"event":"complete","inside":2,"from":"a:1"}` + "\n"},
		{client.Event{Kind: client.Lost, Err: errors.New("gone"), Addr: "a:1"}, "", `"event":"lost","inside":0,"from":"a:1","error":"gone"}` + "\n"},
	} {
		if row := string(appendFollowed(nil, now, &test.event)); row != test.row {
			t.Errorf("%v is printed as\n%q, want\n%q", test.event.Kind, row, test.row)
		}
		if text := string(appendFollowedJSON(nil, now, &test.event)); !strings.Contains(strings.ReplaceAll(text, "\ufffd", `\ufffd`), test.json) {
			t.Errorf("%v is printed as\n%s, want\n%s", test.event.Kind, text, test.json)
		}
	}
}

func TestFollowAndWhosatAreTold(t *testing.T) {
	l := listen(t, "? WATCH w kiwi\n")
	o := newTool(t)
	o.want(exitFailed, "follow", "kiwi", "--addr", l.addr)
	if got := <-l.lines; got != "WATCH w kiwi\n" {
		t.Errorf("it sends %q", got)
	}
	if says := o.stderr.String(); !strings.Contains(says, "HERD_LIVE=off") || o.stdout.String() != "" {
		t.Errorf("it says %q and prints %q", says, o.stdout.String())
	}
	const answer = "AT Clark +0.500000000 kiwi +1+1 1\nAT Clark +0.500000000 emu +1+1 1\n\n"
	l = listen(t, answer)
	o = newTool(t)
	o.want(exitOK, "whosat", "kiwi", "5", "5", "--addr", l.addr)
	if got := <-l.lines; got != "WHOSAT kiwi 5 5\n" || o.stdout.String() != answer {
		t.Errorf("it sends %q and prints %q", got, o.stdout.String())
	}
	if !regexp.MustCompile(`(?m)^  follow WHAT\.\.\. +\S`).MatchString(usageOf(t)) {
		t.Error("usage does not list follow")
	}
}

// script is an edge that answers the one line of each connection with what is next, and ends the
// connection then. Behind the last it takes no connection.
func script(t *testing.T, texts ...string) (addr string, asked <-chan string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, len(texts))
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer ln.Close()
		for _, text := range texts {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(nc).ReadString('\n')
			lines <- line
			_, _ = nc.Write([]byte(text))
			_ = nc.Close()
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
	return ln.Addr().String(), lines
}

// L5: the edge goes away, the next address is asked, and what has changed meanwhile is printed, once.
func TestFollowGoesOnAtTheNextAddress(t *testing.T) {
	const line = "Clark +0.500000000 "
	first := "! w IN " + line + "stays +1+1 100\n! w IN " + line + "moves +1+1 100\n! w IN " + line + "goes +1+1 100\n! w NOW 3\n! STILL\n! w AT " + line + "stays +1+1.1 101\n"
	second := "! w IN " + line + "moves +1+1.2 102\n! w IN " + line + "stays +1+1 100\n! w IN " + line + "comes +1+1 100\n! w NOW 3\n! w OUT " + line + "comes +2+2 103 left\n! w OFF full\n"
	for _, test := range []struct {
		name  string
		flags []string
		shown func(out string) []string
	}{
		{"as people read it", nil, func(out string) (events []string) {
			for line := range strings.Lines(out) {
				f := strings.Fields(line) // time, event, client, location
				events = append(events, strings.Join(f[1:4], " "))
			}
			return events
		}},
		{"as JSON", []string{"--json"}, func(out string) (events []string) {
			for line := range strings.Lines(out) {
				var e followed
				if err := json.Unmarshal([]byte(line), &e); err != nil {
					t.Errorf("%q: %v", line, err)
				}
				if e.Client != "" {
					events = append(events, e.Event+" "+e.Client+" "+e.Location)
				} else {
					events = append(events, e.Event)
				}
				if e.Event == "complete" && e.Inside != 3 {
					t.Errorf("%d are inside: %s", e.Inside, line)
				}
			}
			return events
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dead := closedAddr(t)
			a, askedA := script(t, first)
			b, askedB := script(t, second)
			o := newTool(t)
			o.want(exitFailed, append([]string{"follow", "+1+1", "100", "--addr", dead + "," + a + "," + b}, test.flags...)...)
			for _, asked := range []<-chan string{askedA, askedB} {
				if got := <-asked; got != "WATCH w +1+1 100\n" {
					t.Errorf("it sends %q", got)
				}
			}
			want := []string{"in stays +1+1", "in moves +1+1", "in goes +1+1", "moved stays +1+1.1", "moved moves +1+1.2", "in comes +1+1", "out goes +1+1", "out comes +2+2"}
			if len(test.flags) > 0 { // what people are told on stderr is an event as well
				want = slices.Insert(want, 3, "complete")
				want = slices.Insert(want, 5, "lost")
				want = slices.Insert(want, 9, "complete")
				want = slices.Insert(want, 0, "lost") // of the dead address
			}
			if got := test.shown(o.stdout.String()); !slices.Equal(got, want) {
				t.Errorf("it prints %q\nwant %q", got, want)
			}
			said := o.stderr.String()
			for _, part := range []string{dead, "3 inside, as " + a + " tells", "3 inside, as " + b + " tells", a + ": ", "the edge ended the watch: full"} {
				if !strings.Contains(said, part) {
					t.Errorf("it does not say %q:\n%s", part, said)
				}
			}
		})
	}
}

// One client is in no area, so there is nothing that it could be inside of.
func TestFollowSaysWhetherTheClientIsKnown(t *testing.T) {
	for _, test := range []struct{ told, want string }{
		{"! w NOW 0\n", "the client is not known yet, as "},
		{"! w IN Clark +0.500000000 kiwi +1+1 100\n! w NOW 1\n", "the client is known, as "},
	} {
		l := listen(t, test.told)
		o := newTool(t)
		ended := make(chan int, 1)
		go func() { ended <- o.run("follow", "kiwi", "--addr", l.addr) }()
		o.stderr.await(t, test.want+l.addr+" tells; following")
		(<-o.signals) <- os.Interrupt
		if code := <-ended; code != exitOK {
			t.Errorf("exit %d after an interrupt, and it says %q", code, o.stderr.String())
		}
	}
}

// Ctrl-C ends it, in order.
func TestFollowIsInterrupted(t *testing.T) {
	l := listen(t, "! w IN Clark +0.500000000 kiwi +1+1 100\n! w NOW 1\n")
	o := newTool(t)
	ended := make(chan int, 1)
	go func() { ended <- o.run("follow", "kiwi", "--addr", l.addr) }()
	o.stdout.await(t, "kiwi")
	(<-o.signals) <- os.Interrupt
	if code := <-ended; code != exitOK {
		t.Errorf("exit %d after an interrupt, and it says %q", code, o.stderr.String())
	}
}

// What is no edge's client port will not become one, so the tool says so and ends. A port that
// closes plain text may be an edge's: the tool says how to reach it, and goes on at the next.
func TestFollowSaysThatAPortIsNoEdges(t *testing.T) {
	for _, answer := range []string{"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request", "INFO {}\r\n", "SSH-2.0-x\r\n"} {
		a, _ := script(t, answer)
		b, _ := script(t, answer)
		o := newTool(t)
		o.want(exitFailed, "follow", "kiwi", "--addr", a+","+b)
		if says := o.stderr.String(); !strings.Contains(says, b+": this is no edge's client port: it answers") || strings.Contains(says, "L3") {
			t.Errorf("it says %q of %q", says, answer)
		}
	}
	a, _ := script(t, "")
	b, _ := script(t, "! w OFF full\n")
	o := newTool(t)
	o.want(exitFailed, "follow", "kiwi", "--addr", a+","+b)
	if says := o.stderr.String(); !strings.Contains(says, "--tls-ca") || !strings.Contains(says, "the edge ended the watch: full") {
		t.Errorf("it says %q", says)
	}
}

// usageOf is what `herd help` prints.
func usageOf(t *testing.T) string {
	o := newTool(t)
	o.want(exitOK, "help")
	return o.stdout.String()
}
