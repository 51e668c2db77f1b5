package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"herd/edge/overview"
)

// This file answers what the page asks about clients: who is in a box, what edges hold of one, what
// a command answers, and whether all edges hold the same. Nothing here changes anything.

const (
	lookLimit  = 3 * time.Second
	tryLimit   = 6 * time.Second // a WHATSAT may wait for places for five
	lookMost   = 4               // questions under way at once
	boxesMost  = 64              // boxes whose answers are kept
	verifyMost = 25 * time.Second
)

// looks bounds what the page asks about clients, and shares answers.
type looks struct {
	mu    sync.Mutex
	boxes map[string]*box
	busy  int
	check sync.Mutex // held while edges are compared
}

// A box is an answer of /map.json that all who ask within a second share.
type box struct {
	done chan struct{} // closed when text and err are there
	at   time.Time
	text []byte
	err  error
	gone bool // who asked went away, so there is no answer; others ask anew
}

// private lets only pages of this server ask, and only where positions may be shown: other sites'
// pages must not load edges, or spend questions to places, through an operator's browser. Over plain HTTP
// browsers send no Sec-Fetch-Site, but to this very machine, and a page can have them send no Referer: so what
// names itself as all browsers do needs the page's own header, which scripts of other sites may not send.
func (a *Admin) private(f http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch from := r.Header.Get("Sec-Fetch-Site"); {
		case from != "" && from != "same-origin" && from != "none":
			tell(w, http.StatusForbidden, "only this server's own page may ask\n")
		case from == "" && strings.HasPrefix(r.UserAgent(), "Mozilla/") && r.Header.Get("Herd-Page") == "":
			tell(w, http.StatusForbidden, "in a browser only this server's own page may ask, at /\n")
		case !a.cfg.Map.On:
			tell(w, http.StatusForbidden, a.cfg.Map.Why+"\n")
		default:
			f(w, r)
		}
	}
}

// ask asks an edge, of this process or another.
func (a *Admin) ask(ctx context.Context, edge, endpoint string, payload []byte) ([]byte, error) {
	for _, s := range a.sources {
		if s.Name == edge && s.Ask != nil {
			return s.Ask(ctx, endpoint, payload)
		}
	}
	if a.cfg.Others == nil {
		return nil, ErrNobody
	}
	return a.cfg.Others.Ask(ctx, edge, endpoint, payload)
}

// mapJSON answers who is in a box, as one edge sees it: all hold the same.
func (a *Admin) mapJSON(w http.ResponseWriter, r *http.Request) {
	payload, err := boxOf(r.URL.Query().Get("box"))
	if err != nil {
		tell(w, http.StatusBadRequest, "box: "+err.Error()+"\n")
		return
	}
	text, err := a.looks.inBox(r.Context(), payload, func(ctx context.Context) ([]byte, error) {
		edge, err := a.nearest(ctx)
		if err != nil {
			return nil, err
		}
		return a.ask(ctx, edge, "cells", []byte(payload))
	})
	a.answer(w, text, err)
}

// boxOf turns SOUTH,WEST,NORTH,EAST in degrees into what the endpoint cells takes.
func boxOf(text string) (payload string, err error) {
	fields := strings.Split(text, ",")
	if len(fields) != 4 {
		return "", errors.New("want SOUTH,WEST,NORTH,EAST in degrees")
	}
	var at [4]float64
	for i, field := range fields {
		at[i], err = strconv.ParseFloat(field, 64)
		limit := []float64{90, 180}[i%2]
		if err != nil || !(at[i] >= -limit && at[i] <= limit) {
			return "", fmt.Errorf("%.20q: want degrees from %v to %v", field, -limit, limit)
		}
	}
	if at[0] > at[2] {
		return "", errors.New("the south is north of the north")
	}
	return fmt.Sprintf("%+.6f%+.6f %+.6f%+.6f 500", at[0], at[1], at[2], at[3]), nil
}

