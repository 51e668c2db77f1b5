package edge

import (
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhichSignalEndsTheProcessAtOnce(t *testing.T) {
	const moment, long = 900 * time.Millisecond, 1100 * time.Millisecond
	for _, test := range []struct {
		name          string
		first, second os.Signal
		after         time.Duration
		atOnce        bool
	}{
		{"C19 a second SIGINT", syscall.SIGINT, syscall.SIGINT, 0, true},
		{"C19 a second SIGTERM", syscall.SIGTERM, syscall.SIGTERM, long, true},
		{"C19 a SIGTERM sent twice", syscall.SIGTERM, syscall.SIGTERM, moment, false},
		{"C19 a SIGINT of a person who waits", syscall.SIGTERM, syscall.SIGINT, moment, true},
		{"C19 a SIGTERM beside a SIGINT", syscall.SIGINT, syscall.SIGTERM, moment, false},
		{"C19 a SIGTERM after a SIGINT", syscall.SIGINT, syscall.SIGTERM, long, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := Ending{Limit: time.Hour}
				defer e.Stop()
				if begin, atOnce := e.Signal(test.first); !begin || atOnce {
					t.Errorf("the first: %v, %v", begin, atOnce)
				}
				time.Sleep(test.after)
				if begin, atOnce := e.Signal(test.second); begin || atOnce != test.atOnce {
					t.Errorf("the second: %v, %v, want at once %v", begin, atOnce, test.atOnce)
				}
			})
		})
	}
	t.Run("C19 a SIGTERM sent twice, and one of a person who waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := Ending{Limit: time.Hour}
			defer e.Stop()
			e.Signal(syscall.SIGTERM)
			e.Signal(syscall.SIGTERM)
			time.Sleep(long)
			if _, atOnce := e.Signal(syscall.SIGTERM); !atOnce {
				t.Error("the third does not end it")
			}
		})
	})
}

func TestAProcessThatHangsEndsItselfASecondLater(t *testing.T) {
	for _, hangs := range []bool{false, true} { // and the log hangs too
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			said, exited := new(atomic.Bool), make(chan time.Duration, 1)
			release := make(chan struct{})
			e := Ending{Limit: 2 * time.Second, Exit: func() { exited <- time.Since(start) }, Hung: func() {
				said.Store(true)
				if hangs {
					<-release
				}
			}}
			e.Signal(syscall.SIGTERM)
			took := <-exited
			if took < 3*time.Second || took > 3100*time.Millisecond || !said.Load() {
				t.Errorf("C19 the process ended after %v, having said what hung: %v; want 3s", took, said.Load())
			}
			close(release)
		})
	}
	synctest.Test(t, func(t *testing.T) {
		e := Ending{Limit: time.Second, Exit: func() { t.Error("ended from outside") }, Hung: func() {}}
		e.Signal(syscall.SIGTERM)
		time.Sleep(1900 * time.Millisecond)
		e.Stop() // in time
		time.Sleep(time.Hour)
	})
}
