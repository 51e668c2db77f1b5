package google_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"herd/places"
	"herd/places/google"
	"herd/places/google/googletest"
	"herd/places/nearby"
	"herd/places/placestest"
	"herd/test/ports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// provider is either of the two providers.
type provider interface {
	places.Provider
	io.Closer
}

// apis are both providers, and what the tests need to know of each.
var apis = []struct {
	name string
	open func(google.Config) (provider, error)
	fail func(w http.ResponseWriter, message string) // a denial in the words of the API
}{
	{"google", func(cfg google.Config) (provider, error) { return google.New(cfg) },
		func(w http.ResponseWriter, message string) {
			googletest.WriteError(w, http.StatusForbidden, "PERMISSION_DENIED", message)
		}},
	{"google-legacy", func(cfg google.Config) (provider, error) { return google.NewLegacy(cfg) },
		func(w http.ResponseWriter, message string) {
			googletest.WriteStatus(w, "REQUEST_DENIED", message)
		}},
}

func open(t *testing.T, how func(google.Config) (provider, error), cfg google.Config) provider {
	t.Helper()
	if cfg.Key == "" {
		cfg.Key = googletest.Key
	}
	p, err := how(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// street returns n places east of UCLA, 50 m apart.
func street(n int) []googletest.Place {
	var all []googletest.Place
	for i := range n {
		all = append(all, googletest.Place{ID: fmt.Sprintf("ChIJ%04d", i), Name: fmt.Sprintf("Café %d", i), Lat: 34.06893, Lon: -118.445127 + float64(i)*0.0005})
	}
	return all
}

var ucla = places.Query{Lat: 34.06893, Lon: -118.445127, Radius: 10, Max: 5}

func TestBothAreProviders(t *testing.T) {
	for _, api := range apis {
		t.Run(api.name, func(t *testing.T) {
			s := googletest.Start(t, street(30)...)
			p := open(t, api.open, google.Config{URL: s.URL})
			if p.Name() != api.name {
				t.Errorf("called %s", p.Name())
			}
			placestest.Run(t, p, placestest.Known{Busy: ucla, Quiet: places.Query{Lat: -48.9, Lon: -123.4, Radius: 50, Max: 5}})
		})
	}
}

// translated is the server's first place as a Nearby Search answer (C15).
const translated = `{"html_attributions":["<a href=\"https://example.org/?a=1&amp;b=2\">Maps &amp; Sons</a>"],
"results":[
{"business_status":"OPERATIONAL","geometry":{"location":{"lat":34.06893,"lng":-118.445127},"viewport":{"northeast":{"lat":34.06993,"lng":-118.444127},"southwest":{"lat":34.06793,"lng":-118.446127}}},"name":"Café 0","place_id":"ChIJ0000","plus_code":{"compound_code":"3H93+H2 Los Angeles","global_code":"85633H93+H2"},"types":["cafe","point_of_interest","establishment"],"vicinity":"1 Main St, Los Angeles"}],
"status":"OK"}`

func ask(t *testing.T, p places.Provider, q places.Query) (nearby.Answer, string) {
	t.Helper()
	answer, err := p.Nearby(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	text, err := answer.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(text)
}

func TestTheNewAnswerIsTranslated(t *testing.T) {
	s := googletest.Start(t, street(3)...)
	q := ucla
	q.Max = 1
	if _, got := ask(t, open(t, apis[0].open, google.Config{URL: s.URL}), q); got != translated {
		t.Errorf("got\n%s\nwant\n%s", got, translated)
	}
	rated := open(t, apis[0].open, google.Config{URL: s.URL + "/", Fields: "places.id,places.location,places.rating,places.userRatingCount"})
	_, got := ask(t, rated, q)
	if want := `},"name":"","place_id":"ChIJ0000","rating":4.5,"user_ratings_total":321}`; !strings.Contains(got, want) {
		t.Errorf("HERD_GOOGLE_FIELDS: got %s, want %s in it", got, want)
	}
	if _, got := ask(t, open(t, apis[0].open, google.Config{URL: s.URL, Fields: "*"}), q); !strings.Contains(got, `"rating":4.5`) || !strings.Contains(got, `"vicinity"`) {
		t.Errorf("HERD_GOOGLE_FIELDS=*: got %s", got)
	}
}

func TestTheDefaultFieldsAreOfTheLowestTier(t *testing.T) {
	for path := range strings.SplitSeq(google.DefaultFields, ",") {
		name, ok := strings.CutPrefix(path, "places.")
		if !ok || !slices.Contains(googletest.Pro, name) {
			t.Errorf("%s is not of Nearby Search Pro", path)
		}
	}
}

func TestAnAttributionIsHTML(t *testing.T) {
	for said, want := range map[string]string{
		`{"provider":"A & B","providerUri":"https://a.example/?x=1&y=\"2\""}`: `<a href="https://a.example/?x=1&amp;y=&#34;2&#34;">A &amp; B</a>`,
		`{"provider":"<script>","providerUri":""}`:                            `&lt;script&gt;`,
		`{"provider":"A","providerUri":"javascript:alert(1)"}`:                `A`,
		`{"provider":"","providerUri":"http://b.example/"}`:                   `<a href="http://b.example/">http://b.example/</a>`,
		`{}`: ``,
	} {
		s := googletest.Start(t)
		s.Behave(func(w http.ResponseWriter, _ *http.Request) {
			googletest.WriteJSON(w, 200, `{"places":[{"id":"a","location":{"latitude":1},"attributions":[`+said+`,`+said+`]},{"id":"b","location":{"latitude":1},"attributions":[`+said+`]}]}`)
		})
		answer, _ := ask(t, open(t, apis[0].open, google.Config{URL: s.URL}), ucla)
		if got := strings.Join(answer.HTMLAttributions, "|"); got != want {
			t.Errorf("%s became %s, want %s", said, got, want)
		}
	}
}

func TestTheLegacyAnswerIsPassedOnAsItCame(t *testing.T) {
	world := street(30)
	s := googletest.Start(t, world...)
	p := open(t, apis[1].open, google.Config{URL: s.URL})
	for _, most := range []int{1, 7, 20} {
		q := ucla
		q.Max = most
		_, text := ask(t, p, q)
		if strings.Contains(text, "\n\n") || strings.HasSuffix(text, "\n") {
			t.Errorf("C14: %q", text)
		}
		var want []any
		for _, place := range world[:most] {
			want = append(want, place.Legacy())
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		if !sameJSON(t, got["results"], want) || got["status"] != "OK" || got["next_page_token"] == nil || len(got) != 4 {
			t.Errorf("max %d: got\n%s", most, text)
		}
	}
	// Including newlines, unknown members and invalid UTF-8.
	s.Behave(func(w http.ResponseWriter, _ *http.Request) {
		googletest.WriteJSON(w, 200, "{\n\n\"html_attributions\":[\"by\"],\n\n\"info_messages\" : [\n\n\"a\"],\"b\\n\\n\":1,\"results\":[{\"geometry\":{\"location\":{\"lat\":1,\"lng\":2}},\"name\":\"x\\n\\ny\xff\",\n\n\"new\" :\t[1,\n\n2]}],\n\n\"status\":\"OK\"}\n\n")
	})
	const want = `{"html_attributions":["by"],` + "\n" + `"results":[` + "\n" + `{"geometry":{"location":{"lat":1,"lng":2}},"name":"x\n\ny` + "\uFFFD" + `","new":[1,2]}],` + "\n" +
		`"status":"OK",` + "\n" + `"b\n\n":1,"info_messages":["a"]}`
	if _, got := ask(t, p, ucla); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func sameJSON(t *testing.T, a, b any) bool {
	t.Helper()
	textA, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	textB, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(textA) == string(textB)
}

// failure is something that may go wrong at Google or on the way.
type failure struct {
	name   string
	answer http.HandlerFunc
	want   error  // a failure of C16
	says   string // part of the log line
}

func serves(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

const asJSON = "application/json; charset=UTF-8"

// echo is a text that shows the key in every form.
const echo = "key " + googletest.Key + " in " + "https://maps.googleapis.com/maps/api/place/nearbysearch/json?key=" + googletest.Key

// failures are the failures of both APIs.
func failures() []failure {
	all := []failure{
		{"C16 HTTP 400", serves(400, asJSON, `{"error":{"status":"INVALID_ARGUMENT","message":"`+echo+`"}}`), places.ErrInvalid, "HTTP 400: INVALID_ARGUMENT: key [secret] in"},
		{"C16 HTTP 401", serves(401, asJSON, `{"error":{"status":"UNAUTHENTICATED","message":"who are you"}}`), places.ErrDenied, "HTTP 401: UNAUTHENTICATED: who are you"},
		{"C16 HTTP 403", serves(403, asJSON, `{"error":{"status":"PERMISSION_DENIED","message":"Requests from this IP `+echo+`"}}`), places.ErrDenied, "[secret]"},
		{"C16 HTTP 429", serves(429, asJSON, `{"error":{"status":"RESOURCE_EXHAUSTED","message":"Quota exceeded"}}`), places.ErrOverQuota, "Quota exceeded"},
		{"C16 HTTP 404", serves(404, "text/html", "<html>"+echo), places.ErrUnknown, "HTTP 404"},
		{"C16 HTTP 500", serves(500, asJSON, `{"error":{"status":"INTERNAL","message":"`+strings.Repeat("long ", 100)+echo+`"}}`), places.ErrUnknown, "long ..."},
		{"C16 HTTP 503 without a body", serves(503, asJSON, ""), places.ErrUnknown, "HTTP 503"},
		{"C16 HTTP 204", serves(204, asJSON, ""), places.ErrUnknown, "HTTP 204"},
		{"an error that is a text", serves(403, asJSON, `{"error":"`+echo+`"}`), places.ErrDenied, "HTTP 403"},
		{"an error longer than any", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			io.Copy(w, endless{echo})
		}, places.ErrUnknown, "HTTP 500"},
		{"another content type", serves(200, "text/html; charset=UTF-8", `{"places":[],"status":"OK"}`), nil, "which is not JSON"},
		{"a content type that shows the key", serves(200, googletest.Key, "{}"), nil, "not JSON"},
		{"a bad content type", serves(200, "application/json; charset", "{}"), nil, "not JSON"},
		{"not JSON", serves(200, asJSON, "<html>"), nil, "parse the answer"},
		{"empty", serves(200, asJSON, ""), nil, "parse the answer"},
		{"half of it", serves(200, asJSON, `{"places":[{"id":"a"},`), nil, "parse the answer"},
		{"more than one", serves(200, asJSON, `{}{}`), nil, "parse the answer"},
		{"a list", serves(200, asJSON, `[]`), nil, "parse the answer"},
		{"nothing", serves(200, asJSON, ` null`), nil, "parse the answer"},
		{"an error with HTTP 200", serves(200, asJSON, `{"error":{"code":403,"status":"PERMISSION_DENIED","message":"not you"}}`), nil, ""},
		{"an answer that shows the key", serves(200, asJSON, `{"places":[{"id":"`+echo+`"}],"results":[{"name":"`+echo+`"}],"status":"OK"}`), nil, "shows the key"},
		{"endless", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", asJSON)
			io.Copy(w, endless{`{"places":[` + echo})
		}, nil, "an answer of more than 4194304 bytes"},
		{"endless when unpacked", func(w http.ResponseWriter, _ *http.Request) {
			googletest.WriteJSON(w, 200, strings.Repeat(" ", 8<<20))
		}, nil, "an answer of more than 4194304 bytes"},
		{"packed wrongly", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("Content-Type", asJSON)
			io.WriteString(w, "{}"+echo)
		}, nil, "gzip"},
		{"cut off in the body", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", asJSON)
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, `{"places":[`)
			panic(http.ErrAbortHandler)
		}, nil, "EOF"},
		{"cut off before", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil, "EOF"},
		{"no HTTP at all", func(w http.ResponseWriter, _ *http.Request) { hijack(w, echo+"\r\n\r\n") }, nil, "malformed HTTP"},
		{"endless headers", func(w http.ResponseWriter, _ *http.Request) {
			hijack(w, "HTTP/1.1 200 OK\r\n"+strings.Repeat("X: "+echo+"\r\n", 10_000))
		}, nil, "exceeded"},
	}
	return all
}

func hijack(w http.ResponseWriter, text string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	io.WriteString(conn, text)
}

// endless is a text that repeats without end.
type endless struct{ text string }

func (e endless) Read(p []byte) (int, error) {
	return copy(p, strings.Repeat(e.text, 1+len(p)/len(e.text))), nil
}

// legacyFailures come with HTTP 200.
func legacyFailures() []failure {
	says := func(status, message string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { googletest.WriteStatus(w, status, message) }
	}
	return []failure{
		{"C16 INVALID_REQUEST", says("INVALID_REQUEST", ""), places.ErrInvalid, "INVALID_REQUEST"},
		{"C16 OVER_QUERY_LIMIT", says("OVER_QUERY_LIMIT", "You have exceeded your daily request quota"), places.ErrOverQuota, "exceeded"},
		{"C16 OVER_DAILY_LIMIT", says("OVER_DAILY_LIMIT", ""), places.ErrOverQuota, "OVER_DAILY_LIMIT"},
		{"C16 REQUEST_DENIED", says("REQUEST_DENIED", echoShown), places.ErrDenied, "[REDACTED]"},
		{"C16 UNKNOWN_ERROR", says("UNKNOWN_ERROR", ""), places.ErrUnknown, "UNKNOWN_ERROR"},
		{"C16 a status that is none", says("NOT_FOUND", ""), places.ErrUnknown, "NOT_FOUND"},
		{"C16 no status", serves(200, asJSON, `{"results":[]}`), places.ErrUnknown, `status ""`},
		{"results that are no places", serves(200, asJSON, `{"results":[null],"status":"OK"}`), nil, "parse the answer"},
		{"results of another form", serves(200, asJSON, `{"results":{"name":[]},"status":"OK"}`), nil, "parse the answer"},
	}
}

// echoShown is Google's own text with the key redacted.
const echoShown = "This API key [REDACTED] is not authorized"

// Every failure is one of C16's, and neither its error nor what a client sees shows the key.
func TestFailures(t *testing.T) {
	for i, api := range apis {
		all := failures()
		if i == 1 {
			all = append(all, legacyFailures()...)
		}
		for _, test := range all {
			t.Run(api.name+" "+test.name, func(t *testing.T) {
				s := googletest.Start(t)
				s.Behave(test.answer)
				p := open(t, api.open, google.Config{URL: s.URL})
				_, err := p.Nearby(t.Context(), ucla)
				if err == nil {
					t.Fatal("no error")
				}
				if test.want != nil && !errors.Is(err, test.want) {
					t.Errorf("%v, want %v", err, test.want)
				}
				if e := new(places.Error); test.want == nil && errors.As(err, &e) && e.Status != nearby.UnknownError {
					t.Errorf("%v is %s", err, e.Status)
				}
				if !strings.Contains(err.Error(), test.says) || len(err.Error()) > 400 {
					t.Errorf("says %q, want %q in it", err, test.says)
				}
				hides(t, "the error", fmt.Sprintf("%v %+v %#v", err, err, err))
				hides(t, "the provider", fmt.Sprintf("%v %+v %#v", p, p, p))

				var log strings.Builder
				f := places.NewFinder(slog.New(slog.NewJSONHandler(&log, nil)), p)
				answer := string(f.Find(t.Context(), ucla))
				stats := fmt.Sprintf("%+v", f.Stats())
				f.Close()
				hides(t, "the log", log.String())
				hides(t, "the answer", answer)
				hides(t, "the metrics", stats)
				if !strings.Contains(log.String(), "places provider failed") || !strings.Contains(answer, `"error_message"`) {
					t.Errorf("log %s\nanswer %s", &log, answer)
				}
			})
		}
	}
}

// hides fails the test if text contains the key or a large part of it.
func hides(t *testing.T, what, text string) {
	t.Helper()
	for i := 0; i+12 <= len(googletest.Key); i++ {
		if part := googletest.Key[i : i+12]; strings.Contains(text, part) {
			t.Errorf("%s shows the key (%s): %s", what, part, text)
			return
		}
	}
}

func TestAWrongKeyIsDenied(t *testing.T) {
	for _, api := range apis {
		s := googletest.Start(t)
		p := open(t, api.open, google.Config{URL: s.URL, Key: "AIzaWrongWrongWrong"})
		_, err := p.Nearby(t.Context(), ucla)
		if !errors.Is(err, places.ErrDenied) { // although Places API (New) answers 400
			t.Errorf("%s: %v, want %v", api.name, err, places.ErrDenied)
		}
		if refused := s.Refused(); len(refused) != 1 {
			t.Errorf("%s: %q", api.name, refused)
		}
	}
}

// A question that no API accepts is refused by the server, not by this package: this tests
// the server's strictness.
func TestTheServerIsStrict(t *testing.T) {
	s := googletest.Start(t)
	for _, q := range []places.Query{
		{Lat: 91, Lon: 0, Radius: 1, Max: 1}, {Lat: 0, Lon: 181, Radius: 1, Max: 1}, {Radius: 51, Max: 1}, {Radius: 0, Max: 1},
	} {
		for _, api := range apis {
			p := open(t, api.open, google.Config{URL: s.URL})
			if _, err := p.Nearby(t.Context(), q); !errors.Is(err, places.ErrInvalid) || len(s.Refused()) != 1 {
				t.Errorf("%s %+v: %v", api.name, q, err)
			}
		}
	}
	for _, fields := range []string{"places.id, places.types", "places.nothing", "id"} {
		p := open(t, apis[0].open, google.Config{URL: s.URL, Fields: fields})
		if _, err := p.Nearby(t.Context(), ucla); !errors.Is(err, places.ErrInvalid) || len(s.Refused()) != 1 {
			t.Errorf("fields %q: %v", fields, err)
		}
	}
}

// The key is sent to one host only.
func TestRedirectsAreNotFollowed(t *testing.T) {
	for _, api := range apis {
		other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			t.Errorf("%s: went to another host: %s %s", api.name, r.Method, r.URL.Path)
		}))
		defer other.Close()
		for _, code := range []int{301, 302, 303, 307, 308} {
			s := googletest.Start(t)
			s.Behave(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, other.URL+"/"+r.URL.RequestURI(), code)
			})
			_, err := open(t, api.open, google.Config{URL: s.URL}).Nearby(t.Context(), ucla)
			if err == nil || !strings.Contains(err.Error(), fmt.Sprint("HTTP ", code)) {
				t.Errorf("%s: %v", api.name, err)
			}
			hides(t, "the error", fmt.Sprint(err))
		}
	}
}

