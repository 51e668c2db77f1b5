package overview

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// summary says how the herd is, in one sentence: what is wrong and since when, then its numbers.
func (h *Herd) summary(all []Problem) Summary {
	s := Summary{Level: OK, Problems: all}
	if s.Problems == nil {
		s.Problems = []Problem{}
	}
	numbers := h.numbers()
	if len(all) == 0 {
		s.Sentence, s.Short = numbers, h.ready()
		return s
	}
	s.Level = all[0].Level
	worst := 0
	for worst < len(all) && all[worst].Level == s.Level {
		s.Since = earlier(s.Since, all[worst].Since)
		worst++
	}
	told := min(2, worst)
	var texts []string
	for _, p := range all[:told] {
		text := p.What
		if !p.Since.IsZero() {
			text += " since " + clockTime(p.Since, h.At)
		}
		texts = append(texts, text)
	}
	if more := worst - told; more > 0 {
		texts = append(texts, fmt.Sprintf("%d more", more))
	}
	s.Sentence = strings.Join(texts[:len(texts)-1], ", ")
	if s.Sentence != "" {
		s.Sentence += " and "
	}
	s.Sentence += texts[len(texts)-1] + "; " + numbers
	s.Short = all[0].Short
	if worst > 1 {
		s.Short = cut(s.Short, shortMost-len(" +99")) + fmt.Sprintf(" +%d", min(99, worst-1))
	}
	s.Short = cut(s.Short, shortMost)
	return s
}

const shortMost = 40 // characters

// ready is how many edges are ready, of those that can be seen.
func (h *Herd) ready() string {
	t := h.Totals
	return fmt.Sprintf("%d of %d ready", t.EdgesReady, t.Edges-t.EdgesHidden)
}

// numbers is the herd in numbers.
func (h *Herd) numbers() string {
	t := h.Totals
	text := fmt.Sprintf("%d of %s ready", t.EdgesReady, Counted(t.Edges-t.EdgesHidden, "edge"))
	if t.EdgesHidden > 0 {
		text += fmt.Sprintf(" (%d not visible from here)", t.EdgesHidden)
	}
	if t.Links > 0 {
		text += fmt.Sprintf(", %d of %s up", t.LinksUp, Counted(t.Links, "link"))
	}
	refused := "nothing refused"
	if t.Refusals > 0 {
		refused = rate(t.Refusals) + " refused/s"
	}
	return text + ", " + Counted(t.Clients, "client") + ", " + rate(t.Updates) + " updates/s, " + refused
}

// rate is how many per second, for people.
func rate(x float64) string {
	if x > 0 && x < 9.95 {
		return fmt.Sprintf("%.1f", x)
	}
	return grouped(int(math.Round(x)), ",")
}

// clockTime is a time of day in UTC, with its date unless it is of the same day.
func clockTime(t, now time.Time) string {
	t, now = t.UTC(), now.UTC()
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04:05 UTC")
	}
	return t.Format(Moment)
}

// cut shortens a text to n characters.
func cut(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n-1]) + "…"
}
