package edge

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"herd/broker"
	"herd/places"
	"herd/places/gazetteer"
	"herd/places/google"
	"herd/places/osm"
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
	limits, err := cfg.googleLimits(log)
	if err != nil {
		return nil, err
	}
	var chain []places.Provider
	for _, name := range cfg.providers() {
		p, err := newProvider(name, cfg, limits, log)
		if err != nil {
			return nil, fmt.Errorf("places from %s (HERD_PLACES): %w", name, err)
		}
		chain = append(chain, p)
	}
	return places.NewFinder(log, chain...), nil
}

func newProvider(name string, cfg *Config, limits places.Limits, log *slog.Logger) (places.Provider, error) {
	asked := google.Config{Key: cfg.GoogleKey.Reveal(), URL: cfg.GoogleURL, Fields: cfg.GoogleFields}
	switch name {
	case byGoogle:
		p, err := google.New(asked)
		if err != nil {
			return nil, err
		}
		return places.Limit(p, limits), nil
	case byGoogleLegacy:
		p, err := google.NewLegacy(asked)
		if err != nil {
			return nil, err
		}
		return places.Limit(p, limits), nil
	case byOSM:
		return osm.New(cfg.OSMFile, log), nil
	case byGazetteer:
		return gazetteer.New()
	default: // checks.places lets no other pass
		return nil, errors.New("no such provider")
	}
}

// asksGoogle says whether any provider is Google's.
func (c *Config) asksGoogle() bool {
	list := c.providers()
	return slices.Contains(list, byGoogle) || slices.Contains(list, byGoogleLegacy)
}

// googleLimits are those of both of Google's providers together: one key, one bill.
func (c *Config) googleLimits(log *slog.Logger) (places.Limits, error) {
	if !c.asksGoogle() {
		return places.Limits{}, nil
	}
	if c.PlacesCache > 0 {
		log.Warn("HERD_PLACES_CACHE keeps what Google answers, which Google's terms forbid", "for", c.PlacesCache)
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
	return places.Limits{Budget: budget, Keep: c.PlacesCache}, nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() || host == "localhost"
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

// readGoogleKey takes the key from its file.
func (c *Config) readGoogleKey() error {
	if c.GoogleKeyFile == "" {
		return nil
	}
	if c.GoogleKey.Reveal() != "" {
		return errors.New("set beside HERD_GOOGLE_KEY; set one of the two")
	}
	text, err := readShort(c.GoogleKeyFile)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", quote(c.GoogleKeyFile), cause(err))
	case !isKey(text):
		return fmt.Errorf("%s: %s", quote(c.GoogleKeyFile), wantKey)
	}
	c.GoogleKey = broker.NewSecret(text)
	return nil
}

// readShort reads a file that holds one word.
func readShort(path string) (string, error) {
	// A pipe would let the start wait, and be empty the second time.
	if info, err := os.Stat(path); err != nil {
		return "", err
	} else if !info.Mode().IsRegular() {
		return "", errors.New("not a file")
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	const longest = 4 << 10
	text, err := io.ReadAll(io.LimitReader(f, longest))
	return strings.TrimSpace(string(text)), err
}

const wantKey = "want a key of 1 to 256 letters, digits and -_.~+/=:"

// isKey tells whether text could be a key: Google's are of letters, digits, - and _. A
// key without white space, quotes and the like is written alike wherever it might show.
func isKey(text string) bool {
	return 1 <= len(text) && len(text) <= 256 && strings.Trim(text, alphanumeric+"-_.~+/=:") == ""
}

// isBase tells whether text is the address of a server, or of a folder there.
func isBase(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" &&
		u.User == nil && !strings.ContainsAny(text, "?#")
}

// isFieldMask tells whether text is * or paths parted by commas, without spaces.
func isFieldMask(text string) bool {
	if text == "*" {
		return true
	}
	for path := range strings.SplitSeq(text, ",") {
		if path == "" || strings.Trim(path, alphanumeric+"._*") != "" {
			return false
		}
	}
	return true
}

// places checks HERD_PLACES and what the providers need.
func (k *checks) places(c *Config) {
	const want = "auto, or some of google, google-legacy, osm and gazetteer parted by commas"
	list := c.providers()
	for i, name := range list {
		known := slices.Contains([]string{byGoogle, byGoogleLegacy, byOSM, byGazetteer}, name)
		k.want("HERD_PLACES", known && !slices.Contains(list[:i], name), want)
	}
	if c.asksGoogle() && c.GoogleKey.Reveal() == "" && k.unparsed["HERD_GOOGLE_KEY_FILE"] == nil {
		k.fault("HERD_PLACES", "Google needs HERD_GOOGLE_KEY or HERD_GOOGLE_KEY_FILE")
	}
	if key := c.GoogleKey.Reveal(); key != "" && !isKey(key) {
		k.fault("HERD_GOOGLE_KEY", wantKey) // and not what it is
	}
	if c.GoogleURL != "" && !isBase(c.GoogleURL) {
		k.fault("HERD_GOOGLE_URL", "want https://HOST or http://HOST:PORT, without a name, a query and a fragment") // which may hold a secret
	}
	k.want("HERD_GOOGLE_FIELDS", c.GoogleFields == "" || isFieldMask(c.GoogleFields), "* or names such as places.id parted by commas, without spaces")
	if file := c.OSMFile; file != "" {
		for _, err := range []error{osm.CheckName(file), canRead(file)} {
			if err != nil {
				k.fault("HERD_OSM_FILE", quote(file)+": "+err.Error()) // the first counts
			}
		}
	} else if slices.Contains(list, byOSM) {
		k.fault("HERD_PLACES", "osm needs HERD_OSM_FILE")
	}
}