func TestTLSIsVerified(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("was asked") }))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.StartTLS()
	defer s.Close()
	for _, api := range apis {
		_, err := open(t, api.open, google.Config{URL: s.URL}).Nearby(t.Context(), ucla)
		if err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: %v", api.name, err)
		}
		hides(t, "the error", fmt.Sprint(err))
	}
}

func TestNobodyThere(t *testing.T) {
	nobody := ports.Addr(t)
	for _, api := range apis {
		_, err := open(t, api.open, google.Config{URL: "http://" + nobody}).Nearby(t.Context(), ucla)
		if err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: %v", api.name, err)
		}
		hides(t, "the error", fmt.Sprint(err))
	}
}

func TestASlowAnswerEndsWithItsContext(t *testing.T) {
	slowly := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", asJSON)
		io.WriteString(w, `{"places":[`)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	for _, api := range apis {
		for name, behave := range map[string]http.HandlerFunc{
			"no answer":     func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			"half a body":   slowly,
			"half an error": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500); slowly(w, r) },
		} {
			s := googletest.Start(t)
			s.Behave(behave)
			p := open(t, api.open, google.Config{URL: s.URL})
			late, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			if _, err := p.Nearby(late, ucla); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s %s: %v", api.name, name, err)
			}
			cancel()
			stopped, cancel := context.WithCancel(t.Context())
			time.AfterFunc(50*time.Millisecond, cancel)
			if _, err := p.Nearby(stopped, ucla); !errors.Is(err, context.Canceled) {
				t.Errorf("%s %s: %v", api.name, name, err)
			}
		}
	}
}

