package wire

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// refused checks that err is a refusal by rule.
func refused(t *testing.T, text string, err error, rule string) {
	t.Helper()
	var syntax *SyntaxError
	switch {
	case err == nil:
		t.Errorf("%q was accepted, want %s broken", text, rule)
	case !errors.As(err, &syntax):
		t.Errorf("%q gave %v, want a SyntaxError", text, err)
	case syntax.Rule != rule:
		t.Errorf("%q gave %v, want %s broken", text, err, rule)
	case err.Error() != rule+": "+syntax.Reason || syntax.Reason == "":
		t.Errorf("%q gave %q", text, err)
	}
}

// allocatesNothing checks that f allocates nothing.
func allocatesNothing(t *testing.T, f func()) {
	t.Helper()
	if got := testing.AllocsPerRun(100, f); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}

// fieldsOf is the simple way to find fields (C2).
func fieldsOf(line []byte) [][]byte {
	return bytes.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\n\v\f\r", r) })
}

func TestWhiteSpaceIsSixBytesAndNoOther(t *testing.T) { // C2
	for b := range 256 {
		want := bytes.IndexByte([]byte(" \t\n\v\f\r"), byte(b)) >= 0
		if got := IsSpace(byte(b)); got != want {
			t.Errorf("IsSpace(%#x) = %v, want %v", b, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, test := range []struct{ name, line, field, rest string }{
		{"C2 first field", "IAMAT kiwi 1", "IAMAT", " kiwi 1"},
		{"C2 leading white space", " \t\n\v\f\rIAMAT kiwi", "IAMAT", " kiwi"},
		{"C2 NUL belongs to fields", "a\x00b c", "a\x00b", " c"},
		{"C2 no-break space belongs to fields", "a\u00a0b\u2003c d", "a\u00a0b\u2003c", " d"},
		{"C2 what is no UTF-8 belongs to fields", "\xff\x85\xa0 x", "\xff\x85\xa0", " x"},
		{"C2 control characters belong to fields", "\x01\x08\x0e\x1b\x1f\x7f12345678 x", "\x01\x08\x0e\x1b\x1f\x7f12345678", " x"},
		{"C2 longer than a word", "0123456789abcdef\tx", "0123456789abcdef", "\tx"},
		{"C3 empty", "", "", ""},
		{"C3 blank", " \r\n", "", ""},
		{"C4 line end ends a field", "IAMAT\r\n", "IAMAT", "\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			field, rest := Cut([]byte(test.line))
			if string(field) != test.field || string(rest) != test.rest {
				t.Errorf("Cut(%q) = %q, %q, want %q, %q", test.line, field, rest, test.field, test.rest)
			}
		})
	}
}

func TestTrimEnd(t *testing.T) {
	for _, test := range []struct{ name, line, want string }{
		{"C4 LF", "a\n", "a"},
		{"C4 CRLF", "a\r\n", "a"},
		{"C4 only one of each", "a\r\r\n", "a\r"},
		{"C4 only the last LF", "a\n\n", "a\n"},
		{"C4 a lone CR is no line end", "a\r", "a\r"},
		{"C4 white space stays", " a \t\n", " a \t"},
		{"C4 LF alone", "\n", ""},
		{"C4 CRLF alone", "\r\n", ""},
		{"C4 empty", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := TrimEnd([]byte(test.line)); string(got) != test.want {
				t.Errorf("TrimEnd(%q) = %q, want %q", test.line, got, test.want)
			}
		})
	}
}

// edgeName returns nil if all of name is an edge name.
func edgeName(name []byte) error {
	end, err := scanEdge(name, 0)
	if err == nil && end < len(name) {
		return errEdgeByte
	}
	return err
}

func TestEdgeName(t *testing.T) {
	for _, good := range []string{"a", "Z", "0", "_", "Clark", "edge_1", strings.Repeat("x", 32), "azAZ09_"} {
		if err := edgeName([]byte(good)); err != nil {
			t.Errorf("edgeName(%q) = %v", good, err)
		}
	}
	for _, bad := range []string{"", strings.Repeat("x", 33), "a-b", "a.b", "a b", " a", "a ", "ä", "a\x00", "a@", "a[", "a`", "a{", "a/", "a:", "\xdf", "*", ">"} {
		refused(t, bad, edgeName([]byte(bad)), "H9")
	}
}

func TestParsingAllocatesNothing(t *testing.T) {
	for _, test := range []struct{ name, args, line, whatsat string }{
		{"accepted", benchArgs, benchAT, " kiwi.cs.ucla.edu 9.5 20\n"},
		{"refused", benchArgs + "x", benchAT + "x", " kiwi.cs.ucla.edu 9.5 21\n"},
		{"refused at once", "", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			args, line, whatsat := []byte(test.args), []byte(test.line), []byte(test.whatsat)
			dst := make([]byte, 0, MaxAT)
			allocatesNothing(t, func() {
				Cut(args)
				if m, err := ParseIAMAT(args); err == nil {
					dst = m.AppendAT(dst[:0], "Clark", m.Stamp)
				}
				ParseAT(line)
				ParseWHATSAT(whatsat)
				parseSkew(line)
				parseTime(args)
				ParseLocation(line)
				CheckLocation(args)
				edgeName(line)
			})
		})
	}
}

func FuzzCut(f *testing.F) {
	f.Add([]byte("IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1621464827.959498503\r\n"))
	f.Add([]byte(" \x00\x1f\x20\x21\t\x08\x0e\x80\xa0\xff \n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		var got [][]byte
		for field, rest := Cut(line); len(field) > 0; field, rest = Cut(rest) {
			got = append(got, field)
		}
		if want := fieldsOf(line); !bytes.Equal(bytes.Join(got, []byte{' '}), bytes.Join(want, []byte{' '})) {
			t.Errorf("fields of %q are %q, want %q", line, got, want)
		}
	})
}

func FuzzEdgeName(f *testing.F) {
	f.Add([]byte("Clark"))
	f.Add([]byte("a[b"))
	f.Fuzz(func(t *testing.T, name []byte) {
		want := len(name) >= 1 && len(name) <= 32
		for _, b := range name {
			want = want && strings.IndexByte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_", b) >= 0
		}
		if err := edgeName(name); (err == nil) != want {
			t.Errorf("edgeName(%q) = %v", name, err)
		}
	})
}
