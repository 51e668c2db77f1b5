package load

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"

	"herd/edge/wire"
)

var (
	errEcho    = errors.New("a refusal that does not repeat the command")   // C4
	errTail    = errors.New("client, location and time are not those told") // C9
	errClient  = errors.New("an answer about another client")               // C14
	errStale   = errors.New("a position older than this connection told")   // S2
	errReceipt = errors.New("a receipt that is too far from this clock")    // C10
	errJSON    = errors.New("no JSON object behind the AT line")            // C14
	errUnasked = errors.New("an answer to no command")                      // C1
)

// check says what an answer to the request is: OK or Refused, or Wrong and why.
// now is when it came, by the edges' clock in ns since 1970.
func (s *slot) check(answer []byte, now int64, maxSkew time.Duration) (Outcome, error) {
	if echo, ok := bytes.CutPrefix(answer, refusal); ok {
		if !bytes.Equal(echo, s.line) {
			return Wrong, errEcho
		}
		return Refused, nil
	}
	first := bytes.IndexByte(answer, '\n')
	at, err := wire.ParseAT(answer[:first])
	if err != nil {
		return Wrong, err
	}
	if s.kind == IAMAT {
		if !bytes.HasSuffix(answer, s.line[len("IAMAT"):]) {
			return Wrong, errTail
		}
	} else {
		if asked, _ := wire.Cut(s.line[len("WHATSAT"):]); !bytes.Equal(at.Client, asked) {
			return Wrong, errClient
		}
		if at.Stamp < s.stamp {
			return Wrong, errStale
		}
		if err := checkJSON(answer[first+1:]); err != nil {
			return Wrong, err
		}
	}
	if at.Receipt < at.Stamp-int64(maxSkew) || at.Receipt > now+int64(maxSkew) {
		return Wrong, errReceipt
	}
	return OK, nil
}

// checkJSON looks at what follows the AT line of a WHATSAT answer, up to the two
// LFs that end it. (A newline more would begin the next answer, which is wrong then.)
func checkJSON(text []byte) error {
	object := bytes.TrimSuffix(text, blank)
	if !bytes.HasPrefix(object, []byte("{")) || !json.Valid(object) {
		return errJSON
	}
	return nil
}
