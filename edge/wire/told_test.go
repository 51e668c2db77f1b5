package wire

import (
	"strings"
	"testing"
)

const benchFields = " Clark +0.263873386 kiwi.cs.ucla.edu +34.068930-118.445127 1621464827.959498503"

func TestToldLines(t *testing.T) { // L3, L5, L6
	at := []byte("AT" + benchFields)
	for _, test := range []struct {
		name string
		got  []byte
		want string
	}{
		{"L3 IN", AppendTold(nil, []byte("w"), EventIn, at, ""), "! w IN" + benchFields + "\n"},
		{"L3 AT", AppendTold(nil, []byte("w"), EventAt, append(at, '\n'), ""), "! w AT" + benchFields + "\n"},
		{"L3 OUT left", AppendTold([]byte("x"), []byte("w"), EventOut, at, Left), "x! w OUT" + benchFields + " left\n"},
		{"L3 OUT forgotten", AppendTold(nil, []byte("w"), EventOut, at, Forgotten), "! w OUT" + benchFields + " forgotten\n"},
		{"L3 NOW", AppendNow(nil, []byte("w"), 100000), "! w NOW 100000\n"},
		{"L3 NOW of nobody", AppendNow(nil, []byte("w"), 0), "! w NOW 0\n"},
		{"L5 OFF", AppendOff(nil, []byte("w"), ""), "! w OFF\n"},
		{"L5 OFF full", AppendOff(nil, []byte("w"), Full), "! w OFF full\n"},
		{"L6 STILL", []byte(Still), "! STILL\n"},
	} {
		if string(test.got) != test.want {
			t.Errorf("%s: %q, want %q", test.name, test.got, test.want)
		}
	}
}

func TestParseTold(t *testing.T) {
	for _, test := range []struct {
		line string
		want Told
	}{
		{"! w IN" + benchFields, Told{Name: []byte("w"), Event: EventIn}},
		{"! w AT" + benchFields, Told{Name: []byte("w"), Event: EventAt}},
		{"! w OUT" + benchFields + " left", Told{Name: []byte("w"), Event: EventOut, Why: []byte(Left)}},
		{"! w OUT" + benchFields + " forgotten", Told{Name: []byte("w"), Event: EventOut, Why: []byte(Forgotten)}},
		{"! w NOW 0", Told{Name: []byte("w"), Event: EventNow}},
		{"! w NOW 120", Told{Name: []byte("w"), Event: EventNow, Listed: 120}},
		{"! w OFF", Told{Name: []byte("w"), Event: EventOff}},
		{"! w OFF stopping", Told{Name: []byte("w"), Event: EventOff, Why: []byte("stopping")}},
		{"! w OFF of-a-later-version", Told{Name: []byte("w"), Event: EventOff, Why: []byte("of-a-later-version")}},
		{"! STILL", Told{Event: EventStill}},
		{"! STILL OFF", Told{Name: []byte("STILL"), Event: EventOff}}, // L2: a name like another
		{"! ! IN" + benchFields, Told{Name: []byte("!"), Event: EventIn}},
	} {
		got, err := ParseTold([]byte(test.line))
		if err != nil {
			t.Errorf("ParseTold(%q): %v", test.line, err)
			continue
		}
		if string(got.Name) != string(test.want.Name) || got.Event != test.want.Event || string(got.Why) != string(test.want.Why) || got.Listed != test.want.Listed {
			t.Errorf("ParseTold(%q) = %+v", test.line, got)
		}
		if withClient := got.Event <= EventOut; withClient != (string(got.AT.Client) == "kiwi.cs.ucla.edu") {
			t.Errorf("ParseTold(%q) has the position %+v", test.line, got.AT)
		}
		if !IsTold([]byte(test.line)) {
			t.Errorf("IsTold(%q) = false", test.line)
		}
	}
	for _, test := range []struct{ line, rule string }{
		{"", "L3"}, {"!", "L3"}, {"AT" + benchFields, "L3"}, {"? x", "L3"}, {"!w IN" + benchFields, "L3"},
		{"! ", "L2"}, {"! " + strings.Repeat("x", 65) + " OFF", "L2"}, {"! w", "L3"}, {"! w ", "L3"}, {"! w in" + benchFields, "L3"},
		{"! w STILL", "L3"}, {"! STILL ", "L3"}, {"! STILL x", "L3"},
		{"! w IN", "C9"}, {"! w IN  Clark", "H9"}, {"! w IN" + benchFields + " left", "C8"}, {"! w AT" + benchFields + " ", "C8"},
		{"! w OUT" + benchFields, "L3"}, {"! w OUT" + benchFields + " gone", "L3"}, {"! w OUT left", "C9"}, {"! w OUT", "L3"},
		{"! w NOW", "L3"}, {"! w NOW ", "L3"}, {"! w NOW 01", "L3"}, {"! w NOW -1", "L3"}, {"! w NOW 1 ", "L3"}, {"! w NOW 1234567890", "L3"},
		{"! w OFF ", "L3"}, {"! w OFF full stop", "L3"}, {"! w OFF\tfull", "L3"}, {"! w\tOFF", "L2"}, {"! w OFF full\r", "L3"},
	} {
		_, err := ParseTold([]byte(test.line))
		refused(t, test.line, err, test.rule)
	}
}

// FuzzParseTold: what is accepted is what an edge writes.
func FuzzParseTold(f *testing.F) {
	for _, seed := range []string{"! w IN" + benchFields, "! w OUT" + benchFields + " left", "! w NOW 12", "! w OFF full", "! w OFF", "! STILL"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		told, err := ParseTold(line)
		if err != nil {
			return
		}
		var again []byte
		switch told.Event {
		case EventStill:
			again = []byte(Still)
		case EventNow:
			again = AppendNow(nil, told.Name, told.Listed)
		case EventOff:
			again = AppendOff(nil, told.Name, string(told.Why))
		default:
			at := []byte(told.AT.Line())
			if _, err := ParseAT(at); err != nil {
				t.Fatalf("ParseTold(%q) accepted what is no AT line: %v", line, err)
			}
			again = AppendTold(nil, told.Name, told.Event, at, string(told.Why))
		}
		if string(again) != string(line)+"\n" {
			t.Errorf("ParseTold(%q) is written as %q", line, again)
		}
	})
}