// nearest is an edge to ask where any will do: one of this process, else one that is ready.
func (a *Admin) nearest(ctx context.Context) (string, error) {
	for _, s := range a.sources {
		if ok, _ := s.Ready(); ok && s.Ask != nil {
			return s.Name, nil
		}
	}
	h, err := a.board.herd(ctx)
	if err != nil {
		return "", err
	}
	for _, e := range h.Edges {
		if e.State == overview.Ready {
			return e.Name, nil
		}
	}
	return "", errors.New("no edge is ready")
}

// inBox asks, unless somebody asked the same within the last second.
func (l *looks) inBox(ctx context.Context, key string, ask func(context.Context) ([]byte, error)) ([]byte, error) {
	l.mu.Lock()
	if l.boxes == nil {
		l.boxes = map[string]*box{}
	}
	b := l.boxes[key]
	if b != nil && time.Since(b.at) < freshFor-50*time.Millisecond {
		l.mu.Unlock()
		select {
		case <-b.done:
			if b.gone && ctx.Err() == nil {
				return l.inBox(ctx, key, ask)
			}
			return b.text, b.err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	for len(l.boxes) >= boxesMost {
		oldest := ""
		for k, b := range l.boxes {
			if oldest == "" || b.at.Before(l.boxes[oldest].at) {
				oldest = k
			}
		}
		delete(l.boxes, oldest)
	}
	if l.busy >= lookMost {
		l.mu.Unlock()
		return nil, errBusy
	}
	b = &box{done: make(chan struct{}), at: time.Now()}
	l.boxes[key] = b
	l.busy++
	l.mu.Unlock()
	limit, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	b.text, b.err = ask(limit)
	b.gone = b.err != nil && ctx.Err() != nil
	l.mu.Lock()
	l.busy--
	if b.err != nil && l.boxes[key] == b { // the next asks anew
		delete(l.boxes, key)
	}
	l.mu.Unlock()
	close(b.done) // when those who ask anew no longer find it
	return b.text, b.err
}

var errBusy = errors.New("too many questions at once; ask again")

// enter lets another question in, if there are not too many. Then leave must be called.
func (l *looks) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy >= lookMost {
		return false
	}
	l.busy++
	return true
}

func (l *looks) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy--
}

// clientAnswer is what /client.json answers.
type clientAnswer struct {
	At    time.Time     `json:"at"`
	ID    string        `json:"id"` // as it was asked for, percent-encoded
	Edges []clientsEdge `json:"edges"`
}

// clientsEdge is what one edge says of the client, or why it says nothing.
type clientsEdge struct {
	Edge   string          `json:"edge"`
	State  string          `json:"state"` // of the edge
	Why    string          `json:"why,omitempty"`
	Client json.RawMessage `json:"client,omitempty"`
}

// clientJSON answers what all edges hold of a client. The id may be any bytes.
func (a *Admin) clientJSON(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	if id == "" || len(id) > 1024 {
		tell(w, http.StatusBadRequest, "id: want 1 to 1024 bytes\n")
		return
	}
	if !a.looks.enter() {
		a.answer(w, nil, errBusy)
		return
	}
	defer a.looks.leave()
	ctx, cancel := context.WithTimeout(r.Context(), lookLimit)
	defer cancel()
	h, err := a.board.herd(ctx)
	if err != nil {
		a.answer(w, nil, err)
		return
	}
	all := clientAnswer{At: time.Now().UTC().Round(time.Millisecond), ID: url.QueryEscape(id), Edges: make([]clientsEdge, len(h.Edges))}
	var asking sync.WaitGroup
	for i := range h.Edges {
		e := &h.Edges[i]
		one := &all.Edges[i]
		one.Edge, one.State, one.Why = e.Name, e.State, e.Why
		if e.Status == nil {
			continue
		}
		asking.Go(func() {
			text, err := a.ask(ctx, e.Name, "client", []byte(id))
			switch {
			case err != nil:
				one.Why = whyNot(err)
			case !json.Valid(text):
				one.Why = "its answer is not JSON"
			default:
				one.Client, one.Why = text, ""
			}
		})
	}
	asking.Wait()
	a.answer(w, mustJSON(all), nil)
}

