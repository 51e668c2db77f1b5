// Package finder builds the places finder that the configuration asks for: the providers in
// their order, and the limits on the questions to them. It knows the configuration and the
// providers, and nothing of who asks.
package finder

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"path/filepath"

	"herd/edge/config"
	"herd/places"
	"herd/places/gazetteer"
	"herd/places/google"
	"herd/places/osm"
)

// New returns a finder for HERD_PLACES and the variables that belong to it. Several edges may
// share one; the caller closes it.
func New(cfg *config.Config, log *slog.Logger) (*places.Finder, error) {
	limits, err := googleLimits(cfg, log)
	if err != nil {
		return nil, err
	}
	var chain []places.Provider
	for _, name := range cfg.Providers() {
		p, err := newProvider(name, cfg, limits, log)
		if err != nil {
			return nil, fmt.Errorf("places from %s (HERD_PLACES): %w", name, err)
		}
		chain = append(chain, p)
	}
	return places.NewFinder(log, chain...), nil
}

func newProvider(name string, cfg *config.Config, limits places.Limits, log *slog.Logger) (places.Provider, error) {
	asked := google.Config{Key: cfg.GoogleKey.Reveal(), URL: cfg.GoogleURL, Fields: cfg.GoogleFields}
	switch name {
	case config.Google:
		p, err := google.New(asked)
		if err != nil {
			return nil, err
		}
		return places.Limit(p, limits), nil
	case config.GoogleLegacy:
		p, err := google.NewLegacy(asked)
		if err != nil {
			return nil, err
		}
		return places.Limit(p, limits), nil
	case config.OSM:
		return osm.New(cfg.OSMFile, log), nil
	case config.Gazetteer:
		return gazetteer.New()
	default: // config rejects other names
		return nil, errors.New("no such provider")
	}
}

// googleLimits returns the limits that both of Google's providers share: one key, one bill.
func googleLimits(c *config.Config, log *slog.Logger) (places.Limits, error) {
	if !c.AsksGoogle() {
		return places.Limits{}, nil
	}
	if u, err := url.Parse(c.GoogleURL); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
		log.Warn("HERD_GOOGLE_URL is not https: the key is sent in the clear")
	}
	file := ""
	if c.Data != "" {
		file = filepath.Join(c.Data, "google-questions")
	}
	budget, err := places.NewBudget(places.BudgetConfig{Daily: c.PlacesDaily, PerSecond: c.PlacesRate, File: file, Log: log})
	if err != nil {
		return places.Limits{}, fmt.Errorf("questions to Google (HERD_PLACES_DAILY, HERD_DATA): %w", err)
	}
	return places.Limits{Budget: budget}, nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() || host == "localhost"
}

// Check reports files that the providers cannot read, by the names of their variables. It is
// for [config.FromEnvironment] to call.
func Check(cfg *config.Config) error {
	if cfg.OSMFile == "" {
		return nil
	}
	if err := osm.Check(cfg.OSMFile); err != nil {
		return fmt.Errorf("HERD_OSM_FILE: %.100q: %w", cfg.OSMFile, err)
	}
	return nil
}
