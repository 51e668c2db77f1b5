package devices

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"herd/edge/wire"
)

// now is the moment of receipt in these tests.
const now = 1_700_000_000_123_456_789

const nowText = "1700000000.123456789"

// parsed is what a request means, in words: its app, then its IAMATs' fields, then what was left out.
func parsed(in *input, user string) string {
	if user != "" {
		in.authenticated = []byte(user)
	}
	var r report
	if !r.parse(in, now) {
		return "unknown"
	}
	all, nameless, invalid := r.iamats([]byte(user))
	said := r.app.String()
	for _, m := range all {
		said += fmt.Sprintf("; %s %s %s", m.Client, m.Location, m.Time)
	}
	if nameless > 0 {
		said += fmt.Sprintf("; nameless %d", nameless)
	}
	if n := invalid + r.invalid; n > 0 {
		said += fmt.Sprintf("; invalid %d", n)
	}
	if r.encrypted {
		said += "; encrypted"
	}
	return said
}

// What each app sends, as it sends it.
func TestWhatAppsSend(t *testing.T) {
	for _, c := range []struct {
		name string
		in   input
		want string
	}{
		{"OsmAnd's template", input{get: true, query: []byte("id=kiwi&lat=34.06890&lon=-118.44510&timestamp=1621464827959&hdop=4.5&altitude=81.0&speed=0.0")},
			"osmand; kiwi +34.06890-118.44510 1621464827.959"},
		{"Traccar Client up to 8", input{query: []byte("id=123456&timestamp=1621464827&lat=34.0689&lon=-118.4451&speed=0.0&bearing=0.0&altitude=81.0&accuracy=12.5&batt=77.0")},
			"osmand; 123456 +34.0689-118.4451 1621464827"},
		{"Traccar Client 9", input{body: []byte(`{"location":{"timestamp":"2026-01-02T03:04:05.678Z","coords":{"latitude":34.0689,"longitude":-118.4451,"accuracy":12.5,"speed":1.25,"heading":90.0,"altitude":81.2},"is_moving":true,"odometer":12,"event":"motionchange","battery":{"level":0.8,"is_charging":false},"activity":{"type":"still"},"extras":{}},"device_id":"123456"}`)},
			"traccar; 123456 +34.0689-118.4451 1767323045.678"},
		{"Traccar Client 9's heartbeat", input{body: []byte(`{"location":{"event":"heartbeat","battery":{"level":0.8}},"device_id":"123456"}`)}, "traccar"},
		{"Traccar Client 9 without a location", input{body: []byte(`{"device_id":"123456"}`)}, "traccar"},
		{"Traccar Client 10", input{body: []byte("id=123456&lat=34.0689&lon=-118.4451&timestamp=1621464827&accuracy=12.5&altitude=81.0&speed=0.0&bearing=0.0&batt=77")},
			"osmand; 123456 +34.0689-118.4451 1621464827"},
		{"Traccar Client 10's heartbeat", input{body: []byte("id=123456&timestamp=1621464827&batt=77")}, "osmand"},
		{"GPSLogger, seconds", input{get: true, query: []byte("id=gps&lat=34.0689&lon=-118.4451&timestamp=1621464827&acc=5")}, "osmand; gps +34.0689-118.4451 1621464827"},
		{"GPSLogger, ISO", input{query: []byte("id=gps&lat=34.0689&lon=-118.4451&timestamp=2021-05-19T22:53:47.959Z")}, "osmand; gps +34.0689-118.4451 1621464827.959"},
		{"a script", input{body: []byte("deviceid=van+7&location=34.0689,-118.4451&timestamp=2021-05-19%2022:53:47")}, "osmand; van%207 +34.0689-118.4451 1621464827"},
		{"OsmAnd's form as JSON", input{body: []byte(`{"id":"kiwi","lat":34.0689,"lon":-118.4451,"timestamp":1621464827}`)}, "osmand; kiwi +34.0689-118.4451 1621464827"},
		{"its device_id", input{body: []byte(`{"device_id":"kiwi","lat":34.0689,"lon":-118.4451}`)}, "osmand; kiwi +34.0689-118.4451 " + nowText},
		{"no time", input{get: true, query: []byte("id=kiwi&lat=1&lon=2")}, "osmand; kiwi +1+2 " + nowText},
		{"an empty time", input{get: true, query: []byte("id=kiwi&lat=1&lon=2&timestamp=")}, "osmand; kiwi +1+2 " + nowText},
		{"a template that was not filled in", input{get: true, query: []byte("id=kiwi&lat={0}&lon={1}&timestamp={2}")}, "osmand; invalid 1"},
		{"no id", input{get: true, query: []byte("lat=1&lon=2")}, "osmand; nameless 1"},
		{"a long id", input{get: true, query: []byte("id=" + strings.Repeat("k", 1025) + "&lat=1&lon=2")}, "osmand; nameless 1"},
		{"the longest id", input{get: true, query: []byte("id=" + strings.Repeat("k", 1024) + "&lat=1&lon=2")}, "osmand; " + strings.Repeat("k", 1024) + " +1+2 " + nowText},
		{"bytes that are no UTF-8", input{get: true, query: []byte("id=%ff%00%e9&lat=1&lon=2")}, "osmand; \xff\x00\xe9 +1+2 " + nowText},
		{"line ends in the id", input{get: true, query: []byte("id=a%0aIAMAT+b&lat=1&lon=2")}, "osmand; a%0AIAMAT%20b +1+2 " + nowText},
		{"an escape that is none", input{get: true, query: []byte("id=100%&lat=1&lon=2")}, "osmand; 100% +1+2 " + nowText},
		{"decoded once", input{get: true, query: []byte("id=a%252Fb&lat=1&lon=2")}, "osmand; a%2Fb +1+2 " + nowText},

		{"OwnTracks", input{user: []byte("alice"), device: []byte("phone"), body: []byte(`{"_type":"location","BSSID":"x","SSID":"y","_id":"a1","acc":12,"alt":81,"batt":77,"bs":1,"conn":"w","created_at":1621464830,"lat":34.0689,"lon":-118.4451,"m":1,"t":"u","tid":"ph","tst":1621464827,"vac":3,"vel":0}`)},
			"owntracks; alice/phone +34.0689-118.4451 1621464827"},
		{"OwnTracks, 0.0 for integers", input{query: []byte("u=alice&d=phone"), body: []byte(`{"_type":"location","lat":0.0,"lon":-0.0,"tst":1621464827.0,"acc":0.0}`)},
			"owntracks; alice/phone +0.0-0.0 1621464827.0"},
		{"OwnTracks by its topic", input{body: []byte(`{"_type":"location","topic":"owntracks/alice/phone","lat":34,"lon":-118,"tst":1621464827}`)}, "owntracks; alice/phone +34-118 1621464827"},
		{"OwnTracks, the headers first", input{user: []byte("al"), query: []byte("u=x&d=tablet"), body: []byte(`{"_type":"location","topic":"owntracks/alice/phone","lat":34,"lon":-118,"tst":1}`)}, "owntracks; al/tablet +34-118 1"},
		{"OwnTracks of nobody", input{body: []byte(`{"_type":"location","lat":34,"lon":-118,"tst":1621464827}`)}, "owntracks; nameless 1"},
		{"OwnTracks encrypted", input{user: []byte("a"), body: []byte(`{"_type":"encrypted","data":"bm90aGluZw=="}`)}, "owntracks; encrypted"},
		{"an empty body", input{}, "owntracks"},
		{"white space with OwnTracks' headers", input{user: []byte("a"), body: []byte("\n")}, "owntracks"},
		{"what no JSON is, of OwnTracks", input{user: []byte("a"), body: []byte(`{"_type":`)}, "owntracks; invalid 1"},
		{"half a position, of OwnTracks", input{query: []byte("u=a&d=b"), body: []byte(`{"_type":"location","lat":34,"lon":-118,"ts`)}, "owntracks; invalid 1"},
		{"another object, of OwnTracks", input{device: []byte("b"), body: []byte(`{"lan":34}`)}, "owntracks; invalid 1"},

		{"Overland", input{body: []byte(`{"locations":[{"type":"Feature","geometry":{"type":"Point","coordinates":[-118.4451,34.0689]},"properties":{"timestamp":"2021-05-19T15:53:47-0700","altitude":81,"speed":-1,"horizontal_accuracy":5,"motion":["stationary"],"battery_state":"full","battery_level":1,"wifi":"","device_id":"phone","locations_in_payload":2}},` +
			`{"type":"Feature","geometry":{"type":"Point","coordinates":[-118.5,34.1]},"properties":{"timestamp":"2021-05-19T22:53:40Z","device_id":"phone"}}],"current":{"type":"Feature","geometry":{"type":"Point","coordinates":[-118.6,34.2]},"properties":{"timestamp":"2021-05-19T22:53:50Z","device_id":"phone"}},"trip":{"mode":"walking","locations":[{"lat":1}]}}`)},
			"overland; phone +34.1-118.5 1621464820; phone +34.0689-118.4451 1621464827; phone +34.2-118.6 1621464830"},
		{"Overland without an id", input{body: []byte(`{"locations":[{"geometry":{"coordinates":[1.0,2.0]},"properties":{"timestamp":"2021-05-19T22:53:47Z","device_id":""}}]}`)}, "overland; nameless 1"},
		{"Overland, the id at the top", input{body: []byte(`{"locations":[{"geometry":{"coordinates":[1.0,2.0]},"properties":{"timestamp":"2021-05-19T22:53:47Z","device_id":""}}],"device_id":"top"}`)}, "overland; top +2.0+1.0 1621464827"},
		{"Overland, nothing", input{body: []byte(`{"locations":[]}`)}, "overland"},
		{"Overland, odd features", input{body: []byte(`{"locations":[null,{},[],7,{"geometry":null},{"geometry":{"coordinates":[]}},{"geometry":{"coordinates":[[1,2],[3,4]]}},{"geometry":{"coordinates":[1]},"properties":3},{"geometry":{"coordinates":[1,2,3]},"properties":{"timestamp":"2021-05-19T22:53:47Z","device_id":5}}],"current":null}`)}, "overland; 5 +2+1 1621464827; invalid 2"},

		{"nothing that anybody knows", input{get: true, query: []byte("q=herd")}, "unknown"},
		{"a GET of another path", input{get: true}, "unknown"},
		{"another JSON", input{body: []byte(`{"hello":"world"}`)}, "unknown"},
		{"half a JSON", input{body: []byte(`{"locations":[`)}, "unknown"},
		{"more than a JSON", input{body: []byte(`{"locations":[]}{}`)}, "unknown"},
		{"an array", input{body: []byte(`[{"_type":"location"}]`)}, "unknown"},
		{"a JSON that is none behind a query", input{query: []byte("id=kiwi&lat=1&lon=2"), body: []byte(`{"x":`)}, "osmand; kiwi +1+2 " + nowText},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := parsed(&c.in, ""); got != c.want {
				t.Errorf("it is\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// Every other type of OwnTracks is no position, and known.
func TestOwnTracksOtherTypes(t *testing.T) {
	for _, kind := range []string{"lwt", "waypoint", "waypoints", "transition", "card", "cmd", "dump", "status", "steps", "beacon", "configuration", "request", "to come"} {
		in := input{body: []byte(`{"_type":"` + kind + `","lat":1.5,"lon":2.5,"tst":1621464827}`)}
		if got := parsed(&in, ""); got != "owntracks" {
			t.Errorf("%s is %q", kind, got)
		}
	}
}

// V6: what a user reports is the user's own, whatever is sent.
func TestTheIdsOfAUser(t *testing.T) {
	for id, want := range map[string]string{
		"alice": "alice", "alice/phone": "alice/phone", "phone": "alice/phone", "bob": "alice/bob", "bob/phone": "alice/bob/phone",
		"alice/../bob": "alice/../bob", "../bob": "alice/../bob", "/bob": "alice//bob", "Alice": "alice/Alice", "ALICE/x": "alice/ALICE/x",
		"alicex": "alice/alicex", "alice%2fx": "alice/alice%2fx", "alice%00": "alice/alice%00", " alice": "alice/%20alice", "alice ": "alice/alice%20",
		"a\u0301lice": "alice/a\u0301lice", "\uff41lice": "alice/\uff41lice", "alice\x00": "alice/alice\x00", "alice/": "alice/", "alice\\bob": "alice/alice\\bob",
	} {
		got, ok := appendID(nil, []byte("alice"), []byte(id))
		if string(got) != want || !ok {
			t.Errorf("%q of alice is %q, %v; want %q", id, got, ok, want)
		}
		if !owns([]byte("alice"), got) {
			t.Errorf("%q is not alice's", got)
		}
	}
	if got, ok := appendID(nil, []byte("alice"), []byte(strings.Repeat("x", 1024-len("alice/")))); !ok || len(got) != 1024 {
		t.Errorf("an id of %d bytes: %v", len(got), ok)
	}
	for _, id := range []string{"", strings.Repeat("x", 1025-len("alice/")), strings.Repeat(" ", 340)} {
		if _, ok := appendID(nil, []byte("alice"), []byte(id)); ok {
			t.Errorf("an id of %d bytes sent is one", len(id))
		}
	}
}

// Overland's default id is the user's name; OwnTracks' user is, where only a device is named.
func TestWhatAUserNeedNotSay(t *testing.T) {
	in := input{body: []byte(`{"locations":[{"geometry":{"coordinates":[1,2]},"properties":{"timestamp":"2021-05-19T22:53:47Z"}}]}`)}
	if got, want := parsed(&in, "alice"), "overland; alice +2+1 1621464827"; got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
	in = input{device: []byte("phone"), body: []byte(`{"_type":"location","lat":1,"lon":2,"tst":3}`)}
	if got, want := parsed(&in, "alice"), "owntracks; alice/phone +1+2 3"; got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
}

// V4, V6: an id that is sent once for many positions does not take its length as often, in memory
// or in time.
func TestOneIDOfManyPositions(t *testing.T) {
	const n = 2000
	many := func(one string) string { return strings.TrimSuffix(strings.Repeat(one+",", n), ",") }
	for name, form := range map[string]string{
		"Overland": `{"locations":[` + many(`{"geometry":{"coordinates":[1,2]}}`) + `],"device_id":"%s"}`,
		"Traccar":  `{"location":[` + many(`{"coords":{"latitude":1,"longitude":2}}`) + `],"device_id":"%s"}`,
	} {
		for _, c := range []struct {
			id             string
			stored, unable int
			mostBytes      uint64
		}{
			{"kiwi", n, 0, 8 << 20},
			{strings.Repeat("x", 512<<10), 0, n, 16 << 20},
			{strings.Repeat(`\n`, 256<<10), 0, n, 16 << 20},
		} {
			in := input{body: fmt.Appendf(nil, form, c.id)}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var r report
			if !r.parse(&in, now) {
				t.Fatalf("%s: no parser knows it", name)
			}
			all, nameless, invalid := r.iamats([]byte("alice"))
			runtime.ReadMemStats(&after)
			if len(all) != c.stored || nameless != c.unable || invalid != 0 {
				t.Errorf("%s, an id of %d bytes: %d commands, %d without an id, %d invalid", name, len(c.id), len(all), nameless, invalid)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > c.mostBytes {
				t.Errorf("%s, an id of %d bytes: %d bytes are allocated for a body of %d", name, len(c.id), took, len(in.body))
			}
			if c.stored > 0 {
				size := 0
				for i := range all {
					size += len(all[i].Client) + len(all[i].Location) + len(all[i].Time) + 2
				}
				if got := r.size([]byte("alice")); got != size {
					t.Errorf("%s: the commands take %d bytes, and %d are counted", name, size, got)
				}
			}
		}
	}
}

// A number's digits are those that were sent.
func TestLocationsOfNumbers(t *testing.T) {
	for _, c := range []struct{ lat, lon, want string }{
		{"34.0689", "-118.4451", "+34.0689-118.4451"},
		{"+34.06890000", "0118.4451000", "+34.06890000+118.4451000"},
		{"0.0", "-0.0", "+0.0-0.0"}, {"0", "-0", "+0-0"}, {".5", "-.25", "+0.5-0.25"}, {"34.", "118.", "+34+118"},
		{"000034.1", "1", "+34.1+1"},
		{"34.068899999999999", "0.1234567890123456789012345678", "+34.068899999999999+0.1234567890123456789012345678"},
		{"1e1", "1.5E2", "+10+150"}, {"3.40689e+1", "-1184451e-4", "+34.0689-118.4451"}, {"1e-7", "-1.25e-7", "+0.0000001-0.000000125"},
		{"0e0", "1.8e2", "+0+180"}, {"12e-1", "100e-2", "+1.2+1.00"}, {"90", "180", "+90+180"}, {"0e5", "0.000e1", "+0+0.00"},
	} {
		got, ok := appendLocation(nil, []byte(c.lat), []byte(c.lon))
		if !ok || string(got) != c.want {
			t.Errorf("%s %s is %s, %v; want %s", c.lat, c.lon, got, ok, c.want)
		}
		if err := wire.CheckLocation(got); err != nil {
			t.Errorf("%s: %v", got, err)
		}
	}
	for _, bad := range []string{"", "-", "+", ".", "e5", "1e", "1e+", "1.2.3", "1,5", "0x10", "NaN", "Infinity", "null", "1 2", "1e999", "1e-999", "--1", "١", "true"} {
		if got, ok := appendLocation(nil, []byte(bad), []byte("1")); ok {
			t.Errorf("%q is %s", bad, got)
		}
	}
}

func TestMoments(t *testing.T) {
	for text, want := range map[string]string{
		"1621464827": "1621464827", "1621464827.959498503": "1621464827.959498503", "1621464827.0": "1621464827.0", "0": "0",
		"2147483646": "2147483646", "2147483647": "2147483.647", "1621464827959": "1621464827.959", "1621464827000": "1621464827.000",
		"1621464827959.5": "1621464827.9595", "1.621464827e9": "1621464827", "+5": "5", "0001621464827": "1621464827",
		"2021-05-19T22:53:47Z": "1621464827", "2021-05-19T22:53:47.959498503Z": "1621464827.959498503", "2021-05-19 22:53:47": "1621464827",
		"2021-05-19T15:53:47-0700": "1621464827", "2021-05-19T15:53:47-07:00": "1621464827", "2021-05-20T00:53:47+02": "1621464827",
		"2021-05-20T04:23:47+0530": "1621464827", "2021-05-20T00:53:47 02:00": "1621464827", "2021-05-19T22:53Z": "1621464780",
		"1970-01-01T00:00:00Z": "0", "2000-02-29T00:00:00Z": "951782400", "2024-02-29T23:59:60Z": "1709251200", "2100-02-28T00:00:00Z": "4107456000",
		"2021-05-19T22:53:47,5Z": "1621464827.5", "2021-05-19t22:53:47Z": "",
		"1969-12-31T23:59:59Z": "", "-1": "", "now": "", "2021-02-29T00:00:00Z": "", "2100-02-29T00:00:00Z": "", "2021-13-01T00:00:00Z": "", "2021-00-01T00:00:00Z": "",
		"2021-05-19": "", "2021-05-19T24:00:00Z": "", "2021-05-19T22:60:00Z": "", "2021-05-19T22:53:61Z": "", "2021-05-19T22:53:47.Z": "",
		"2021-05-19T22:53:47+2": "", "2021-05-19T22:53:47+24:00": "", "2021-05-19T22:53:47ZZ": "", "2021-05-19T22:53:47 UTC": "", "20210519T225347Z": "",
	} {
		got, ok := appendTime(nil, []byte(text), true)
		if ok != (want != "") || ok && string(got) != want {
			t.Errorf("%q is %q, %v; want %q", text, got, ok, want)
		}
	}
	if got, _ := appendTime(nil, []byte("2147483647"), false); string(got) != "2147483647" {
		t.Errorf("seconds alone: %s", got)
	}
	for ns, want := range map[int64]string{0: "0.000000000", now: nowText, 1: "0.000000001"} {
		if got := string(appendNow(nil, ns)); got != want {
			t.Errorf("%d ns is %s, want %s", ns, got, want)
		}
	}
}

// fuzzSeeds are bodies and queries of all apps.
var fuzzSeeds = []string{
	"id=kiwi&lat=34.0689&lon=-118.4451&timestamp=1621464827959", "deviceid=a%20b&location=1,2", "%", "a=%zz&lat=&lon",
	`{"_type":"location","topic":"owntracks/a/b","lat":1.5,"lon":2e1,"tst":1621464827}`,
	`{"locations":[{"geometry":{"coordinates":[1,2]},"properties":{"timestamp":"2021-05-19T15:53:47-0700","device_id":"x"}},null],"current":{}}`,
	`{"location":{"timestamp":"2026-01-02T03:04:05.678Z","coords":{"latitude":1,"longitude":2}},"device_id":"x"}`,
	`{"location":[{"coords":{}}],"device_id":"\u0000\ud800"}`, `{"locations":{"a":[1,{"b":2}]},"id":null}`,
}

// checkReport checks what every report promises, whatever was sent.
func checkReport(t *testing.T, r *report, user string) {
	t.Helper()
	all, nameless, invalid := r.iamats([]byte(user))
	if len(all)+nameless+invalid != len(r.positions) {
		t.Fatalf("%d positions became %d, %d, %d", len(r.positions), len(all), nameless, invalid)
	}
	if !slices.IsSortedFunc(all, func(a, b wire.IAMAT) int { return int(min(1, max(-1, a.Stamp-b.Stamp))) }) {
		t.Error("not in the order of time")
	}
	for _, m := range all {
		line := slices.Concat(m.Client, []byte(" "), m.Location, []byte(" "), m.Time)
		if again, err := wire.ParseIAMAT(line); err != nil || string(again.Client) != string(m.Client) {
			t.Errorf("%q is no IAMAT: %v", line, err)
		}
		if user != "" && !owns([]byte(user), m.Client) {
			t.Errorf("%q is not %s's", m.Client, user)
		}
	}
}

func fuzz(f *testing.F, make func(text []byte) *input) {
	for _, seed := range fuzzSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, user := range []string{"", "alice"} {
			in := make(text)
			if user != "" {
				in.authenticated = []byte(user)
			}
			var r report
			r.parse(in, now)
			checkReport(t, &r, user)
		}
	})
}

func FuzzForm(f *testing.F) {
	fuzz(f, func(text []byte) *input { return &input{get: true, query: text} })
}
func FuzzBody(f *testing.F) { fuzz(f, func(text []byte) *input { return &input{body: text} }) }
func FuzzOwnTracks(f *testing.F) {
	fuzz(f, func(text []byte) *input {
		return &input{user: text, query: text, body: append([]byte(`{"_type":"location","lat":1,"lon":2,"topic":"owntracks/`), text...)}
	})
}
func FuzzOverland(f *testing.F) {
	fuzz(f, func(text []byte) *input {
		return &input{body: slices.Concat([]byte(`{"locations":[`), text, []byte(`]}`))}
	})
}
func FuzzTraccar(f *testing.F) {
	fuzz(f, func(text []byte) *input {
		return &input{body: slices.Concat([]byte(`{"device_id":"x","location":`), text, []byte(`}`))}
	})
}

// A time is as exact as it was sent, or none: never another.
func FuzzTime(f *testing.F) {
	for _, seed := range []string{"1621464827959", "2021-05-19T15:53:47-0700", "1.5e9", "2000-02-29 00:00:60"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if got, ok := appendTime(nil, text, true); ok {
			for _, b := range got {
				if b-'0' > 9 && b != '.' {
					t.Errorf("%q is %q", text, got)
				}
			}
		}
	})
}

// A location is the number that was sent: as a float it is the same one.
func FuzzLocation(f *testing.F) {
	for _, seed := range []string{"34.0689", "-1184451e-4", ".5", "1e-7"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := appendLocation(nil, []byte(text), []byte("0"))
		if !ok {
			return
		}
		var want, is float64
		if _, err := fmt.Sscanf(text, "%g", &want); err != nil {
			return
		}
		if _, err := fmt.Sscanf(strings.TrimSuffix(string(got), "+0"), "%g", &is); err != nil || is != want {
			t.Errorf("%q is %q: %v, want %v", text, got, is, want)
		}
	})
}
