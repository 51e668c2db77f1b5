package broker

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"
)

const (
	clarkEpoch  = "0123456789abcdef-01234567"
	jaquezEpoch = "fedcba9876543210-89abcdef"
)

// wire returns what the receiver gets of a message: a copy, as nats.go makes one.
func wire(m *nats.Msg) nats.Header {
	h := make(nats.Header)
	for k, v := range m.Header {
		h[k] = slices.Clone(v)
	}
	return h
}

func equalMessages(a, b Message) bool {
	lines := string(a.Lines) == string(b.Lines)
	a.Lines, b.Lines = nil, nil
	return lines && a.Epoch == b.Epoch && a.To == b.To && a.After == b.After && a.Through == b.Through && a.Head == b.Head &&
		a.Interval == b.Interval && a.Clock == b.Clock && a.Bye == b.Bye && a.Level == b.Level
}

func TestMessagesAreReadAsTheyWereWritten(t *testing.T) {
	for name, m := range map[string]Message{
		"the first of a run":  {Epoch: clarkEpoch},
		"H4 lines":            {Epoch: clarkEpoch, To: jaquezEpoch, After: 1, Through: 20, Head: 300, Lines: []byte("AT a\nAT b\n")},
		"H8 heartbeat":        {Epoch: clarkEpoch, To: jaquezEpoch, After: 7, Through: 7, Head: 8, Level: LevelOpen, Interval: time.Second, Clock: 1621464827959498503},
		"H8 odd interval":     {Epoch: clarkEpoch, Interval: 10*time.Millisecond + 1, Clock: 1},
		"C19 good-bye":        {Epoch: clarkEpoch, To: jaquezEpoch, Bye: true},
		"largest of all":      {Epoch: clarkEpoch, After: math.MaxUint64, Through: math.MaxUint64, Head: math.MaxUint64, Interval: 24 * time.Hour, Clock: 9223372035999999999, Bye: true},
		"again without extra": {Epoch: jaquezEpoch, Through: 1, Head: 1},
	} {
		t.Run(name, func(t *testing.T) {
			out := &nats.Msg{Subject: "herd.at.Clark.Jaquez", Header: encodeMessage(&m), Data: m.Lines}
			got, err := decodeMessage(wire(out), out.Data)
			if err != nil {
				t.Fatal(err)
			}
			if !equalMessages(got, m) {
				t.Errorf("got  %+v\nwant %+v", got, m)
			}
			size := len("NATS/1.0\r\n\r\n")
			for k, v := range out.Header {
				size += len(k) + len(v[0]) + len(": \r\n")
			}
			if size > HeaderRoom {
				t.Errorf("headers take %d bytes, more than HeaderRoom", size)
			}
		})
	}
}

func TestMessageHeadersAsOperatorsSeeThem(t *testing.T) {
	m := Message{Epoch: clarkEpoch, To: jaquezEpoch, After: 1, Through: 20, Head: 300, Interval: 1500 * time.Millisecond, Clock: 1621464827000000042, Level: LevelSettled, Bye: true}
	got := encodeMessage(&m)
	want := nats.Header{
		"Herd-Epoch": {clarkEpoch}, "Herd-To": {jaquezEpoch}, "Herd-After": {"1"}, "Herd-Through": {"20"}, "Herd-Head": {"300"},
		"Herd-Interval": {"1.5s"}, "Herd-Time": {"1621464827.000000042"}, "Herd-Level": {"settled"}, "Herd-Bye": {"1"},
	}
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestAcksAreReadAsTheyWereWritten(t *testing.T) {
	for name, a := range map[string]Ack{
		"H6 of no epoch yet": {Epoch: jaquezEpoch},
		"H5":                 {Epoch: jaquezEpoch, Of: clarkEpoch, Through: 20},
		"H6 rewind":          {Epoch: jaquezEpoch, Of: clarkEpoch, Rewind: true},
		"largest":            {Epoch: jaquezEpoch, Of: clarkEpoch, Through: math.MaxUint64, Rewind: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decodeAck(wire(&nats.Msg{Subject: "herd.ack.Jaquez.Clark", Header: encodeAck(a)}))
			if err != nil || got != a {
				t.Errorf("got %+v, %v, want %+v", got, err, a)
			}
		})
	}
}

