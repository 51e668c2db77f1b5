package fifo

import "testing"

func TestWhatComesFirstLeavesFirst(t *testing.T) {
	var q Queue[int]
	in, out := 0, 0
	for round := range 1000 { // more come than leave, then more leave than come
		for range round % 7 {
			q.Push(in)
			in++
		}
		for range min(round%5, q.Len()) {
			if got := q.Pop(); got != out {
				t.Fatalf("got %d, want %d", got, out)
			}
			out++
		}
		if q.Len() != in-out {
			t.Fatalf("%d wait, want %d", q.Len(), in-out)
		}
	}
}

func TestAQueueTakesNoMoreRoomThanWaits(t *testing.T) {
	var q Queue[*int]
	const waiting = 10
	for range waiting {
		q.Push(new(int))
	}
	for range 10_000 {
		q.Push(q.Pop())
	}
	if n := cap(q.items); n > 8*waiting {
		t.Errorf("room for %d, with %d waiting", n, waiting)
	}
	for range q.items[:q.next] {
		q.next--
		if q.items[q.next] != nil {
			t.Fatal("an item that has left is kept")
		}
	}
}

func TestAnEmptyQueueKeepsLittle(t *testing.T) {
	var q Queue[int]
	for i := range keepMost + 1 {
		q.Push(i)
	}
	for q.Len() > 0 {
		q.Pop()
	}
	if n := cap(q.items); n > keepMost {
		t.Errorf("room for %d is kept", n)
	}
}
