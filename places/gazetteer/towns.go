package gazetteer

import (
	"strconv"
	"strings"

	"github.com/tidwall/cities"

	"herd/places"
	"herd/places/nearby"
)

// twins is the distance in kilometres below which two entries with the same name and country
// are the same town: the list has some towns twice, 1 to 3 km apart.
const twins = 5

// wrong are the ids of entries with a wrong position or name.
var wrong = map[int]bool{
	6563:  true, // Gao, Malta: in the Congo, far from Malta and from any Gao
	6926:  true, // a person's name among the towns of Morocco
	10574: true, // Porsgrunn/Skien, Norway: at the coordinates of Fredrikstad, 80 km away
}

// countries corrects country names that the list has wrong, inverted or out of date.
var countries = map[string]string{
	"Gambia, The":  "The Gambia",
	"Korea, North": "North Korea",
	"Korea, South": "South Korea",
	"Macedonia":    "North Macedonia",
	"Nepa":         "Nepal",
	"Swaziland":    "Eswatini",
}

var townTypes = []string{"locality", "political"}

// towns returns the usable towns of github.com/tidwall/cities: those with a name (four have
// none) and a position (0, 0 means none), without wrong ones and duplicates. The coordinates
// are of the town's centre, many of them rounded to a minute of arc (1.8 km).
func towns() []nearby.Place {
	all := make([]nearby.Place, 0, len(cities.Cities))
	kept := make(map[[2]string][]places.Direction) // by country and name
	for _, c := range cities.Cities {
		name := strings.TrimSpace(c.City)
		if wrong[c.ID] || name == "" || c.Latitude == 0 && c.Longitude == 0 {
			continue
		}
		here, key := places.Toward(c.Latitude, c.Longitude), [2]string{c.Country, name}
		if near(kept[key], here) {
			continue
		}
		kept[key] = append(kept[key], here)
		country := c.Country
		if better, ok := countries[country]; ok {
			country = better
		}
		all = append(all, nearby.Place{
			Name:     name,
			PlaceID:  "herd:town/" + strconv.Itoa(c.ID),
			Geometry: nearby.Geometry{Location: nearby.Location{Lat: c.Latitude, Lng: c.Longitude}},
			Types:    townTypes,
			Vicinity: country,
		})
	}
	return all
}

func near(others []places.Direction, here places.Direction) bool {
	for _, other := range others {
		if here.Distance(other) < twins {
			return true
		}
	}
	return false
}