func TestJoinsAreReadAsTheyWereWritten(t *testing.T) {
	for name, j := range map[string]Join{
		"H7 empty":    {Epoch: jaquezEpoch, Config: "c"},
		"H7 joining":  {Epoch: jaquezEpoch, Head: 12, Level: 3, Config: "77aa"},
		"H7 open":     {Epoch: jaquezEpoch, Head: 12, Level: LevelOpen, Config: "77aa"},
		"H7 settled":  {Epoch: jaquezEpoch, Head: 12, Level: LevelSettled, Config: "77aa"},
		"H7 has much": {Epoch: jaquezEpoch, Head: math.MaxUint64, Config: "77aa"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decodeJoin(encodeJoin(j))
			if err != nil || got != j {
				t.Errorf("got %+v, %v, want %+v", got, err, j)
			}
		})
	}
}

// goodHeaders returns valid headers of each kind. The invalid ones below differ from them in
// one header.
func goodHeaders(kind string) nats.Header {
	switch kind {
	case "message":
		return nats.Header{
			headerEpoch: {clarkEpoch}, headerTo: {jaquezEpoch}, headerAfter: {"1"}, headerThrough: {"2"}, headerHead: {"3"},
			headerInterval: {"1s"}, headerTime: {"1.000000000"}, headerLevel: {"4"}, headerBye: {"1"},
		}
	case "ack":
		return nats.Header{headerEpoch: {jaquezEpoch}, headerOf: {clarkEpoch}, headerThrough: {"2"}, headerRewind: {"1"}}
	}
	return nats.Header{headerEpoch: {jaquezEpoch}, headerHead: {"2"}, headerLevel: {"open"}, headerConfig: {"c"}}
}

func decode(kind string, h nats.Header) error {
	var err error
	switch kind {
	case "message":
		_, err = decodeMessage(h, nil)
	case "ack":
		_, err = decodeAck(h)
	default:
		_, err = decodeJoin(h)
	}
	return err
}

func TestBadHeadersAreRefused(t *testing.T) { // H9
	numbers := []string{"", " 1", "1 ", "+1", "-1", "01", "00", "1.0", "1e3", "0x1", "one", "١", "18446744073709551616", "99999999999999999999", "100000000000000000000"}
	epochs := []string{"", "x", clarkEpoch + "0", clarkEpoch[1:], strings.ToUpper(clarkEpoch), strings.Replace(clarkEpoch, "-", "_", 1), "0123456789abcde-f01234567", strings.Repeat("-", 25)}
	levels := []string{"", "-1", "01", "Open", "closed", "1073741824", "99999999999999999999"}
	flags := []string{"", "0", "2", "true", "yes", "1 "}
	for _, test := range []struct {
		kind, key string
		optional  bool
		values    []string
	}{
		{"message", headerEpoch, false, epochs},
		{"message", headerTo, true, epochs},
		{"message", headerAfter, false, numbers},
		{"message", headerThrough, false, numbers},
		{"message", headerHead, false, numbers},
		{"message", headerInterval, true, []string{"", "1", "0s", "-1s", "1ns", "9.999999ms", "24h0m0.000000001s", "s", "1 s", "9999999h"}},
		{"message", headerTime, true, []string{"", "1", "1.", "1.0", ".000000000", "1.00000000", "1.0000000000", "-1.000000000", "+1.000000000", "01.000000000",
			"1,000000000", "1.00000000x", "x.000000000", "1e9.000000000", "9223372036.000000000", "99999999999999999999.000000000"}},
		{"message", headerLevel, true, levels},
		{"message", headerBye, true, flags},
		{"ack", headerEpoch, false, epochs},
		{"ack", headerOf, true, epochs},
		{"ack", headerThrough, false, numbers},
		{"ack", headerRewind, true, flags},
		{"join", headerEpoch, false, epochs},
		{"join", headerHead, false, numbers},
		{"join", headerLevel, true, levels},
		{"join", headerConfig, false, []string{""}},
	} {
		t.Run(test.kind+" "+test.key, func(t *testing.T) {
			if err := decode(test.kind, goodHeaders(test.kind)); err != nil {
				t.Fatalf("the good ones are refused: %v", err)
			}
			for _, v := range test.values {
				h := goodHeaders(test.kind)
				h[test.key] = []string{v}
				if err := decode(test.kind, h); err == nil {
					t.Errorf("%q is accepted", v)
				} else if len(err.Error()) > 200 {
					t.Errorf("%q: the error is too long for a log: %v", v, err)
				}
			}
			h := goodHeaders(test.kind)
			h[test.key] = append(h[test.key], h[test.key]...)
			if decode(test.kind, h) == nil {
				t.Error("given twice, it is accepted")
			}
			h[test.key] = nil
			if decode(test.kind, h) == nil {
				t.Error("without a value, it is accepted")
			}
			delete(h, test.key)
			delete(h, headerThrough) // it is wrong without Of
			if test.key != headerOf && test.key != headerThrough {
				h[headerThrough] = []string{"2"}
			} else if test.key == headerOf {
				h[headerThrough] = []string{"0"}
			}
			if err := decode(test.kind, h); (err == nil) != test.optional {
				t.Errorf("without it: %v", err)
			}
		})
	}
	if decode("message", nil) == nil || decode("ack", nil) == nil || decode("join", nil) == nil {
		t.Error("no headers at all are accepted")
	}
	if _, err := decodeAck(nats.Header{headerEpoch: {jaquezEpoch}, headerThrough: {"2"}}); err == nil {
		t.Error("an ack of no epoch that holds something is accepted")
	}
}

