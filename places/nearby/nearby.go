// Package nearby is the places part of the answer to WHATSAT, in the form of Google's Places
// API: the legacy *Nearby Search* answer, its types, statuses and JSON (C14–C16).
//
// It is pure: it knows nothing of where the places are from, of networks or of time.
package nearby

// Status says how a search ended.
type Status string

// The statuses of a Nearby Search (C16).
const (
	OK             Status = "OK"
	ZeroResults    Status = "ZERO_RESULTS"     // nothing is near; not a failure
	InvalidRequest Status = "INVALID_REQUEST"  // the provider refuses the question
	OverQueryLimit Status = "OVER_QUERY_LIMIT" // no questions left
	RequestDenied  Status = "REQUEST_DENIED"   // the provider refuses the key
	UnknownError   Status = "UNKNOWN_ERROR"    // any other failure, including a timeout
)

// Failed reports whether the status is a failure, which says nothing about what is near.
func (s Status) Failed() bool { return s != OK && s != ZeroResults }

// Answer is a Nearby Search answer. The tags are for parsing one; Append writes one.
type Answer struct {
	HTMLAttributions []string `json:"html_attributions"`
	Results          []Place  `json:"results"`
	Status           Status   `json:"status"`
	ErrorMessage     string   `json:"error_message,omitempty"` // only with a status that Failed

	// Others are further members of a provider's own Nearby Search answer, as JSON without a
	// newline: `"next_page_token":"…"`, separated by commas. Append writes them unchanged.
	Others []byte `json:"-"`
}

// Place is one result. Fields that a provider does not know are left out of the JSON.
type Place struct {
	BusinessStatus   string    `json:"business_status,omitempty"` // OPERATIONAL, CLOSED_TEMPORARILY or CLOSED_PERMANENTLY
	Geometry         Geometry  `json:"geometry"`
	Name             string    `json:"name"`
	PlaceID          string    `json:"place_id"`
	PlusCode         *PlusCode `json:"plus_code,omitempty"`
	Rating           float64   `json:"rating,omitempty"` // 1 to 5
	Types            []string  `json:"types,omitempty"`
	UserRatingsTotal int       `json:"user_ratings_total,omitempty"`
	Vicinity         string    `json:"vicinity,omitempty"`

	// Raw is the place as JSON without a newline, as a provider of Nearby Search answers
	// wrote it. If set, Append writes it instead of all other fields.
	Raw []byte `json:"-"`
}

// Geometry is the position of a place.
type Geometry struct {
	Location Location  `json:"location"`
	Viewport *Viewport `json:"viewport,omitempty"`
}

// Location is a point in degrees, latitude within ±90 and longitude within ±180.
type Location struct {
	Lat float64 `json:"lat"`
	Lng float64 `json:"lng"`
}

// Viewport is the part of a map in which to show a place.
type Viewport struct {
	Northeast Location `json:"northeast"`
	Southwest Location `json:"southwest"`
}

// PlusCode is an Open Location Code.
type PlusCode struct {
	CompoundCode string `json:"compound_code,omitempty"`
	GlobalCode   string `json:"global_code"`
}

// Found returns a successful answer: OK, or ZERO_RESULTS if there are no results. It keeps
// both slices.
func Found(attributions []string, results []Place) Answer {
	status := OK
	if len(results) == 0 {
		status = ZeroResults
	}
	return Answer{HTMLAttributions: attributions, Results: results, Status: status}
}

// Zero returns the answer to a question for no places (C12).
func Zero() Answer { return Answer{Status: ZeroResults} }

// Failure returns the answer to send when the provider failed (C16). The message goes to
// clients: it must not hold a key.
func Failure(status Status, message string) Answer {
	return Answer{Status: status, ErrorMessage: message}
}

// Trim returns the answer with at most the first most results (C15). The results are shared
// with a, not copied.
func (a Answer) Trim(most int) Answer {
	if len(a.Results) <= most {
		return a
	}
	a.Results = a.Results[:max(most, 0)]
	if len(a.Results) == 0 && !a.Status.Failed() {
		a.Status = ZeroResults
	}
	return a
}
