package gazetteer

import (
	_ "embed"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"herd/places/nearby"
)

//go:embed landmarks.tsv
var landmarksTSV string

// landmark is one line of landmarks.tsv. The comment at the top of the file explains the
// columns.
type landmark struct {
	slug, name        string
	lat, lon          float64 // degrees
	kinds             []string
	locality, country string // locality may be empty: not every landmark is in a town
	source            string
}

// kinds are the types of Google's places that a landmark may have.
var kinds = []string{
	"airport", "amusement_park", "aquarium", "art_gallery", "cemetery", "church", "city_hall",
	"courthouse", "embassy", "hindu_temple", "hospital", "library", "local_government_office",
	"mosque", "movie_theater", "museum", "natural_feature", "park", "place_of_worship",
	"shopping_mall", "stadium", "subway_station", "synagogue", "tourist_attraction",
	"train_station", "university", "zoo",
}

var (
	slugForm   = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	degreeForm = regexp.MustCompile(`^-?[0-9]{1,3}\.[0-9]{2,9}$`) // two decimals are a kilometre: fewer are too imprecise
)

// parse parses landmarks: one per line, fields separated by tabs, # before a comment.
func parse(text string) ([]landmark, error) {
	var all []landmark
	seen := make(map[string]bool)
	for i, line := range strings.Split(text, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		l, err := parseLine(line)
		if err == nil && seen[l.slug] {
			err = fmt.Errorf("duplicate slug %q", l.slug)
		}
		if err != nil {
			return nil, fmt.Errorf("landmarks: line %d: %w", i+1, err)
		}
		seen[l.slug] = true
		all = append(all, l)
	}
	return all, nil
}

func parseLine(line string) (landmark, error) {
	fields := strings.Split(line, "\t")
	if len(fields) != 8 {
		return landmark{}, fmt.Errorf("%d fields, want 8", len(fields))
	}
	for _, field := range fields {
		if err := checkText(field); err != nil {
			return landmark{}, err
		}
	}
	l := landmark{
		slug: fields[0], name: fields[1], kinds: strings.Split(fields[4], ","),
		locality: fields[5], country: fields[6], source: fields[7],
	}
	if !slugForm.MatchString(l.slug) {
		return landmark{}, fmt.Errorf("slug %q", l.slug)
	}
	if l.name == "" || l.country == "" || l.source == "" {
		return landmark{}, fmt.Errorf("%s lacks a name, a country or a source", l.slug)
	}
	for _, kind := range l.kinds {
		if !slices.Contains(kinds, kind) {
			return landmark{}, fmt.Errorf("%s: kind %q", l.slug, kind)
		}
	}
	var err error
	if l.lat, err = degrees(fields[2], 90); err != nil {
		return landmark{}, fmt.Errorf("%s: latitude: %w", l.slug, err)
	}
	if l.lon, err = degrees(fields[3], 180); err != nil {
		return landmark{}, fmt.Errorf("%s: longitude: %w", l.slug, err)
	}
	return l, nil
}

func checkText(field string) error {
	if !utf8.ValidString(field) || strings.ContainsFunc(field, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("%q is not plain text", field)
	}
	if strings.TrimSpace(field) != field || strings.Contains(field, "  ") {
		return fmt.Errorf("%q has superfluous spaces", field)
	}
	return nil
}

func degrees(text string, limit float64) (float64, error) {
	if !degreeForm.MatchString(text) {
		return 0, fmt.Errorf("%q is not in degrees with decimals", text)
	}
	d, err := strconv.ParseFloat(text, 64)
	if err == nil && math.Abs(d) > limit {
		err = fmt.Errorf("%s is beyond %g degrees", text, limit)
	}
	return d, err
}

func (l landmark) place() nearby.Place {
	vicinity := l.country
	if l.locality != "" {
		vicinity = l.locality + ", " + l.country
	}
	return nearby.Place{
		Name:     l.name,
		PlaceID:  "herd:landmark/" + l.slug,
		Geometry: nearby.Geometry{Location: nearby.Location{Lat: l.lat, Lng: l.lon}},
		Types:    append(slices.Clone(l.kinds), "point_of_interest", "establishment"), // as at the end of the types in Google's answers
		Vicinity: vicinity,
	}
}
