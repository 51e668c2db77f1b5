// Package fifo is a queue that reuses its memory, and takes as much as is usually needed, not as
// much as was ever needed. It knows nothing of what waits in it, or of goroutines: whoever shares a
// Queue guards it.
package fifo

// keepMost is how many places a queue that is empty keeps.
const keepMost = 1 << 16

// A Queue holds items in the order in which they came. Push and Pop take constant time on average.
// The zero Queue is empty.
type Queue[T any] struct {
	items []T
	next  int // those before have left
}

// Len is how many wait.
func (q *Queue[T]) Len() int { return len(q.items) - q.next }

// Push adds an item as the last.
func (q *Queue[T]) Push(item T) {
	if len(q.items) == cap(q.items) && q.next > len(q.items)/2 {
		n := copy(q.items, q.items[q.next:])
		clear(q.items[n:])
		q.items, q.next = q.items[:n], 0
	}
	q.items = append(q.items, item)
}

// Pop removes the first item, of a Queue that is not empty.
func (q *Queue[T]) Pop() T {
	var none T
	item := q.items[q.next]
	q.items[q.next] = none
	if q.next++; q.next == len(q.items) {
		if q.items, q.next = q.items[:0], 0; cap(q.items) > keepMost {
			q.items = nil
		}
	}
	return item
}
