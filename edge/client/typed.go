package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"herd/edge/wire"
)

// RefusedError is an answer `? ` (C4). What it denies is in the package's comment: a
// refused IAMAT may still take effect (D3).
type RefusedError struct {
	Text string // what follows `? `, without its LF: the command, or its first 64 bytes (C5)
}

func (e *RefusedError) Error() string { return fmt.Sprintf("refused: %.200q", e.Text) }

// Refused says whether an answer is `? `, and what follows that, without its LF (C4).
func Refused(answer []byte) (text []byte, refused bool) {
	text, refused = bytes.CutPrefix(answer, refusal)
	return bytes.TrimSuffix(text, lineEnd), refused
}

// Position is where a client was, as an AT line tells it (C9).
type Position struct {
	Line     string // the whole AT line, without its LF
	Edge     string // the edge that got the report
	Client   string
	Location string        // as the client wrote it (C7)
	Time     time.Time     // the client's; digits past the nanosecond are only in Line
	Skew     time.Duration // by how much Edge got the report later than Time (C10)
}

// LatLon is Location in degrees: within ±90, and ±180.
func (p Position) LatLon() (lat, lon float64) {
	lat, lon, _ = wire.ParseLocation([]byte(p.Location)) // it was parsed before
	return lat, lon
}

// IAMAT tells where a client is at a time, exact to the nanosecond, and returns what
// the edge answered (C9). location is as C7 has it; see Location. A field that breaks a
// rule is a *wire.SyntaxError, and nothing is sent; an answer `? ` is a *RefusedError.
// An older report than the herd holds is answered like any other (C11).
func (c *Client) IAMAT(ctx context.Context, client, location string, at time.Time) (Position, error) {
	line, err := appendCommand([]byte("IAMAT"), client, location, timeField(at))
	if err != nil {
		return Position{}, err
	}
	if _, err := wire.ParseIAMAT(line[len("IAMAT"):]); err != nil {
		return Position{}, err
	}
	position, _, err := c.ask(ctx, line)
	return position, err
}

// WHATSAT asks for a client, and for what is within radius kilometres of it, 0 to 50,
// at most limit places, 0 to 20 (C12). With 0 for either it asks only where the client
// is. places is a Google Places Nearby Search answer (C15); places that cannot be had
// are told in its status and are no error (C16). A field that breaks a rule is a
// *wire.SyntaxError, and nothing is sent; an answer `? ` is a *RefusedError: this edge
// does not know the client (C13).
func (c *Client) WHATSAT(ctx context.Context, client string, radius float64, limit int) (position Position, places json.RawMessage, err error) {
	line, err := appendCommand([]byte("WHATSAT"), client, kilometres(radius), strconv.Itoa(limit))
	if err != nil {
		return Position{}, nil, err
	}
	if _, err := wire.ParseWHATSAT(line[len("WHATSAT"):]); err != nil {
		return Position{}, nil, err
	}
	return c.ask(ctx, line)
}

// ask sends a command and reads its answer.
func (c *Client) ask(ctx context.Context, line []byte) (Position, json.RawMessage, error) {
	answer, err := c.Do(ctx, line)
	if err != nil {
		return Position{}, nil, err
	}
	return parseAnswer(answer)
}

// parseAnswer reads an answer to IAMAT or WHATSAT.
func parseAnswer(answer []byte) (Position, json.RawMessage, error) {
	if text, refused := Refused(answer); refused {
		return Position{}, nil, &RefusedError{string(text)}
	}
	first, rest, _ := bytes.Cut(answer, lineEnd)
	position, err := parsePosition(first)
	if err != nil {
		return Position{}, nil, fmt.Errorf("answer: %w", err)
	}
	return position, json.RawMessage(bytes.TrimSuffix(rest, blank)), nil
}

var errField = errors.New("a field of a command is one word without white space") // C2

// appendCommand appends fields, none of which may become two (C2).
func appendCommand(dst []byte, fields ...string) ([]byte, error) {
	for _, f := range fields {
		if word, _ := wire.Cut([]byte(f)); len(word) == 0 || len(word) != len(f) {
			return nil, fmt.Errorf("%w: %.200q", errField, f)
		}
		dst = append(append(dst, ' '), f...)
	}
	return dst, nil
}

// Location writes degrees as C7 has them, to seven decimals (a centimetre).
func Location(lat, lon float64) string {
	text := appendDegrees(make([]byte, 0, 32), lat)
	return string(appendDegrees(text, lon))
}

func appendDegrees(dst []byte, degrees float64) []byte {
	if !(degrees < 0) {
		dst, degrees = append(dst, '+'), degrees+0 // no -0
	}
	return strconv.AppendFloat(dst, degrees, 'f', 7, 64)
}

// timeField is a time as AppendTime writes it; one before 1970 is none of C8's, which
// its sign shows.
func timeField(at time.Time) string {
	if at.Before(time.Unix(0, 0)) || at.Unix() > maxSeconds {
		return strconv.FormatInt(at.Unix(), 10)
	}
	return string(AppendTime(nil, at.UnixNano()))
}

const maxSeconds = 9_200_000_000 // C8; as nanoseconds it fits an int64

// AppendTime appends a time in nanoseconds since 1970, not negative, as an IAMAT
// tells it: seconds with nine decimals (C8).
func AppendTime(dst []byte, ns int64) []byte {
	from := len(dst)
	dst = wire.AppendSkew(dst, ns) // the same with a sign before it
	return append(dst[:from], dst[from+1:]...)
}
