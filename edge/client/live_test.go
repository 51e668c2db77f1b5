package client_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"herd/edge/client"
	"herd/edge/wire"
)

// scripts is an edge that answers each connection's WATCH with a script, and then closes it;
// behind the last it refuses.
func scripts(t *testing.T, texts ...string) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			line, err := bufio.NewReader(nc).ReadString('\n')
			text := "? " + line
			if len(texts) > 0 && err == nil {
				text, texts = texts[0], texts[1:]
			}
			_, _ = nc.Write([]byte(text))
			_ = nc.Close()
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		serving.Wait()
	})
	return ln.Addr().String()
}

// at is the fields of an AT line of a client at a second.
func at(edge, id string, second int) string {
	return fmt.Sprintf("%s +0.000000000 %s +1+%d %d", edge, id, second%100, second)
}

// heard is what a watch told, up to its error or the nth event.
func heard(t *testing.T, c *client.Client, what client.What, n int) (events []string, end error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for e, err := range c.Watch(ctx, what) {
		if err != nil {
			return events, err
		}
		text := e.Kind.String()
		switch e.Kind {
		case client.In, client.Moved, client.Out:
			text += fmt.Sprintf(" %s %d %s", e.Position.Client, e.Position.Time.Unix(), e.Why)
			if _, err := wire.ParseAT([]byte(e.Position.Line)); err != nil {
				t.Errorf("the line of %s is %q", text, e.Position.Line)
			}
		case client.Complete:
			text += fmt.Sprint(" ", e.Inside)
		}
		if events = append(events, strings.TrimRight(text, " ")); len(events) == n {
			break
		}
	}
	return events, nil
}

func newClient(t *testing.T, addrs ...string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Addrs: addrs, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// L5: of each client the newer line is kept, who is missing is out, and nothing is told twice.
func TestAWatchGoesOnAtTheNextAddress(t *testing.T) {
	first := "! w IN " + at("A", "stays", 100) + "\n! w IN " + at("A", "leads", 200) + "\n! w IN " + at("A", "goes", 100) + "\n! w IN " + at("A", "lags", 300) + "\n! w NOW 4\n" +
		"! STILL\n! w AT " + at("A", "leads", 201) + "\n! w OUT " + at("A", "goes", 101) + " left\n! w IN " + at("A", "back", 1) + "\n! w OUT " + at("A", "back", 1) + " forgotten\n"
	second := "! w IN " + at("B", "leads", 199) + "\n! w IN " + at("A", "stays", 100) + "\n! w IN " + at("B", "new", 5) + "\n! w NOW 3\n" +
		"! w AT " + at("A", "leads", 201) + "\n! w AT " + at("B", "leads", 202) + "\n! w IN " + at("A", "lags", 300) + "\n! w OFF stopping\n"
	third := "! w IN " + at("C", "leads", 203) + "\n! w OUT " + at("C", "leads", 204) + " left\n! w NOW 1\n! w OFF full\n"
	a, b, c := scripts(t, first), scripts(t, second), scripts(t, third)
	got, err := heard(t, newClient(t, a, b, c), client.Circle("+1+1", 5), 0)
	want := []string{
		"in stays 100", "in leads 200", "in goes 100", "in lags 300", "complete 4", "moved leads 201", "out goes 101 left", "in back 1", "out back 1 forgotten", "lost",
		"in new 5", "out lags 300 missing", "complete 3", "moved leads 202", "in lags 300", "lost",
		"moved leads 203", "out leads 204 left",
	}
	if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
		t.Errorf("told %q\nwant %q", got, want)
	}
	rest := got[min(len(got), len(want)):]
	slices.Sort(rest)
	if more := []string{"complete 0", "out lags 300 missing", "out new 5 missing", "out stays 100 missing"}; !slices.Equal(rest, more) {
		t.Errorf("then told %q, want %q", rest, more)
	}
	if ended, ok := errors.AsType[*client.EndedError](err); !ok || ended.Reason != "full" {
		t.Errorf("ended with %v, want full", err)
	}
}

func TestAWatchThatAllRefuseEnds(t *testing.T) {
	a, b := scripts(t), scripts(t)
	got, err := heard(t, newClient(t, a, b), client.OneClient("kiwi"), 0)
	if refused, ok := errors.AsType[*client.RefusedError](err); !ok || refused.Text != "WATCH w kiwi" || len(got) != 1 {
		t.Errorf("told %q, ended with %v", got, err)
	}
}

