package wire

import (
	"testing"
)

const (
	benchArgs = " kiwi.cs.ucla.edu +34.068930-118.445127 1621464827.959498503\n"
	benchAT   = "AT Clark +0.263873386 kiwi.cs.ucla.edu +34.068930-118.445127 1621464827.959498503"
)

func BenchmarkParseIAMAT(b *testing.B) {
	args := []byte(benchArgs)
	b.ReportAllocs()
	b.SetBytes(int64(len(args)))
	for b.Loop() {
		if _, err := ParseIAMAT(args); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseIAMATRefused(b *testing.B) {
	args := []byte(" kiwi.cs.ucla.edu +34.068930-118.445127 1621464827.95949850x\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseIAMAT(args); err == nil {
			b.Fatal("accepted")
		}
	}
}

func BenchmarkAppendAT(b *testing.B) {
	m, err := ParseIAMAT([]byte(benchArgs))
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, MaxAT)
	b.ReportAllocs()
	for b.Loop() {
		buf = m.AppendAT(buf[:0], "Clark", m.Stamp+263873386)
	}
	if got := string(buf); got != benchAT+"\n" {
		b.Fatalf("got %q", got)
	}
}

func BenchmarkParseAT(b *testing.B) {
	line := []byte(benchAT)
	b.ReportAllocs()
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		if _, err := ParseAT(line); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseWHATSAT(b *testing.B) {
	args := []byte(" kiwi.cs.ucla.edu 9.5 20\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseWHATSAT(args); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCut(b *testing.B) {
	line := []byte("IAMAT" + benchArgs)
	b.ReportAllocs()
	for b.Loop() {
		if verb, _ := Cut(line); len(verb) != 5 {
			b.Fatal(verb)
		}
	}
}

func BenchmarkParseLocation(b *testing.B) {
	text := []byte("+34.068930-118.445127")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ParseLocation(text); err != nil {
			b.Fatal(err)
		}
	}
}
