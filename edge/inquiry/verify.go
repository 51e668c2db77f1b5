package inquiry

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"herd/edge/overview"
	"herd/edge/verify"
)

// Compared is what the page shows of a comparison of all edges.
type Compared struct {
	At          time.Time       `json:"at"`
	Level       overview.Level  `json:"level"` // Down where edges differ or did not answer
	Sentence    string          `json:"sentence"`
	Seconds     float64         `json:"seconds"`
	Differences []Difference    `json:"differences"`
	Result      json.RawMessage `json:"result"` // as `herd verify --json` prints it
}

// Difference is one edge that lacks a client's newest line.
type Difference struct {
	ID   string `json:"id"`
	Edge string `json:"edge"`
	Text string `json:"text"`
}

// onItsWay is for how long a line may be on its way while somebody waits for the page.
const onItsWay = 5 * time.Second

// Verify compares what these edges hold, and returns JSON for the page (Compared). ask asks an edge
// for a digest.
func Verify(ctx context.Context, edges []string, ask func(ctx context.Context, edge string, question []byte) ([]byte, error)) ([]byte, error) {
	r, err := verify.Run(ctx, verify.Config{Ask: ask, Wait: onItsWay, Patience: onItsWay}, edges)
	if err != nil {
		return nil, fmt.Errorf("compare the edges: %w", err)
	}
	c := Compared{At: time.Now().UTC().Round(time.Millisecond), Level: overview.OK, Sentence: inWords(&r), Seconds: r.Seconds, Differences: []Difference{}}
	if !r.OK() {
		c.Level = overview.Down
	}
	for _, d := range r.Differences {
		c.Differences = append(c.Differences, Difference{ID: strings.ToValidUTF8(string(d.Client), "\uFFFD"), Edge: d.Edge, Text: how(&d)})
	}
	if c.Result, err = json.Marshal(r); err != nil {
		return nil, fmt.Errorf("write the comparison: %w", err)
	}
	return json.Marshal(c)
}

// inWords is a comparison in one sentence.
func inWords(r *verify.Result) string {
	clients := map[string]bool{}
	for i := range r.Differences {
		clients[string(r.Differences[i].Client)] = true
	}
	what := "all the same"
	switch n := len(clients); {
	case len(r.Edges) == 0:
		what = "none answers"
	case !r.Same && r.Unexamined > 0:
		what = fmt.Sprintf("%d differ, and about %d more", n, r.Unexamined)
	case !r.Same:
		what = fmt.Sprintf("%d differ", n)
	case len(r.Edges) == 1:
		what = "nothing to compare with"
	}
	text := fmt.Sprintf("%s, %s, %s", overview.Counted(len(r.Edges), "edge"), overview.Counted(r.Clients, "client"), what)
	for _, s := range r.Silent {
		text += "; " + s.Edge + " does not answer: " + s.Why
	}
	return text
}

// how is what an edge lacks, and why.
func how(d *verify.Difference) string {
	text := "is missing"
	if d.Held != "" {
		text = "is older"
	}
	switch {
	case d.Kind == verify.PutOff:
		return text + ": put off, too far ahead of its clock (H9)"
	case d.Kind == verify.Late:
		return text + ": late, not acknowledged yet"
	case d.By != "":
		return text + ": lost, acknowledged to " + d.By
	}
	return text + ": lost on the way there"
}