func TestHeadersOfOthersDoNotMatter(t *testing.T) {
	h := goodHeaders("message")
	h["Nats-Trace-Dest"] = []string{"x", "y"}
	h["herd-epoch"] = []string{"case matters"}
	if err := decode("message", h); err != nil {
		t.Error(err)
	}
}

func TestClocksAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ns := rapid.Int64Range(0, 9223372035999999999).Draw(t, "ns")
		text := string(appendClock(nil, ns))
		if got, ok := parseClock(text); !ok || got != ns {
			t.Fatalf("%d became %s became %d", ns, text, got)
		}
	})
}

func TestNumbersAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64().Draw(t, "n")
		if got, ok := parseNumber(strconv.FormatUint(n, 10)); !ok || got != n {
			t.Fatalf("%d became %d", n, got)
		}
	})
}

// FuzzHeaders decodes any headers: they are refused, or encoded again to the same headers.
func FuzzHeaders(f *testing.F) {
	f.Add(clarkEpoch, jaquezEpoch, "1", "2", "3", "1s", "1.000000000", "1")
	f.Add(clarkEpoch, "", "0", "0", "0", "", "", "")
	f.Add("", "-", "01", "18446744073709551616", "-1", "1h1m1.5s", "0.000000001", "0")
	f.Fuzz(func(t *testing.T, epoch, other, after, through, head, interval, clock, flag string) {
		h := make(nats.Header)
		for k, v := range map[string]string{
			headerEpoch: epoch, headerTo: other, headerAfter: after, headerThrough: through, headerHead: head, headerInterval: interval,
			headerTime: clock, headerBye: flag, headerOf: other, headerRewind: flag, headerLevel: after, headerConfig: interval,
		} {
			if v != "" {
				h[k] = []string{v}
			}
		}
		if m, err := decodeMessage(h, nil); err == nil {
			again, err := decodeMessage(encodeMessage(&m), nil)
			if err != nil || !equalMessages(again, m) {
				t.Errorf("%+v became %+v, %v", m, again, err)
			}
			if m.Interval != 0 && m.Interval < minInterval || m.Interval > maxInterval || m.Clock < 0 {
				t.Errorf("accepted %+v", m)
			}
		}
		if a, err := decodeAck(h); err == nil {
			if again, err := decodeAck(encodeAck(a)); err != nil || again != a {
				t.Errorf("%+v became %+v, %v", a, again, err)
			}
		}
		if j, err := decodeJoin(h); err == nil {
			if again, err := decodeJoin(encodeJoin(j)); err != nil || again != j {
				t.Errorf("%+v became %+v, %v", j, again, err)
			}
		}
	})
}

func TestReadingHeadersAllocatesNothing(t *testing.T) {
	m := Message{Epoch: clarkEpoch, To: jaquezEpoch, After: 1e9, Through: 1e9 + 500, Head: 1e9 + 600, Lines: []byte("AT\n")}
	ack := Ack{Epoch: jaquezEpoch, Of: clarkEpoch, Through: 1e9}
	h, ah := wire(&nats.Msg{Header: encodeMessage(&m)}), wire(&nats.Msg{Header: encodeAck(ack)})
	for name, f := range map[string]func(){
		"a message": func() { decodeMessage(h, nil) },
		"an ack":    func() { decodeAck(ah) },
	} {
		if got := testing.AllocsPerRun(100, f); got > 0 {
			t.Errorf("read %s: %v allocations", name, got)
		}
	}
}

func BenchmarkWriteMessage(b *testing.B) {
	m := Message{Epoch: clarkEpoch, To: jaquezEpoch, After: 1e9, Through: 1e9 + 500, Head: 1e9 + 600}
	b.ReportAllocs()
	for b.Loop() {
		encodeMessage(&m)
	}
}

func BenchmarkReadMessage(b *testing.B) {
	h := goodHeaders("message")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeMessage(h, nil); err != nil {
			b.Fatal(err)
		}
	}
}
