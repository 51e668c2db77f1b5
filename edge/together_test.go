package edge

import (
	"errors"
	"testing"
)

func TestAllThatAStopLeavesIncompleteIsSaid(t *testing.T) { // C19
	journal, link := errors.New("the journal was not completed"), errors.New("drain the link to Juzang")
	later := make(chan struct{})
	err := together([]func() error{
		func() error { <-later; return journal },
		func() error { return nil },
		func() error { close(later); return link },
	})
	if !errors.Is(err, journal) || !errors.Is(err, link) {
		t.Errorf("C19 the stop says %v, want both", err)
	}
}
