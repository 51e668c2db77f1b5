package places

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
	_ "time/tzdata" // for Google's time zone on machines without time zone data

	"golang.org/x/time/rate"

	"herd/places/nearby"
)

// Errors of a Budget that refuses a question. errors.Is finds ErrOverQuota in both.
var (
	errSpent   = &Error{nearby.OverQueryLimit, "today's questions to the places provider are used up"}
	errTooFast = &Error{nearby.OverQueryLimit, "too many questions to the places provider per second"}
)

// BudgetConfig configures a Budget.
type BudgetConfig struct {
	Daily     int          // questions per day; 0 means no limit
	PerSecond int          // questions per second, and as many in a burst; 0 means no limit
	File      string       // keeps the day's count across restarts; empty means not kept
	Log       *slog.Logger // logs problems with the file, and when the budget is used up
}

// Budget counts questions that cost money. Its days are those of Google's quotas, which begin
// at midnight Pacific time. All methods may be called from any goroutine.
type Budget struct {
	daily int
	rate  *rate.Limiter // nil: no limit
	file  string
	log   *slog.Logger

	mu   sync.Mutex
	day  string // as 2006-01-02, in Pacific time
	used int
	told bool // it is logged that the budget is used up
}

// pacific is the time zone of Google's quotas.
var pacific = func() *time.Location {
	zone, err := time.LoadLocation("America/Los_Angeles")
	if err != nil {
		panic(err) // the zone is built in
	}
	return zone
}()

// NewBudget returns a budget, less what was used today according to the file: a process that
// restarts again and again must not multiply the bill. A missing file is no error; a file
// that cannot be read is one.
func NewBudget(cfg BudgetConfig) (*Budget, error) {
	b := &Budget{daily: cfg.Daily, file: cfg.File, log: cfg.Log}
	if cfg.PerSecond > 0 {
		b.rate = rate.NewLimiter(rate.Limit(cfg.PerSecond), cfg.PerSecond)
	}
	if b.daily == 0 || b.file == "" {
		return b, nil
	}
	text, err := os.ReadFile(b.file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("read what was used today: %w", err)
	default:
		if _, err := fmt.Sscanf(string(text), "%s %d\n", &b.day, &b.used); err != nil || b.used < 0 {
			// A power failure may leave any content. A day without places is better than an
			// unlimited bill.
			b.day, b.used = today(), b.daily
			b.log.Warn("the count of today's questions cannot be read: no more are asked today", "file", b.file)
		}
	}
	return b, nil
}

func today() string { return time.Now().In(pacific).Format(time.DateOnly) }

// take counts a question that is about to be asked. An error means that it must not be asked.
func (b *Budget) take() error {
	if b.rate != nil && !b.rate.Allow() {
		return errTooFast
	}
	if b.daily == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn(today())
	if b.used >= b.daily {
		if !b.told {
			b.told = true
			b.log.Warn("the day's questions to the places provider are used up", "daily", b.daily)
		}
		return errSpent
	}
	b.used++
	b.write()
	return nil
}

// turn begins another day. b.mu must be held. A day before the current one means that the
// clock has changed: it is unknown on which day the questions were asked, so none are left,
// as with a count that cannot be read.
func (b *Budget) turn(day string) {
	switch {
	case day > b.day:
		b.day, b.used, b.told = day, 0, false
	case day < b.day:
		b.log.Warn("the clock has gone back by a day or more: no more questions to the places provider are asked today", "counted", b.day, "today", day)
		b.day, b.used, b.told = day, b.daily, true
	}
}

// write saves the count before the question is asked, so that a crash of the process loses
// none. A crash of the machine may.
func (b *Budget) write() {
	if b.file == "" {
		return
	}
	draft := b.file + ".new"
	err := os.WriteFile(draft, fmt.Appendf(nil, "%s %d\n", b.day, b.used), 0o600)
	if err == nil {
		err = os.Rename(draft, b.file)
	}
	if err != nil {
		b.log.Warn("the count of today's questions cannot be saved: a restart forgets it", "file", filepath.Base(b.file), "error", err)
	}
}

// Left returns how many questions may still be asked today. limited is false if there is no
// limit.
func (b *Budget) Left() (n int, limited bool) {
	if b.daily == 0 {
		return 0, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch day := today(); {
	case day > b.day:
		return b.daily, true
	case day < b.day: // see turn
		return 0, true
	}
	return max(0, b.daily-b.used), true
}
