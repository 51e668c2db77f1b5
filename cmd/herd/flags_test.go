package main

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// takes is a takesValue for --addr and -s.
func takes(name string) bool { return name == "addr" || name == "s" }

func TestFlagsMayStandAnywhere(t *testing.T) {
	for _, test := range []struct{ words, flags, operands string }{
		{"", "", ""},
		{"iamat a b", "", "iamat a b"},
		{"iamat a b --addr x", "--addr x", "iamat a b"},
		{"iamat --addr x a b", "--addr x", "iamat a b"},
		{"--addr x iamat a b", "--addr x", "iamat a b"},
		{"iamat a -addr x b", "-addr x", "iamat a b"},
		{"iamat a --addr=x b", "--addr=x", "iamat a b"},
		{"a --json b -s x c", "--json -s x", "a b c"},
		{"a --addr -s b", "--addr -s", "a b"},
		{"a --addr -- b", "--addr --", "a b"},
		{"a --addr -1 b", "--addr -1", "a b"},
		{"a --addr", "--addr", "a"},
		{"kiwi -34.5+118.2", "", "kiwi -34.5+118.2"},
		{"-0-0 --addr x -9", "--addr x", "-0-0 -9"},
		{"- a", "", "- a"},
		{"a -- --addr x", "", "a --addr x"},
		{"--json -- -- b", "--json", "-- b"},
		{"-h a", "-h", "a"},
		{"---x a", "---x", "a"},
		{"--9 a", "--9", "a"},
	} {
		flags, operands := part(strings.Fields(test.words), takes)
		if got := strings.Join(flags, " "); got != test.flags {
			t.Errorf("flags of %q are %q, want %q", test.words, got, test.flags)
		}
		if got := strings.Join(operands, " "); got != test.operands {
			t.Errorf("operands of %q are %q, want %q", test.words, got, test.operands)
		}
	}
}

// No word is lost, none moves past another of its kind, and flags in front mean the same.
func FuzzPart(f *testing.F) {
	for _, words := range []string{"iamat kiwi -34.5+118.2 --addr x", "a -- --b", "--addr", "-s -- -- -1", "- -- -"} {
		f.Add(words)
	}
	f.Fuzz(func(t *testing.T, text string) {
		words := strings.Split(text, " ")
		flags, operands := part(words, takes)
		if n := len(flags) + len(operands); n != len(words) && n != len(words)-1 {
			t.Fatalf("%q: %d words became %q and %q", words, len(words), flags, operands)
		}
		for _, kind := range [][]string{flags, operands} {
			rest := words
			for _, word := range kind {
				i := slices.Index(rest, word)
				if i < 0 {
					t.Fatalf("%q became %q and %q", words, flags, operands)
				}
				rest = rest[i+1:]
			}
		}
		if len(flags) > 0 && takes(strings.TrimLeft(flags[len(flags)-1], "-")) {
			return // its value may be missing
		}
		again, rest := part(slices.Concat(flags, []string{"--"}, operands), takes)
		if !reflect.DeepEqual(again, flags) || !slices.Equal(rest, operands) {
			t.Fatalf("%q became %q and %q, these %q and %q", words, flags, operands, again, rest)
		}
	})
}
