package test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"herd/test/herdtest"
)

// look asks an edge what it holds, and reads the answer; code is that of an error.
func look(t testing.TB, nc *nats.Conn, edge, endpoint, payload string, into any) (code string) {
	t.Helper()
	reply, err := nc.Request("herd.edge."+edge+"."+endpoint, []byte(payload), herdtest.Promise(5*time.Second))
	if err != nil {
		t.Fatalf("%s of %s: %v", endpoint, edge, err)
	}
	if code = reply.Header.Get("Nats-Service-Error-Code"); code != "" {
		if len(reply.Data) > 0 {
			t.Errorf("%s: error %s with data %q", endpoint, code, reply.Data)
		}
		return code
	}
	if err := json.Unmarshal(reply.Data, into); err != nil {
		t.Fatalf("%s of %s: %q: %v", endpoint, edge, reply.Data, err)
	}
	return ""
}

// heldClient is the answer of `.client`.
type heldClient struct {
	Edge, Epoch, Line, From, Neighbour string
	Known, Own                         bool
	InJournal                          bool   `json:"in_journal"`
	LineBytes                          []byte `json:"line_base64"`
	Lat, Lon                           float64
	Received, Effective                time.Time
	StoredAfter                        time.Time `json:"stored_after"`
	StoredBefore                       time.Time `json:"stored_before"`
	Revision                           uint64
	Links                              []struct {
		Neighbour        string
		Up, Acknowledged bool
	}
}

// cells is the answer of `.cells`.
type cellCounts struct {
	Edge    string
	Clients int
	Size    float64
	Cells   [][3]int
	Singles []struct {
		Client, Line, Edge, Time string
		ClientBytes              []byte `json:"client_base64"`
		Lat, Lon                 float64
	}
}

// The operator of a herd with accounts is told what each edge holds of a client, and who is where.
func TestTheOperatorSeesWhatEdgesHold(t *testing.T) {
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "A-B,B-C", Accounts: true})
	nc := operator(h)
	begun := time.Now()
	sent := tells(h.Edges["A"], "kiwi")
	odd := "\xff<script>\u202e"
	report(t, h.Edges["A"].Addr, odd+" -34.5+179.99999999 5")

	var first heldClient
	herdtest.Eventually(t, herdtest.Promise(5*time.Second), "A's journal holds kiwi, and B has acknowledged it", func() error {
		if look(t, nc, "A", "client", "kiwi", &first); !first.InJournal || !first.Links[0].Acknowledged {
			return fmt.Errorf("%+v", first)
		}
		return nil
	})
	at := func(ns int64) time.Time { return time.Unix(0, ns) }
	if !first.Known || first.Edge != "A" || first.From != "client" || first.Neighbour != "" || !first.Own || first.Revision == 0 ||
		!strings.HasPrefix(first.Line, "AT A ") || !strings.HasSuffix(first.Line, " kiwi +34.068930-118.445127 "+posix(sent)) ||
		first.Lat != 34.06893 || first.Lon != -118.445127 || !first.Effective.Equal(at(sent)) || first.Received.Before(at(sent)) {
		t.Errorf("A holds %+v", first)
	}
	if first.StoredBefore.Before(begun.Add(-time.Second)) || first.StoredBefore.After(time.Now()) || first.StoredAfter.After(first.StoredBefore) {
		t.Errorf("A stored it between %v and %v, but it was told at %v", first.StoredAfter, first.StoredBefore, begun)
	}
	for name, from := range map[string]string{"B": "A", "C": "B"} {
		herdtest.Eventually(t, herdtest.Promise(5*time.Second), name+" holds kiwi", func() error {
			var c heldClient
			if look(t, nc, name, "client", "kiwi", &c); c.Line != first.Line || c.From != "neighbour" || c.Neighbour != from || c.Own || c.InJournal {
				return fmt.Errorf("%+v", c)
			}
			return nil
		})
	}
	var c heldClient
	if look(t, nc, "C", "client", "emu", &c); c.Known || c.Line != "" || c.Edge != "C" {
		t.Errorf("of an unknown client: %+v", c)
	}
	herdtest.Eventually(t, herdtest.Promise(5*time.Second), "C holds the odd id", func() error {
		var c heldClient
		if look(t, nc, "C", "client", odd, &c); !strings.Contains(string(c.LineBytes), " "+odd+" -34.5+179.99999999 5") {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	for _, bad := range []string{"", "two words", strings.Repeat("x", 1025)} {
		if code := look(t, nc, "A", "client", bad, nil); code != "400" {
			t.Errorf("asked for the client %.20q: error %q", bad, code)
		}
	}

	var box cellCounts
	if look(t, nc, "C", "cells", "-40+170 -30-170", &box); box.Clients != 1 || len(box.Singles) != 1 || string(box.Singles[0].ClientBytes) != odd ||
		box.Singles[0].Lat != -34.5 || box.Singles[0].Lon != 180 || box.Singles[0].Edge != "A" || box.Singles[0].Time != "5" {
		t.Errorf("across the antimeridian: %+v", box)
	}
	var none cellCounts
	if look(t, nc, "C", "cells", "-90-180 +90+180 0", &none); none.Singles != nil || none.Clients != 2 || none.Size != 5 || fmt.Sprint(none.Cells) != "[[11 0 1] [24 12 1]]" {
		t.Errorf("the whole Earth without singles: %+v", none)
	}
	for _, bad := range []string{"", "+1+1", "+2+2 +1+3", "+1+1 +2+2 501"} {
		if code := look(t, nc, "A", "cells", bad, nil); code != "400" {
			t.Errorf("asked for the box %q: error %q", bad, code)
		}
	}
	// A trusted service of clients may not ask, nor may an edge.
	for _, account := range []string{"client", "B"} {
		key, err := nats.NkeyOptionFromSeed(h.Key(account))
		if err != nil {
			t.Fatal(err)
		}
		other, err := nats.Connect(h.NATS.URL(), key, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		for _, endpoint := range []string{"client", "cells", "digest"} {
			if m, err := other.Request("herd.edge.A."+endpoint, []byte("kiwi"), 300*time.Millisecond); err == nil {
				t.Errorf("%s is answered %s: %q", account, endpoint, m.Data)
			}
		}
	}
}

func TestWithoutLiveQuestionsNobodyKnowsWhoIsWhere(t *testing.T) {
	h, e := herdtest.StartLone(t, map[string]string{"HERD_LIVE": "off"})
	report(t, e.Addr, "kiwi "+ucla+" 1")
	nc := operator(h)
	if code := look(t, nc, "Clark", "cells", "-90-180 +90+180", nil); code != "501" {
		t.Errorf("error %q", code)
	}
	var c heldClient
	if look(t, nc, "Clark", "client", "kiwi", &c); !c.Known || c.From != "client" || c.InJournal || len(c.Links) != 0 {
		t.Errorf("%+v", c)
	}
}
