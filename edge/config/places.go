package config

import (
	"slices"
	"strings"
)

// The providers of places, as they are named in HERD_PLACES.
const (
	Google       = "google"
	GoogleLegacy = "google-legacy"
	OSM          = "osm"
	Gazetteer    = "gazetteer"

	auto = "auto" // all that are configured, in this order
)

// Providers returns the providers of HERD_PLACES, in order of preference. `auto` means all
// that are configured: Google with a key, OpenStreetMap with a file.
func (c *Config) Providers() []string {
	if strings.TrimSpace(c.Places) != auto {
		list := strings.Split(c.Places, ",")
		for i := range list {
			list[i] = strings.TrimSpace(list[i])
		}
		return list
	}
	var list []string
	if c.GoogleKey.Reveal() != "" {
		list = append(list, Google)
	}
	if c.OSMFile != "" {
		list = append(list, OSM)
	}
	return append(list, Gazetteer)
}

// AsksGoogle reports whether any provider is Google's.
func (c *Config) AsksGoogle() bool {
	list := c.Providers()
	return slices.Contains(list, Google) || slices.Contains(list, GoogleLegacy)
}

// places checks HERD_PLACES and the variables that the providers need.
func (k *checks) places(c *Config) {
	const want = "auto, or some of google, google-legacy, osm and gazetteer separated by commas"
	list := c.Providers()
	for i, name := range list {
		known := slices.Contains([]string{Google, GoogleLegacy, OSM, Gazetteer}, name)
		k.want("HERD_PLACES", known && !slices.Contains(list[:i], name), want)
	}
	if c.AsksGoogle() && c.GoogleKey.Reveal() == "" && k.unparsed["HERD_GOOGLE_KEY_FILE"] == nil {
		k.fault("HERD_PLACES", "Google needs HERD_GOOGLE_KEY or HERD_GOOGLE_KEY_FILE")
	}
	if key := c.GoogleKey.Reveal(); key != "" && !isKey(key) {
		k.fault("HERD_GOOGLE_KEY", wantKey) // without the value, which is a secret
	}
	if c.GoogleURL != "" && !isBase(c.GoogleURL) {
		k.fault("HERD_GOOGLE_URL", "want https://HOST or http://HOST:PORT, without user name, query and fragment") // these may hold a secret
	}
	switch mask := c.GoogleFields; {
	case mask == "":
	case !isFieldMask(mask):
		k.want("HERD_GOOGLE_FIELDS", false, "* or names such as places.id separated by commas, without spaces")
	default:
		k.want("HERD_GOOGLE_FIELDS", answersFields(mask), "a mask with places.id, places.displayName and places.location, which answers need")
	}
	if c.OSMFile == "" && slices.Contains(list, OSM) {
		k.fault("HERD_PLACES", "osm needs HERD_OSM_FILE")
	}
}
