package load

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"

	"herd/edge/client"
	"herd/edge/wire"
)

var (
	errEcho    = errors.New("a refusal that does not repeat the command")             // C4
	errTail    = errors.New("client, location and time are not those of the command") // C9
	errClient  = errors.New("an answer about another client")                         // C14
	errStale   = errors.New("a position older than this connection reported")         // S2
	errReceipt = errors.New("a receipt too far from this machine's clock")            // C10
	errJSON    = errors.New("no JSON object after the AT line")                       // C14
)

var (
	atWord = []byte("AT ")
	blank  = []byte("\n\n")
)

// check judges an answer to the request: OK or Refused, or Wrong with the reason. now is when
// the answer arrived, by the edges' clock in ns since 1970.
func (s *slot) check(answer []byte, now int64, maxSkew time.Duration) (Outcome, error) {
	if echo, refused := client.Refused(answer); refused {
		if !bytes.Equal(echo, bytes.TrimSuffix(s.line, []byte{'\n'})) {
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

// checkJSON checks what follows the AT line of a WHATSAT answer, up to the two LFs that end
// it. (One more newline would begin the next answer, and make that wrong.)
func checkJSON(text []byte) error {
	object := bytes.TrimSuffix(text, blank)
	if !bytes.HasPrefix(object, []byte("{")) || !json.Valid(object) {
		return errJSON
	}
	return nil
}
