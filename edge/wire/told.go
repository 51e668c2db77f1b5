package wire

import (
	"bytes"
	"strconv"
)

var (
	errToldForm  = &SyntaxError{"L3", "not ! and an event of a watch"}
	errToldCount = &SyntaxError{"L3", "NOW without a number"}
	errToldWhy   = &SyntaxError{"L3", "OUT without left or forgotten"}
)

// An Event is what a line tells that a watch made an edge write (L3, L5, L6).
type Event uint8

const (
	EventIn    Event = 1 + iota // a client is inside, or came in
	EventAt                     // it moved inside
	EventOut                    // it went, or was forgotten
	EventNow                    // the list has ended
	EventOff                    // the watch has ended
	EventStill                  // nothing was told for a while, and the watches live
)

// String is the event's word in a line.
func (e Event) String() string {
	if int(e) >= len(eventWords) {
		return ""
	}
	return eventWords[e]
}

var eventWords = [...]string{EventIn: "IN", EventAt: "AT", EventOut: "OUT", EventNow: "NOW", EventOff: "OFF", EventStill: "STILL"}

// Why a client is told as OUT (L3), and why an edge ended a watch (L4, L5).
const (
	Left      = "left"      // it is outside
	Forgotten = "forgotten" // S4

	Full     = "full"     // too many are inside
	Slow     = "slow"     // an OUT has waited too long
	Stopping = "stopping" // the edge stops
)

// AppendTold appends the line that tells of a client: an AT line, with or without its LF, with
// `! <name> <event>` in place of its verb, and an LF. why is Left or Forgotten for EventOut, and
// empty for EventIn and EventAt. line must be an AT line that ParseAT accepts.
func AppendTold(dst, name []byte, event Event, line []byte, why string) []byte {
	dst = appendMark(dst, name, event)
	dst = append(dst, bytes.TrimSuffix(line[len("AT"):], lf)...)
	if why != "" {
		dst = append(append(dst, ' '), why...)
	}
	return append(dst, '\n')
}

// AppendNow appends the line that ends a watch's list, which had n clients (L3).
func AppendNow(dst, name []byte, n int) []byte {
	dst = append(appendMark(dst, name, EventNow), ' ')
	return append(strconv.AppendInt(dst, int64(n), 10), '\n')
}

// AppendOff appends the line that ends a watch: with a reason where the edge ended it, with ""
// where UNWATCH did (L5).
func AppendOff(dst, name []byte, reason string) []byte {
	dst = appendMark(dst, name, EventOff)
	if reason != "" {
		dst = append(append(dst, ' '), reason...)
	}
	return append(dst, '\n')
}

// Still is the line that says that a connection's watches live (L6).
const Still = toldMark + "STILL\n"

func appendMark(dst, name []byte, event Event) []byte {
	dst = append(dst, toldMark...)
	dst = append(dst, name...)
	dst = append(dst, ' ')
	return append(dst, event.String()...)
}

var lf = []byte{'\n'}

// IsTold reports whether a line is told of a watch, and not the beginning of an answer.
func IsTold(line []byte) bool { return bytes.HasPrefix(line, []byte(toldMark)) }

// Told is one line that a watch made an edge write. Its slices alias the parsed line.
type Told struct {
	Name   []byte // of the watch; nil for EventStill
	Event  Event
	AT     AT     // EventIn, EventAt, EventOut
	Why    []byte // EventOut: Left or Forgotten; EventOff: the edge's reason, nil for UNWATCH's answer
	Listed int    // EventNow: how many the list had
}

// ParseTold parses one told line without its LF. It accepts exactly what an edge writes, apart
// from reasons of OFF that are to come: any word is one.
func ParseTold(line []byte) (Told, error) {
	if string(line) == Still[:len(Still)-1] {
		return Told{Event: EventStill}, nil
	}
	if !IsTold(line) {
		return Told{}, errToldForm
	}
	name, rest := cutWord(line[len(toldMark):])
	if err := checkName(name); err != nil {
		return Told{}, err
	}
	if len(rest) == 0 {
		return Told{}, errToldForm
	}
	verb, rest := cutWord(rest[1:])
	told := Told{Name: name}
	var err error
	switch string(verb) {
	case "IN":
		told.Event = EventIn
		told.AT, err = parseFields(rest)
	case "AT":
		told.Event = EventAt
		told.AT, err = parseFields(rest)
	case "OUT":
		told.Event = EventOut
		end := bytes.LastIndexByte(rest, ' ')
		if end < 0 || string(rest[end+1:]) != Left && string(rest[end+1:]) != Forgotten {
			return Told{}, errToldWhy
		}
		told.Why = rest[end+1:]
		told.AT, err = parseFields(rest[:end])
	case "NOW":
		told.Event = EventNow
		told.Listed, err = parseListed(rest)
	case "OFF":
		told.Event = EventOff
		if len(rest) > 0 {
			why, more := cutWord(rest[1:])
			if len(why) == 0 || len(more) > 0 {
				return Told{}, errToldForm
			}
			told.Why = why
		}
	default:
		return Told{}, errToldForm
	}
	if err != nil {
		return Told{}, err
	}
	return told, nil
}

// cutWord returns the bytes of text up to its first space, and the rest, which begins with that.
// Other white space before it makes the word empty.
func cutWord(text []byte) (word, rest []byte) {
	end := fieldEnd(text, 0)
	if end < len(text) && text[end] != ' ' {
		return nil, nil
	}
	return text[:end], text[end:]
}

// parseFields parses what follows the verb of an AT line: a space, and its fields.
func parseFields(rest []byte) (AT, error) {
	if !spaceAt(rest, 0) {
		return AT{}, errATForm
	}
	return parseAT(rest, 1)
}

// parseListed parses the number of NOW, which begins with a space.
func parseListed(rest []byte) (int, error) {
	const most = 9 // digits; more clients than a table can hold
	if len(rest) < 2 || len(rest) > 1+most || rest[1] == '0' && len(rest) > 2 {
		return 0, errToldCount
	}
	n := 0
	for _, b := range rest[1:] {
		if !isDigit(b) {
			return 0, errToldCount
		}
		n = n*10 + int(b-'0')
	}
	return n, nil
}
