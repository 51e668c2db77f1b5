package edge

import (
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// hungAfter is how long past HERD_SHUTDOWN_TIMEOUT a process may live (C19).
	hungAfter = time.Second
	// sameSignal is for how long a second SIGTERM may be the first one sent twice:
	// supervisors do, and process groups.
	sameSignal = time.Second
	// lastWords is how long saying what hangs may take: it may be the log that hangs.
	lastWords = 100 * time.Millisecond
)

// An Ending is a process's way down, from the signal that begins it (C19). One goroutine
// calls its methods.
type Ending struct {
	Limit time.Duration // HERD_SHUTDOWN_TIMEOUT
	Hung  func()        // says what hangs, where the process is not gone a second after Limit;
	Exit  func()        // then this ends it

	began time.Time
	timer *time.Timer
}

// Signal takes a SIGINT or SIGTERM, and says whether it is the first, which begins the
// stop, or one that ends the process at once.
func (e *Ending) Signal(s os.Signal) (first, atOnce bool) {
	now := time.Now()
	switch {
	case e.began.IsZero():
		e.Begin()
		return true, false
	case s == syscall.SIGTERM && now.Sub(e.began) <= sameSignal:
		return false, false
	}
	return false, true
}

// Begin begins the stop where no signal does; harmless when it has begun.
func (e *Ending) Begin() {
	if !e.began.IsZero() {
		return
	}
	e.began = time.Now()
	e.timer = time.AfterFunc(e.Limit+hungAfter, func() {
		var saying sync.WaitGroup // ends with the process at the latest
		said := make(chan struct{})
		saying.Go(func() {
			e.Hung()
			close(said)
		})
		select {
		case <-said:
		case <-time.After(lastWords):
		}
		e.Exit()
	})
}

// Stop says that the process ends by itself.
func (e *Ending) Stop() {
	if e.timer != nil {
		e.timer.Stop()
	}
}
