package nearby_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"herd/places/nearby"
)

var update = flag.Bool("update", false, "write the golden files anew")

func full() nearby.Answer {
	return nearby.Found([]string{`Data: <a href="https://example.org/?a=1&b=2">Example</a>`}, []nearby.Place{
		{
			BusinessStatus: "OPERATIONAL",
			Geometry: nearby.Geometry{
				Location: nearby.Location{Lat: 34.0689, Lng: -118.4451},
				Viewport: &nearby.Viewport{
					Northeast: nearby.Location{Lat: 34.07, Lng: -118.44},
					Southwest: nearby.Location{Lat: 34.06, Lng: -118.45},
				},
			},
			Name:             "Café \"Bruin\" & Söhne",
			PlaceID:          "example:1",
			PlusCode:         &nearby.PlusCode{CompoundCode: "3H93+H2 Los Angeles", GlobalCode: "85633H93+H2"},
			Rating:           4.5,
			Types:            []string{"cafe", "point_of_interest", "establishment"},
			UserRatingsTotal: 12,
			Vicinity:         "Westwood Plaza, Los Angeles",
		},
		{Name: "Origin", PlaceID: "example:2"},
	})
}

func TestJSONIsAsPublished(t *testing.T) {
	for name, answer := range map[string]nearby.Answer{
		"found":   full(),
		"zero":    nearby.Zero(),
		"failure": nearby.Failure(nearby.OverQueryLimit, "no questions left today"),
	} {
		t.Run("C15 "+name, func(t *testing.T) {
			got, err := answer.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestAppendKeepsWhatWasThere(t *testing.T) {
	got, err := nearby.Zero().Append([]byte("AT …\n\n"))
	if err != nil || !strings.HasPrefix(string(got), "AT …\n\n{") {
		t.Errorf("got %q, %v", got, err)
	}
	answer := nearby.Found(nil, []nearby.Place{{Rating: math.NaN()}})
	got, err = answer.Append([]byte("AT …\n"))
	if err == nil || string(got) != "AT …\n" {
		t.Errorf("NaN: got %q, %v; want an error and nothing appended", got, err)
	}
}

func TestTrim(t *testing.T) {
	for _, test := range []struct {
		name    string
		answer  nearby.Answer
		max     int
		results int
		status  nearby.Status
	}{
		{"C15 more than there are", full(), 20, 2, nearby.OK},
		{"C15 as many as there are", full(), 2, 2, nearby.OK},
		{"C15 fewer", full(), 1, 1, nearby.OK},
		{"C12 none", full(), 0, 0, nearby.ZeroResults},
		{"below none", full(), -1, 0, nearby.ZeroResults},
		{"C16 a failure stays one", nearby.Failure(nearby.RequestDenied, "no"), 0, 0, nearby.RequestDenied},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := test.answer.Trim(test.max)
			if len(got.Results) != test.results || got.Status != test.status {
				t.Errorf("%d results, %s; want %d, %s", len(got.Results), got.Status, test.results, test.status)
			}
			if len(got.Results) > 0 && !reflect.DeepEqual(got.Results, test.answer.Results[:len(got.Results)]) {
				t.Errorf("kept %v, not the first ones", got.Results)
			}
		})
	}
}

func TestOnlyFailuresFail(t *testing.T) {
	for _, s := range []nearby.Status{nearby.OK, nearby.ZeroResults} {
		if s.Failed() {
			t.Errorf("%s counts as failed", s)
		}
	}
	for _, s := range []nearby.Status{nearby.InvalidRequest, nearby.OverQueryLimit, nearby.RequestDenied, nearby.UnknownError, ""} {
		if !s.Failed() {
			t.Errorf("%q does not count as failed", s)
		}
	}
}

// FuzzAnswer: whatever a provider returns, the output is JSON that keeps C14 and that
// encoding/json decodes like its own output.
func FuzzAnswer(f *testing.F) {
	f.Add("Café", "x:1", "a\n\nb", "type", "slow", 34.0, -118.0, 4.5, 3, uint8(2))
	f.Add("\xff\xfe\x00", "<&>\u2028\ufffd", "\r\n\n", "", "", math.Inf(1), math.NaN(), 0.0, 0, uint8(0))
	f.Add("\"\\/\t\x7f", "\xe2\x80", "", "\xed\xa0\x80", "\n\n", 1e-9, -1e300, math.Inf(-1), -1, uint8(255))
	f.Fuzz(func(t *testing.T, name, id, vicinity, kind, message string, lat, lng, rating float64, ratings int, shape uint8) {
		place := nearby.Place{
			Name: name, PlaceID: id, Vicinity: vicinity, Types: []string{kind}, BusinessStatus: kind,
			Rating: rating, UserRatingsTotal: ratings,
		}
		place.Geometry.Location = nearby.Location{Lat: lat, Lng: rating}
		if shape&4 != 0 {
			place.PlusCode = &nearby.PlusCode{CompoundCode: vicinity, GlobalCode: id}
		}
		if shape&8 != 0 {
			place.Geometry.Viewport = &nearby.Viewport{Northeast: nearby.Location{Lat: lat, Lng: lng}, Southwest: nearby.Location{Lat: lng, Lng: lat}}
		}
		in := nearby.Found([]string{vicinity, name}, slices.Repeat([]nearby.Place{place}, int(shape&3)))
		in.ErrorMessage = message

		text, err := in.Append([]byte("AT\n"))
		reference, refusal := json.Marshal(in)
		if (err != nil) != (refusal != nil) {
			t.Fatalf("%v, but encoding/json: %v", err, refusal)
		}
		text, ok := bytes.CutPrefix(text, []byte("AT\n"))
		if !ok || err != nil && len(text) > 0 {
			t.Fatalf("dst became %q", text)
		}
		if err != nil {
			return
		}
		if bytes.Contains(text, []byte("\n\n")) || bytes.HasSuffix(text, []byte("\n")) {
			t.Fatalf("breaks C14: %q", text)
		}
		if !utf8.Valid(text) {
			t.Fatalf("not UTF-8: %q", text)
		}
		var got, want nearby.Answer
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if err := json.Unmarshal(reference, &want); err != nil {
			t.Fatal(err)
		}
		if want.Results == nil { // null, where Append writes []
			want.Results = []nearby.Place{}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v from %s, want %+v", got, text, want)
		}
	})
}

func TestAppendAllocatesNothing(t *testing.T) {
	answer, buf := full(), make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { buf, _ = answer.Append(buf[:0]) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	answer := nearby.Found([]string{"attribution"}, slices.Repeat(full().Results[:1], 20))
	b.Run("herd", func(b *testing.B) {
		var buf []byte
		b.ReportAllocs()
		for b.Loop() {
			buf, _ = answer.Append(buf[:0])
		}
		b.SetBytes(int64(len(buf)))
	})
	b.Run("floor: encoding/json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			text, _ := json.Marshal(answer)
			b.SetBytes(int64(len(text)))
		}
	})
}

func TestWhatAProviderWroteItselfStaysAsItIs(t *testing.T) {
	a := nearby.Found(nil, []nearby.Place{{Name: "not this", Rating: math.NaN(), Raw: []byte(`{"name":"x","icon":"y"}`)}, {Name: "z"}})
	a.Others = []byte(`"next_page_token":"t"`)
	text, err := a.Append(nil)
	const want = "{\"html_attributions\":[],\n\"results\":[\n{\"name\":\"x\",\"icon\":\"y\"},\n" +
		"{\"geometry\":{\"location\":{\"lat\":0,\"lng\":0}},\"name\":\"z\",\"place_id\":\"\"}],\n\"status\":\"OK\",\n\"next_page_token\":\"t\"}"
	if err != nil || string(text) != want {
		t.Errorf("%v, got\n%s\nwant\n%s", err, text, want)
	}
}
