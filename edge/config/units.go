package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes. As text it is digits and an optional KiB, MiB or GiB: 1048576,
// 1024KiB and 1 MiB are the same.
type Size int64

const (
	// KiB, MiB and GiB are the units of a [Size].
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
)

var errSize = errors.New("not a size")

// UnmarshalText parses a size. It refuses signs, fractions and values larger than an int64.
func (s *Size) UnmarshalText(text []byte) error {
	number, unit := string(text), Size(1)
	for _, u := range []struct {
		name string
		size Size
	}{{"KiB", KiB}, {"MiB", MiB}, {"GiB", GiB}} {
		if before, found := strings.CutSuffix(number, u.name); found {
			number, unit = strings.TrimSuffix(before, " "), u.size
			break
		}
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || n > math.MaxInt64/uint64(unit) {
		return errSize
	}
	*s = Size(n) * unit
	return nil
}

// String returns the size in the largest unit that divides it.
func (s Size) String() string {
	switch {
	case s != 0 && s%GiB == 0:
		return fmt.Sprintf("%dGiB", s/GiB)
	case s != 0 && s%MiB == 0:
		return fmt.Sprintf("%dMiB", s/MiB)
	case s != 0 && s%KiB == 0:
		return fmt.Sprintf("%dKiB", s/KiB)
	}
	return strconv.FormatInt(int64(s), 10)
}

// Sync is when the embedded JetStream syncs to disk: after each write, or at intervals. As
// text it is `always` or a duration.
type Sync struct {
	Always   bool
	Interval time.Duration // 0 where Always
}

// UnmarshalText parses `always` or a duration.
func (s *Sync) UnmarshalText(text []byte) error {
	if string(text) == "always" {
		*s = Sync{Always: true}
		return nil
	}
	d, err := time.ParseDuration(string(text))
	*s = Sync{Interval: d}
	return err
}

// String returns s in the form that UnmarshalText parses.
func (s Sync) String() string {
	if s.Always {
		return "always"
	}
	return s.Interval.String()
}