// tryAnswer is what /try.json answers: one of the three.
type tryAnswer struct {
	Edge    string  `json:"edge"`
	Answer  *string `json:"answer,omitempty"`
	Refused string  `json:"refused,omitempty"` // the line of C4
	Error   string  `json:"error,omitempty"`   // the edge could not be asked
}

// tries are the commands that may be tried: those that change nothing.
var tries = map[string]string{"WHATSAT": "whatsat", "WHOSAT": "whosat"}

// tryJSON has an edge answer a command.
func (a *Admin) tryJSON(w http.ResponseWriter, r *http.Request) {
	edge, line := r.URL.Query().Get("edge"), r.URL.Query().Get("line")
	verb, rest, _ := strings.Cut(strings.TrimLeft(line, " \t"), " ")
	endpoint := tries[verb]
	if endpoint == "" || len(line) > 4096 || strings.ContainsAny(line, "\r\n") {
		tell(w, http.StatusBadRequest, "line: want one WHATSAT or WHOSAT\n")
		return
	}
	if !a.looks.enter() {
		a.answer(w, nil, errBusy)
		return
	}
	defer a.looks.leave()
	ctx, cancel := context.WithTimeout(r.Context(), tryLimit)
	defer cancel()
	h, err := a.board.herd(ctx)
	if err != nil {
		a.answer(w, nil, err)
		return
	}
	if !slices.ContainsFunc(h.Edges, func(e overview.Edge) bool { return e.Name == edge }) {
		tell(w, http.StatusBadRequest, "edge: no such edge\n")
		return
	}
	answer := tryAnswer{Edge: edge}
	text, err := a.ask(ctx, edge, endpoint, []byte(rest))
	refusal, refused := errors.AsType[*Refusal](err)
	switch {
	case err == nil:
		valid := strings.ToValidUTF8(string(text), "\uFFFD")
		answer.Answer = &valid
	case refused && len(refusal.Data) > 0:
		answer.Refused = strings.ToValidUTF8(string(refusal.Data), "\uFFFD")
	default:
		answer.Error = whyNot(err)
	}
	a.answer(w, mustJSON(answer), nil)
}

// verifyJSON compares what all edges hold, for one who asks at a time.
func (a *Admin) verifyJSON(w http.ResponseWriter, r *http.Request) {
	if a.cfg.Verify == nil {
		tell(w, http.StatusNotFound, "edges cannot be compared from here\n")
		return
	}
	if !a.looks.check.TryLock() {
		a.answer(w, nil, errBusy)
		return
	}
	defer a.looks.check.Unlock()
	ctx, cancel := context.WithTimeout(r.Context(), verifyMost)
	defer cancel()
	h, err := a.board.herd(ctx)
	if err != nil {
		a.answer(w, nil, err)
		return
	}
	var names []string // hidden ones cannot be asked
	for _, e := range h.Edges {
		if e.State != overview.Hidden {
			names = append(names, e.Name)
		}
	}
	text, err := a.cfg.Verify(ctx, names, func(ctx context.Context, edge string, question []byte) ([]byte, error) {
		return a.ask(ctx, edge, "digest", question)
	})
	a.answer(w, text, err)
}

// answer writes JSON, or why there is none.
func (a *Admin) answer(w http.ResponseWriter, text []byte, err error) {
	switch {
	case err == nil:
		writeJSON(w, text)
	case errors.Is(err, errBusy):
		w.Header().Set("Retry-After", "1")
		tell(w, http.StatusServiceUnavailable, err.Error()+"\n")
	default:
		tell(w, http.StatusBadGateway, whyNot(err)+"\n")
	}
}

// whyNot is why an edge did not answer, for people.
func whyNot(err error) string {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return "no answer"
	}
	return err.Error()
}
