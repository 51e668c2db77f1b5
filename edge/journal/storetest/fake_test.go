package storetest

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheFakeIsAStore(t *testing.T) {
	Run(t, func(t *testing.T) Subject {
		f := NewFake()
		f.Cost(20*time.Microsecond, 0)
		return Subject{
			Store: f.Client(), Twin: f.Client(),
			Put: f.Put, Remove: f.Remove, Purge: f.Purge, Destroy: f.Destroy, Limit: f.Limit, MaxValue: f.maxValue,
		}
	})
}

func TestAFakeThatLagsTellsAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lag = 20 * time.Millisecond
		f := NewFake()
		f.Lag(lag)
		p := &probe{Subject{Store: f.Client(), Lags: true}, t}
		p.open()
		last := p.own("e1", 0)
		last = p.write(last, entry("a", "1", 0))
		p.holds(0, "a=1")
		time.Sleep(lag)
		p.write(last, entry("a", "2", 0))
		var told []string
		all, _ := p.read(0)
		for _, e := range all {
			told = append(told, string(e.Value))
		}
		if !slices.Equal(told, []string{"1", "2"}) { // first what the replica has, then what it hears of
			t.Errorf("it tells %q", told)
		}
		p.holds(0, "a=2")
	})
}

func TestTheFakeCountsWhatIsWrittenBesideItsOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFake()
		first, second := &probe{Subject{Store: f.Client()}, t}, &probe{Subject{Store: f.Client()}, t}
		first.open()
		last := first.write(first.own("e1", 0), entry("a", "1", 0))
		if n := f.Poached(); n != 0 {
			t.Errorf("%d writes of the owner are counted", n)
		}
		last = second.own("e2", last-1)
		last = second.write(last, entry("a", "2", 0))
		if n := f.Poached(); n != 0 {
			t.Errorf("%d writes of the new owner are counted", n)
		}
		first.write(last, entry("a", "3", 0)) // it has read all, and not looked whose the store is
		if n := f.Poached(); n != 1 {
			t.Errorf("%d writes are counted, want 1", n)
		}
	})
}
