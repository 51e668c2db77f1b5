package placestest

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"herd/places"
	"herd/places/nearby"
)

// fake has n places on a meridian, a kilometre apart. spoil makes it a bad provider.
type fake struct {
	n     int
	spoil func(q places.Query, answer *nearby.Answer)
}

func (f *fake) Name() string { return "fake" }

func (f *fake) Nearby(_ context.Context, q places.Query) (nearby.Answer, error) {
	var results []nearby.Place
	for i := range f.n {
		place := nearby.Place{Name: fmt.Sprint("place ", i), PlaceID: fmt.Sprint("fake:", i), Types: []string{"park"}}
		place.Geometry.Location = nearby.Location{Lat: 51 + float64(i)/111.195, Lng: 179.99}
		if distance(q, place.Geometry.Location) <= q.Radius {
			results = append(results, place)
		}
	}
	answer := nearby.Found(nil, results[:min(len(results), q.Max)])
	if f.spoil != nil {
		f.spoil(q, &answer)
	}
	return answer, nil
}

var known = Known{
	Busy:  places.Query{Lat: 51, Lon: 179.99, Radius: 10, Max: 5},
	Quiet: places.Query{Lat: -51, Lon: 0, Radius: 50, Max: 5},
}

func TestAGoodProviderPasses(t *testing.T) { Run(t, &fake{n: 11}, known) }

// TestTheSuiteFindsBadProviders: a suite that passes everything would be useless.
func TestTheSuiteFindsBadProviders(t *testing.T) {
	each := func(ctx context.Context, p places.Provider) error {
		for _, q := range questions(known) {
			if _, err := ask(ctx, p, q); err != nil {
				return err
			}
		}
		return nil
	}
	prefix := func(ctx context.Context, p places.Provider) error { return prefixes(ctx, p, known.Busy) }
	shrink := func(ctx context.Context, p places.Provider) error { return shrinks(ctx, p, known.Busy) }
	many := func(ctx context.Context, p places.Provider) error { return crowd(ctx, p, questions(known)) }
	var asked atomic.Int64
	for _, test := range []struct {
		name  string
		check func(context.Context, places.Provider) error
		spoil func(q places.Query, answer *nearby.Answer)
	}{
		{"status", each, func(_ places.Query, a *nearby.Answer) { a.Status = nearby.OK }},
		{"message", each, func(_ places.Query, a *nearby.Answer) { a.ErrorMessage = "by the way" }},
		{"too many", each, func(q places.Query, a *nearby.Answer) {
			if len(a.Results) > 0 {
				a.Results = slices.Repeat(a.Results, 21)
			}
		}},
		{"twice", each, func(q places.Query, a *nearby.Answer) {
			if len(a.Results) > 1 {
				a.Results[1] = a.Results[0]
			}
		}},
		{"nameless", each, func(_ places.Query, a *nearby.Answer) {
			if len(a.Results) > 0 {
				a.Results[0].Name = ""
			}
		}},
		{"off the Earth", each, func(_ places.Query, a *nearby.Answer) {
			if len(a.Results) > 0 {
				a.Results[0].Geometry.Location.Lng += 360
			}
		}},
		{"too far", each, func(q places.Query, a *nearby.Answer) {
			if n := len(a.Results); n > 0 {
				a.Results[n-1].Geometry.Location.Lat += 0.1
			}
		}},
		{"farthest first", each, func(_ places.Query, a *nearby.Answer) { slices.Reverse(a.Results) }},
		{"not the nearest", prefix, func(q places.Query, a *nearby.Answer) {
			if len(a.Results) > 1 && q.Max < 20 {
				a.Results = a.Results[1:]
			}
		}},
		{"fewer than there are", prefix, func(q places.Query, a *nearby.Answer) {
			if len(a.Results) > 1 && q.Max < 20 {
				a.Results = a.Results[:1]
			}
		}},
		{"misses near the rim", shrink, func(q places.Query, a *nearby.Answer) {
			if n := len(a.Results); n > 1 && q.Radius < 10 {
				a.Results = a.Results[:n-1]
			}
		}},
		{"forgets under load", many, func(_ places.Query, a *nearby.Answer) {
			if asked.Add(1) > 100 && len(a.Results) > 0 {
				*a = nearby.Zero()
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := test.check(t.Context(), &fake{n: 11}); err != nil {
				t.Fatalf("the good one: %v", err)
			}
			if err := test.check(t.Context(), &fake{n: 11, spoil: test.spoil}); err == nil {
				t.Error("the suite did not notice")
			}
		})
	}
}
