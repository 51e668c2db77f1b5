package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// settings are what a phone's app must know.
type settings struct {
	base                   *url.URL // its path ends with a slash
	user, password, device string
}

// An app is what to type into one, and what sets it up.
type app struct {
	name, title string
	fields      func(settings) [][2]string // name and value
	link        func(settings) string      // nil: there is none
	scan        string                     // who scans its QR code
	id          func(settings) string      // on the map (V6)
}

var phoneApps = []app{
	{"owntracks", "OwnTracks", func(s settings) [][2]string {
		return [][2]string{{"Mode", "HTTP"}, {"URL", s.base.String()}, {"User name", s.user}, {"Password", s.password}, {"Device ID", s.device}}
	}, ownTracksLink, "the phone's camera", func(s settings) string { return s.user + "/" + s.device }},
	{"traccar", "Traccar Client", func(s settings) [][2]string {
		return [][2]string{{"Server URL", s.inPath()}, {"Device identifier", s.device}}
	}, traccarLink, "the app itself: Settings, QR code", settings.id},
	{"osmand", "OsmAnd", func(s settings) [][2]string {
		return [][2]string{{"Online tracking web address", s.inPath() + "?id=" + url.QueryEscape(s.device) +
			"&lat={0}&lon={1}&timestamp={2}&hdop={3}&altitude={4}&speed={5}"}}
	}, nil, "", settings.id},
	{"gpslogger", "GPSLogger", func(s settings) [][2]string {
		return [][2]string{{"Log to custom URL", s.inPath() + "?id=" + url.QueryEscape(s.device) +
			"&lat=%LAT&lon=%LON&timestamp=%TIMESTAMP&accuracy=%ACC&altitude=%ALT&speed=%SPD&bearing=%DIR&batt=%BATT"}, {"HTTP method", "POST"}}
	}, nil, "", settings.id},
	{"overland", "Overland", func(s settings) [][2]string {
		return [][2]string{{"Receiver endpoint URL", s.base.String()}, {"Access token", s.user + ":" + s.password}, {"Device ID", s.device}}
	}, overlandLink, "the phone's camera", settings.id},
}

func appNames() (names []string) {
	for _, a := range phoneApps {
		names = append(names, a.name)
	}
	return names
}

// inPath is the URL for apps that send no credentials but in the path (V5).
func (s settings) inPath() string { return s.base.String() + "t/" + s.credentials() + "/" }

// credentials are name:password with every sign escaped that means something to a URL or to an
// app's template.
func (s settings) credentials() string {
	return url.QueryEscape(s.user) + ":" + url.QueryEscape(s.password)
}

// id is the client's id for apps that send the device's name alone.
func (s settings) id() string {
	if s.device == s.user {
		return s.user
	}
	return s.user + "/" + s.device
}

// ownTracksLink is a configuration in base64. OwnTracks' own examples do not escape it, so it has
// only letters and digits: JSON may hold every sign that would become + or / as \u, and spaces
// in place of padding.
func ownTracksLink(s settings) string {
	text, _ := json.Marshal(map[string]any{"_type": "configuration", "mode": 3, "url": s.base.String(),
		"auth": true, "username": s.user, "password": s.password, "deviceId": s.device}) // cannot fail
	text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("?"), []byte(`\u003f`)), []byte("~"), []byte(`\u007e`))
	for len(text)%3 != 0 {
		text = append(text, ' ')
	}
	return "owntracks:///config?inline=" + base64.StdEncoding.EncodeToString(text)
}

// traccarLink is what the app's own scanner takes for its settings.
func traccarLink(s settings) string { return s.inPath() + "?id=" + url.QueryEscape(s.device) }

func overlandLink(s settings) string {
	return "overland://setup?url=" + url.QueryEscape(s.base.String()) + "&token=" + url.QueryEscape(s.user+":"+s.password) +
		"&device_id=" + url.QueryEscape(s.device) + "&unique_id=no"
}

// show prints what to type into each app.
func (c *phone) show(p *process, s settings) error {
	codes := isTerminal(p.stdout)
	if given(c.fs)["qr"] {
		codes = c.qr
	}
	chosen := strings.Split(c.apps, ",")
	for _, a := range phoneApps {
		if c.apps != "" && !slices.Contains(chosen, a.name) {
			continue
		}
		fmt.Fprintf(p.stdout, "\n%s: on the map it is %s\n", a.title, a.id(s))
		for _, f := range a.fields(s) {
			fmt.Fprintf(p.stdout, "  %-28s %s\n", f[0], f[1])
		}
		if a.link == nil {
			continue
		}
		fmt.Fprintf(p.stdout, "  %-28s %s\n", "Or all of it by this link", a.link(s))
		if codes {
			fmt.Fprintf(p.stdout, "  Or scan this with %s:\n", a.scan)
			if err := writeQR(p.stdout, a.link(s), paint(p).on); err != nil {
				return err
			}
		}
	}
	return nil
}
