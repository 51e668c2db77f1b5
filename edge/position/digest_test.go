package position

import (
	"bytes"
	"fmt"
	"testing"
)

func sums(table *Table, d *Digest) (sums []uint64, entries int) {
	sums = make([]uint64, 1<<d.Bits)
	for from := uint32(0); ; {
		if from = table.Digest(d, from, 700, func(e Entry) {
			entries++
			sums[d.Shard(e.ID)] += e.Line
		}); from == 0 {
			return sums, entries
		}
	}
}

func TestDigestsAreThoseOfTheLinesInWhateverOrder(t *testing.T) {
	one, two := New(Config{}), New(Config{Live: true})
	const n = 5000
	for i := range n {
		apply(t, one, 0, Source{}, Put, at("A", fmt.Sprint("c", i), "+1+1", float64(i), 0))
		apply(t, two, 0, Source{}, Put, at("A", fmt.Sprint("c", n-1-i), "+1+1", float64(n-1-i), 0))
	}
	d := &Digest{Key: bytes.Repeat([]byte{7}, DigestKey), Bits: 6}
	a, entries := sums(one, d)
	if b, _ := sums(two, d); entries != n || fmt.Sprint(a) != fmt.Sprint(b) {
		t.Fatalf("%d entries, %v and %v", entries, a, b)
	}
	apply(t, two, 0, Source{}, Put, at("A", "c17", "+1+1.0000001", 17, 0)) // equal but for the last digit of its place
	b, _ := sums(two, d)
	differ := 0
	for i := range a {
		if a[i] != b[i] {
			differ++
		}
	}
	if differ != 1 {
		t.Errorf("one line differs, and %d shards", differ)
	}
	other := *d
	other.Key = bytes.Repeat([]byte{8}, DigestKey)
	if c, _ := sums(one, &other); fmt.Sprint(a) == fmt.Sprint(c) {
		t.Error("the key does not matter")
	}
	late := *d
	late.Oldest = 4000e9
	if _, entries := sums(one, &late); entries != 1000 {
		t.Errorf("%d records are young enough, want 1000", entries)
	}
	if _, entries := sums(New(Config{}), d); entries != 0 {
		t.Errorf("%d records in an empty table", entries)
	}
	flat := *d
	flat.Bits = 0
	if s, _ := sums(one, &flat); len(s) != 1 || s[0] == 0 {
		t.Errorf("one shard: %v", s)
	}
}

func TestWhatWasForgottenIsInNoDigest(t *testing.T) {
	table := New(Config{Retain: 1e9, Live: true})
	apply(t, table, 0, Source{}, Put, at("A", "c", "+1+1", 5, 0), at("A", "d", "+1+1", 9, 0))
	table.Follow()
	table.Forget(7e9, 10, nil)
	d := &Digest{Key: make([]byte, DigestKey)}
	if _, entries := sums(table, d); entries != 1 {
		t.Errorf("%d entries, want that of d", entries)
	}
}

func BenchmarkDigest(b *testing.B) {
	const n = 1_000_000
	table := New(Config{})
	for i := range n {
		line := at("Clark", fmt.Sprint("client-number-", i*7919%n), "+34.068930-118.445127", 1e9, 0)
		a := parse(b, line)
		ops := make([]Op, 1)
		table.PreparePut(&ops[0], line, &a)
		table.Apply(0, Source{}, ops)
	}
	d := &Digest{Key: make([]byte, DigestKey), Bits: 16}
	sums := make([]uint64, 1<<d.Bits)
	b.ReportAllocs()
	for b.Loop() {
		for from := uint32(0); ; {
			if from = table.Digest(d, from, 700, func(e Entry) { sums[d.Shard(e.ID)] += e.Line }); from == 0 {
				break
			}
		}
	}
}
