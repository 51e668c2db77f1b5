package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// mapEvery is how often the page asks for its map while cells are in view.
const mapEvery = 2 * time.Second

// pageCosts measures how much of a core an edge with a million clients uses more while its page is open:
// the stream of its state, and the map of the world.
func pageCosts(ctx context.Context, s *session) (o outcome, err error) {
	w := s.world()
	e, _, err := s.settle(ctx, w, "Clark")
	if err != nil {
		return o, err
	}
	span := s.span(20*time.Second, 2*time.Second) // three times: a minute of each
	// used is how much of a core the edge uses while so many pages are open, in percent.
	used := func(pages int) (float64, error) {
		watching, leave := context.WithCancel(ctx)
		var readers sync.WaitGroup
		defer readers.Wait()
		defer leave()
		failed := make(chan error, 2*pages)
		for range pages {
			for _, follow := range []func(context.Context) error{e.followState, e.followMap} {
				readers.Go(func() {
					if err := follow(watching); err != nil && watching.Err() == nil {
						failed <- err
					}
				})
			}
		}
		before, err := e.CPU()
		if err != nil {
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case err := <-failed:
			return 0, err
		case <-time.After(span):
		}
		after, err := e.CPU()
		return 100 * (after - before).Seconds() / span.Seconds(), err
	}
	if _, err := e.settled(ctx); err != nil { // what garbage the load has left is collected
		return o, err
	}
	var none, one, ten []float64
	for range s.size(3, 1) {
		for _, x := range []struct {
			pages int
			used  *[]float64
		}{{0, &none}, {1, &one}, {10, &ten}} {
			got, err := used(x.pages)
			if err != nil {
				return o, err
			}
			*x.used = append(*x.used, got)
		}
	}
	o.figure = median(one) - median(none)
	more := median(ten) - median(none)
	o.met = o.figure <= 1 && more <= 2
	o.note = fmt.Sprintf("%s %% without a page, %s %% with one, %s %% with ten", number(median(none)), number(median(one)), number(median(ten)))
	return o, nil
}

// followState reads the stream of the page until ctx ends.
func (e *edge) followState(ctx context.Context) error {
	return e.readAll(ctx, "/events")
}

// followMap asks for the map of the world as often as the page does, until ctx ends.
func (e *edge) followMap(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := e.readAll(ctx, "/map.json?box=-90,-180,90,180"); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(mapEvery):
		}
	}
	return nil
}

func (e *edge) readAll(ctx context.Context, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.web+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, response.Status)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}
