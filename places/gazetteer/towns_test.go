package gazetteer

import (
	"testing"

	"github.com/tidwall/cities"
)

func TestTowns(t *testing.T) {
	all := towns()
	ids := make(map[string]bool)
	for _, town := range all {
		at := town.Geometry.Location
		if town.Name == "" || town.Vicinity == "" || at.Lat == 0 && at.Lng == 0 || at.Lat < -90 || at.Lat > 90 || at.Lng < -180 || at.Lng > 180 {
			t.Errorf("%+v", town)
		}
		if ids[town.PlaceID] {
			t.Errorf("%s occurs twice", town.PlaceID)
		}
		ids[town.PlaceID] = true
	}
	for id, want := range map[string]bool{
		"herd:town/284":   true,  // Los Angeles
		"herd:town/8231":  true,  // Baia Mare, Romania
		"herd:town/8232":  false, // the same, 1 km away
		"herd:town/2538":  true,  // San Jose, Costa Rica
		"herd:town/2549":  true,  // another one
		"herd:town/4168":  false, // no name
		"herd:town/6563":  false, // Malta's Gao in the Congo
		"herd:town/10574": false,
	} {
		if ids[id] != want {
			t.Errorf("%s: there %v, want %v", id, ids[id], want)
		}
	}
	if left := len(cities.Cities) - len(all); left != 11 {
		t.Errorf("%d of the list's towns left out, want the 11 that are known to be bad", left)
	}
}