func TestABaseAddressThatIsNone(t *testing.T) {
	for _, api := range apis {
		if _, err := api.open(google.Config{Key: googletest.Key, URL: "http://[::1"}); err == nil {
			t.Errorf("%s takes it", api.name)
		} else {
			hides(t, "the error", err.Error())
		}
	}
}

// An invalid part of an answer costs only that part, or its place. A place without a position
// is left out, not placed at 0, 0.
func TestWhatIsOddInAnAnswerIsLeftOut(t *testing.T) {
	const at = `"location":{"latitude":34.07,"longitude":-118.44}`
	for _, test := range []struct{ name, places, want string }{
		{"a place without a location", `{"id":"a","displayName":{"text":"A"}},{"id":"b",` + at + `}`, "b"},
		{"null in its place", `{"id":"a","location":null},{"id":"b",` + at + `}`, "b"},
		{"an empty one", `{"id":"a","location":{}},{"id":"b",` + at + `}`, "b"},
		{"on the equator", `{"id":"a","location":{"longitude":9.5}}`, "a"},
		{"beyond the pole", `{"id":"a","location":{"latitude":91,"longitude":1}},{"id":"b",` + at + `}`, "b"},
		{"coordinates as text", `{"id":"a","location":{"latitude":"34","longitude":1}},{"id":"b",` + at + `}`, "b"},
		{"a count as text", `{"id":"a",` + at + `,"userRatingCount":"12","rating":4.5}`, "a 4.5"},
		{"a count as a fraction", `{"id":"a",` + at + `,"userRatingCount":12.0}`, "a (12)"},
		{"a rating as text, types as one text", `{"id":"a",` + at + `,"rating":"4","types":"cafe","userRatingCount":3}`, "a (3)"},
		{"a viewport of which half is missing", `{"id":"a",` + at + `,"viewport":{"low":{"latitude":1,"longitude":1}}}`, "a"},
		{"something that is no place", `null,7,{"id":"b",` + at + `}`, "b"},
		{"none that is somewhere", `{"id":"a"}`, ""},
	} {
		t.Run("C15 "+test.name, func(t *testing.T) {
			s := googletest.Start(t)
			s.Behave(func(w http.ResponseWriter, _ *http.Request) {
				googletest.WriteJSON(w, 200, `{"places":[`+test.places+`]}`)
			})
			answer, _ := ask(t, open(t, apis[0].open, google.Config{URL: s.URL}), ucla)
			var got []string
			for _, p := range answer.Results {
				text := p.PlaceID
				if p.Rating != 0 {
					text += fmt.Sprint(" ", p.Rating)
				}
				if p.UserRatingsTotal != 0 {
					text += fmt.Sprintf(" (%d)", p.UserRatingsTotal)
				}
				if p.Geometry.Viewport != nil {
					text += " seen"
				}
				got = append(got, text)
			}
			if got := strings.Join(got, ", "); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	t.Run("C15 the legacy answer too", func(t *testing.T) {
		s := googletest.Start(t)
		s.Behave(func(w http.ResponseWriter, _ *http.Request) {
			googletest.WriteJSON(w, 200, `{"html_attributions":[],"status":"OK","results":[{"place_id":"a"},{"place_id":"b","rating":"4","geometry":{"location":{"lat":1,"lng":2}}},3]}`)
		})
		_, text := ask(t, open(t, apis[1].open, google.Config{URL: s.URL}), ucla)
		if !strings.Contains(text, "\"results\":[\n"+`{"place_id":"b","rating":"4","geometry":{"location":{"lat":1,"lng":2}}}],`) {
			t.Errorf("got %s", text)
		}
	})
}

// An invalid key is answered with 400, and the text may hold that key or another.
func TestAKeyInGooglesWordsIsNotShown(t *testing.T) {
	const other = "AIzaSyOtherOtherOtherOtherOtherOtherOth"
	for name, body := range map[string]string{
		"by its message": `{"error":{"code":400,"message":"API key not valid: ` + other + ` (` + googletest.Key + `)","status":"INVALID_ARGUMENT"}}`,
		"by its reason":  `{"error":{"code":400,"message":"No: ` + other + `","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}`,
	} {
		s := googletest.Start(t)
		s.Behave(func(w http.ResponseWriter, _ *http.Request) { googletest.WriteJSON(w, 400, body) })
		_, err := open(t, apis[0].open, google.Config{URL: s.URL}).Nearby(t.Context(), ucla)
		if !errors.Is(err, places.ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
		hides(t, name, err.Error())
		if strings.Contains(err.Error(), "AIza") {
			t.Errorf("%s: %v shows a key", name, err)
		}
	}
}
