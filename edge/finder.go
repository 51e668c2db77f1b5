package edge

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"herd/places"
	"herd/places/gazetteer"
)

// The providers of places, as HERD_PLACES names them.
const (
	byGoogle       = "google"
	byGoogleLegacy = "google-legacy"
	byOSM          = "osm"
	byGazetteer    = "gazetteer"

	byAll = "auto" // those that can be asked, in this order
)

// NewFinder makes what finds places by HERD_PLACES and what belongs to it. Several edges
// may share one; who makes it closes it.
func NewFinder(cfg *Config, log *slog.Logger) (*places.Finder, error) {
	var chain []places.Provider
	for _, name := range cfg.providers() {
		p, err := newProvider(name, cfg, log)
		if err != nil {
			return nil, fmt.Errorf("places from %s (HERD_PLACES): %w", name, err)
		}
		chain = append(chain, p)
	}
	return places.NewFinder(log, chain...), nil
}

func newProvider(name string, cfg *Config, log *slog.Logger) (places.Provider, error) {
	switch name {
	case byGazetteer:
		return gazetteer.New()
	default: // checks.places lets no other pass
		return nil, fmt.Errorf("%s", later)
	}
}

// providers are those of HERD_PLACES, in order of preference. What `auto` stands for
// depends on what there is to ask: Google with a key, OpenStreetMap with a file.
func (c *Config) providers() []string {
	if strings.TrimSpace(c.Places) != byAll {
		list := strings.Split(c.Places, ",")
		for i := range list {
			list[i] = strings.TrimSpace(list[i])
		}
		return list
	}
	var list []string
	if c.GoogleKey.Reveal() != "" {
		list = append(list, byGoogle)
	}
	if c.OSMFile != "" {
		list = append(list, byOSM)
	}
	return append(list, byGazetteer)
}

// places checks HERD_PLACES and what the providers need.
func (k *checks) places(c *Config) {
	const want = "auto, or some of google, google-legacy, osm and gazetteer parted by commas"
	list := c.providers()
	for i, name := range list {
		known := slices.Contains([]string{byGoogle, byGoogleLegacy, byOSM, byGazetteer}, name)
		k.want("HERD_PLACES", known && !slices.Contains(list[:i], name), want)
	}
	if file := c.OSMFile; file != "" {
		if err := canRead(file); err != nil {
			k.fault("HERD_OSM_FILE", quote(file)+": "+err.Error())
		}
	} else if slices.Contains(list, byOSM) {
		k.fault("HERD_PLACES", "osm needs HERD_OSM_FILE")
	}
}
