package events

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func ring() (*Ring, *slog.Logger, *bytes.Buffer) {
	r := New("Clark", "e1", func(moment time.Time) time.Time { return moment.Add(time.Hour) })
	var log bytes.Buffer
	return r, slog.New(r.Handler(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))), &log
}

// The log keeps its level, and the ring has its own.
func TestWarningsAndNewsAreKeptWhateverTheLogsLevel(t *testing.T) {
	r, log, written := ring()
	log.Debug("debug")
	log.Info("answer not sent")
	log.Info("ready", "address", "127.0.0.1:12000")
	log.With("neighbour", "Juzang").Warn("link down", "reason", "silent", "direction", "in", "silent", 3*time.Second)
	log.Error("not ready", "why", "clock", "after", 186848426*time.Nanosecond)
	var texts []string
	for _, e := range r.Events() {
		texts = append(texts, e.Level+": "+e.Text)
	}
	want := []string{"info: ready", "warning: link to Juzang down: nothing heard for 3s", "error: not ready: why clock, after 186.8ms"}
	if fmt.Sprint(texts) != fmt.Sprint(want) {
		t.Errorf("kept %q, want %q", texts, want)
	}
	if got := written.String(); !strings.Contains(got, "not ready") || strings.Contains(got, "link down") || strings.Count(got, "\n") != 1 {
		t.Errorf("the log has %q", got)
	}
	e := r.Events()[1]
	if e.Neighbour != "Juzang" || e.Edge != "Clark" || e.ID != "Clark/e1/2" || time.Until(e.At) < 30*time.Minute || e.At.Location() != time.UTC {
		t.Errorf("%+v", e)
	}
}

// What began is open until it ends, for the neighbour that it is about.
func TestAnEventEndsWhatItIsTheEndOf(t *testing.T) {
	r, log, _ := ring()
	a, b := log.With("neighbour", "A"), log.With("neighbour", "B")
	a.Warn("link down")
	b.Warn("link down")
	log.Warn("journal not written", "error", errors.New("no space"))
	a.Info("link up")
	all := r.Events()
	if all[0].Open || !all[0].Until.Equal(all[3].At) {
		t.Errorf("the link that is up again: %+v", all[0])
	}
	for _, e := range all[1:3] {
		if !e.Open || !e.Until.IsZero() {
			t.Errorf("still down: %+v", e)
		}
	}
	if all[3].Open || all[2].Text != "journal not written: no space" {
		t.Errorf("%+v", all)
	}
	log.Info("journal written again")
	if e := r.Events()[2]; e.Open {
		t.Errorf("the journal is written: %+v", e)
	}
}

func TestTheRingIsBounded(t *testing.T) {
	r, log, _ := ring()
	for i := range 1000 {
		log.Warn("a", "n", i)
	}
	if all := r.Events(); len(all) != most || all[most-1].Text != "a: n 999" {
		t.Errorf("%d events, the last %+v", len(all), all[len(all)-1])
	}
	for range 100 {
		log.Warn(strings.Repeat("é\xff", 5000), "error", strings.Repeat("x", 1<<20))
	}
	size := 0
	for _, e := range r.Events() {
		size += len(e.Event) + len(e.Text) + len(e.ID)
		if !utf8.ValidString(e.Text) || len(e.Text) > mostText || len(e.Event) > mostText {
			t.Fatalf("%d bytes: %q", len(e.Text), e.Text)
		}
	}
	if size == 0 || size > mostAll {
		t.Errorf("%d bytes", size)
	}
}

// Who sends what, and from where, is not for everybody who may see the page.
func TestClientsAreLeftOut(t *testing.T) {
	r, log, _ := ring()
	log.Warn("TLS handshake failed", "remote", "192.0.2.7:4000", "client", "kiwi", "error", "read 127.0.0.1:1->192.0.2.7:4000: bad certificate")
	log.WithGroup("g").With("remote", "192.0.2.8").Warn("x")
	log.Warn("positions without an id", "user", "kiwi")
	for _, e := range r.Events() {
		if strings.Contains(e.Text, "192.0.2") || strings.Contains(e.Text, "kiwi") {
			t.Errorf("%+v", e)
		}
	}
	if got := r.Events()[0].Text; got != "TLS handshake failed: read 127.0.0.1:1->the client: bad certificate" {
		t.Errorf("text %q", got)
	}
}
