package herdtest

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// Step makes the edge's clock wrong by the given amount, and waits until it is.
func (e *EdgeProcess) Step(by time.Duration) {
	e.T.Helper()
	draft := e.clock + ".new"
	err := os.WriteFile(draft, []byte(by.String()), 0o600)
	if err == nil {
		err = os.Rename(draft, e.clock)
	}
	if err != nil {
		e.T.Fatal(err)
	}
	if e.Child == nil || !e.Running() {
		return
	}
	Eventually(e.T, 10*time.Second, "the clock of "+e.Name+" steps", func() error {
		log := e.Stderr.String()
		last := log[max(0, strings.LastIndex(log, `"is_wrong_by":`)):]
		if by == 0 && !strings.HasPrefix(last, `"is_`) || strings.HasPrefix(last, fmt.Sprintf(`"is_wrong_by":%q}`, by)) {
			return nil
		}
		return errors.New("not yet")
	})
}
