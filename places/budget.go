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
	_ "time/tzdata" // Google's day is wanted on machines without time zones too

	"golang.org/x/time/rate"

	"herd/places/nearby"
)

// What a Budget says no with: both are ErrOverQuota to errors.Is.
var (
	errSpent   = &Error{nearby.OverQueryLimit, "today's questions to the places provider are used up"}
	errTooFast = &Error{nearby.OverQueryLimit, "too many questions to the places provider at this moment"}
)

// BudgetConfig says how much a Budget has.
type BudgetConfig struct {
	Daily     int          // questions a day; 0 is no limit
	PerSecond int          // questions a second, as many at once; 0 is no limit
	File      string       // where the day's count outlives the process; empty is nowhere
	Log       *slog.Logger // for what goes wrong with the file, and for the end of the budget
}

// Budget counts questions that cost money. Its day is Google's, whose quotas begin anew
// at midnight Pacific time. All methods may be called from any goroutine.
type Budget struct {
	daily int
	rate  *rate.Limiter // nil: no limit
	file  string
	log   *slog.Logger

	mu   sync.Mutex
	day  string // 2006-01-02, where Google's quotas are
	used int
	told bool // that it is used up
}

// pacific is the time zone of Google's quotas.
var pacific = func() *time.Location {
	zone, err := time.LoadLocation("America/Los_Angeles")
	if err != nil {
		panic(err) // it is built in
	}
	return zone
}()

// NewBudget returns a budget, less what the file says was used today: a process that
// restarts again and again must not multiply a bill. The error says why the file cannot
// be read; it is no error that there is none yet.
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
			// A power cut may leave anything. The bill is worth more than one day's places.
			b.day, b.used = today(), b.daily
			b.log.Warn("the count of today's questions cannot be read: no more are asked today", "file", b.file)
		}
	}
	return b, nil
}

func today() string { return time.Now().In(pacific).Format(time.DateOnly) }

// take counts a question that is to be asked now; the error says that it must not be.
func (b *Budget) take() error {
	if b.rate != nil && !b.rate.Allow() {
		return errTooFast
	}
	if b.daily == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if day := today(); day != b.day {
		b.day, b.used, b.told = day, 0, false
	}
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

// write keeps the count before the question is asked, so that a crash loses none. A
// crash of the machine may.
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
		b.log.Warn("the count of today's questions is not kept: a restart forgets it", "file", filepath.Base(b.file), "error", err)
	}
}

// Left returns how many questions may still be asked today; limited is false where there
// is no limit.
func (b *Budget) Left() (n int, limited bool) {
	if b.daily == 0 {
		return 0, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.day != today() {
		return b.daily, true
	}
	return max(0, b.daily-b.used), true
}