func TestWhatIsNoWatchIsNotSent(t *testing.T) {
	c := newClient(t, "127.0.0.1:1")
	for _, what := range []client.What{client.OneClient(""), client.OneClient("a b"), client.Circle("+91+0", 5), client.Circle("+1+1", 1001), client.Around("kiwi", 51), client.Box("+2+1", "+1+2"), client.Circle("+1+1", -1)} {
		if got, err := heard(t, c, what, 0); err == nil || len(got) > 0 {
			t.Errorf("%v: told %q, %v", what, got, err)
		}
	}
	for _, fields := range [][]string{{}, {"a", "b", "c"}, {"+1+1", "x"}} {
		if _, err := client.ParseWhat(fields...); err == nil {
			t.Errorf("%q is taken for a watch", fields)
		}
	}
	if what, err := client.ParseWhat("+1+1", "2"); err != nil || len(what.Fields()) != 2 {
		t.Errorf("%v, %v", what, err)
	}
	for _, line := range []string{"WATCH w kiwi", "UNWATCH w"} {
		if _, err := c.Do(t.Context(), []byte(line)); !errors.Is(err, client.ErrWatch) {
			t.Errorf("Do(%q) = %v", line, err)
		}
	}
}

func TestAWatchEndsWithItsContextAndWithItsClient(t *testing.T) {
	c := newClient(t, clark)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	over := errors.New("enough")
	for e, err := range c.Watch(ctx, client.Circle("-45-45", 1)) {
		if err != nil {
			if !errors.Is(err, over) {
				t.Errorf("ended with %v", err)
			}
		} else if e.Kind == client.Complete {
			cancel(over)
		}
	}
	for e, err := range c.Watch(t.Context(), client.Circle("-45-45", 1)) {
		if err != nil {
			if !errors.Is(err, client.ErrClosed) {
				t.Errorf("ended with %v", err)
			}
		} else if e.Kind == client.Complete {
			_ = c.Close()
		}
	}
}

func TestWhosAt(t *testing.T) { // L1
	c := newClient(t, clark)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i := range 4 {
		if _, err := c.IAMAT(ctx, fmt.Sprint("whosat-", i), client.Location(10, 10+float64(i*i)/200), time.Unix(1000, 0)); err != nil {
			t.Fatal(err)
		}
	}
	held, near, err := c.WhosAt(ctx, "whosat-1", 2, 5)
	if err != nil || held.Client != "whosat-1" || len(near) != 2 || near[0].Client != "whosat-0" || near[1].Client != "whosat-2" {
		t.Errorf("got %v, %v, %v", held, near, err)
	}
	if _, near, err := c.WhosAt(ctx, "whosat-1", 0, 5); err != nil || len(near) != 0 {
		t.Errorf("L1 zero: %v, %v", near, err)
	}
	if _, _, err := c.WhosAt(ctx, "whosat-none", 1, 1); !isRefused(err) {
		t.Errorf("an unknown client: %v", err)
	}
	if _, _, err := c.WhosAt(ctx, "whosat-1", 51, 1); err == nil || isRefused(err) {
		t.Errorf("a wrong radius: %v", err)
	}
}

func isRefused(err error) bool {
	_, ok := errors.AsType[*client.RefusedError](err)
	return ok
}

// A Conn's told lines are told apart from answers, wherever a read ends.
func TestAConnTellsWatchesFromAnswers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	near, far := net.Pipe()
	c := client.NewConn(near, 0)
	defer c.Close()
	var told []string
	c.OnTold(func(line []byte) { told = append(told, string(line)) })
	for _, line := range []string{"IAMAT k +1+1 1", "WATCH w kiwi", "WATCH v kiwi", "WHATSAT k 0 0", "WHOSAT k 1 1", "UNWATCH w", "UNWATCH w", "WATCH u kiwi"} {
		if err := c.Send([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	line := "AT " + at("A", "k", 1) + "\n"
	text := line + "! x AT 1\n! w IN 1\n! x OFF full\n! w NOW 1\n! v IN 1\n! v OFF full\n! STILL\n" + line + "{\"! x\":\n1}\n\n" + line + line + "\n! w OFF slow\n! w OFF\n? UNWATCH w\n! u NOW 0\n"
	go func() {
		buf := make([]byte, 4096)
		_, _ = far.Read(buf)
		for i := range len(text) {
			if _, err := far.Write([]byte{text[i]}); err != nil {
				return
			}
		}
	}()
	if err := c.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{line, "! w NOW 1\n", "! v OFF full\n", line + "{\"! x\":\n1}\n\n", line + line + "\n", "! w OFF\n", "? UNWATCH w\n", "! u NOW 0\n"} {
		answer, err := c.Receive(ctx)
		if string(answer) != want || err != nil {
			t.Fatalf("received %q, %v, want %q", answer, err, want)
		}
	}
	if want := []string{"! x AT 1\n", "! w IN 1\n", "! x OFF full\n", "! v IN 1\n", "! STILL\n", "! w OFF slow\n"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}
