package main

import (
	"net/http"
	"strings"
	"testing"

	"herd/places/google/googletest"
)

func TestPlacesAsksTheProvidersOfTheEnvironment(t *testing.T) {
	t.Parallel()
	s := googletest.Start(t, googletest.Place{ID: "ChIJ1", Name: "Café", Lat: -34.06893, Lon: 118.445127})
	google := []string{"HERD_GOOGLE_KEY=" + googletest.Key, "HERD_GOOGLE_URL=" + s.URL}
	denied := func(w http.ResponseWriter, _ *http.Request) {
		googletest.WriteError(w, 403, "PERMISSION_DENIED", "not you")
	}
	const here = "-34.068930+118.445127"
	for _, test := range []struct {
		name      string
		environ   []string
		behave    http.HandlerFunc
		operands  string
		code      int
		out, talk string // "" means nothing
	}{
		{"the built-in one", nil, nil, "+34.068930-118.445127 10 1", exitOK, `"herd:landmark/`, "herd: gazetteer answered\n"},
		{"Google, by auto", google, nil, here + " 10 1", exitOK, `"ChIJ1"`, "herd: google answered\n"},
		{"Google, before", append(google, "HERD_PLACES=google-legacy"), nil, here + " 10 1", exitOK, `"icon":`, "herd: google-legacy answered\n"},
		{"Google fails", google, denied, here + " 10 1", exitOK, "gazetteer", "PERMISSION_DENIED: not you"},
		{"and says who answered", google, denied, here + " 10 1", exitOK, "gazetteer", "herd: gazetteer answered\n"},
		{"Google alone fails", append(google, "HERD_PLACES=google"), denied, here + " 10 1", exitFailed, `"REQUEST_DENIED"`, "herd: places: REQUEST_DENIED: "},
		{"nothing near", append(google, "HERD_PLACES=google"), nil, "+0+0 1 1", exitOK, `"ZERO_RESULTS"`, "herd: google answered\n"},
		{"C12 nobody is asked", google, denied, here + " 0 1", exitOK, `"ZERO_RESULTS"`, "no provider was asked"},
		{"C7 a wrong place", nil, nil, "here 1 1", exitUsage, "", "C7"},
		{"C12 a wrong radius", nil, nil, here + " 51 1", exitUsage, "", "C12"},
		{"C12 a wrong maximum", nil, nil, here + " 1 21", exitUsage, "", "C12"},
		{"two words", nil, nil, here + "\t1 1 1", exitUsage, "", "not one word"},
		{"no key", []string{"HERD_PLACES=google", "HERD_EDGE=no.name", "NATS_URL=nonsense"}, nil, here + " 1 1", exitUsage, "",
			"herd: places: the configuration is wrong\n  HERD_PLACES: Google needs HERD_GOOGLE_KEY or HERD_GOOGLE_KEY_FILE\n"},
		{"a warning", []string{"HERD_PLACES_DAYLY=1"}, nil, here + " 1 1", exitOK, "ZERO_RESULTS", "did you mean HERD_PLACES_DAILY?"},
		{"a cache", append(google, "HERD_PLACES_CACHE=1h"), nil, here + " 1 1", exitUsage, "", "HERD_PLACES_CACHE: withdrawn: Google's terms forbid"},
		{"a key in the clear", []string{google[0], "HERD_GOOGLE_URL=http://google.invalid", "HERD_PLACES=google"}, nil, here + " 0 1", exitOK, "ZERO_RESULTS", "sent in the clear"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.Behave(test.behave)
			o := newTool(t, test.environ...)
			o.want(test.code, append([]string{"places"}, strings.Split(test.operands, " ")...)...)
			out, talk := o.stdout.String(), o.stderr.String()
			if !strings.Contains(out, test.out) || test.out == "" && out != "" {
				t.Errorf("prints %s, want %q", out, test.out)
			}
			if !strings.Contains(talk, test.talk) {
				t.Errorf("says %s, want %q", talk, test.talk)
			}
			if strings.Contains(out+talk, googletest.Key) {
				t.Errorf("shows the key: %s%s", out, talk)
			}
		})
	}
}
