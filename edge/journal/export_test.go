package journal

import "herd/edge/position"

// Returned is returned, for tests of a whole journal.
func Returned(t *position.Table, client []byte) bool { return returned(t, client) }

// Waiting returns the number of slots with a waiter.
func (j *Journal) Waiting() int {
	j.awaits.mu.Lock()
	defer j.awaits.mu.Unlock()
	return len(j.awaits.of)
}

// Dying returns the capacity, in bytes, of the ids whose entries are to be deleted.
func (j *Journal) Dying() int {
	j.gone.mu.Lock()
	defer j.gone.mu.Unlock()
	return cap(j.gone.ids)
}
