package sim

import (
	"strings"
	"time"
)

// Shrink returns a plan of fewer operations, and of a kinder network where that is enough, that
// breaks the same rule; as far as it comes until end. live has a plan live, and says what is
// wrong.
func Shrink(p *Plan, wrong string, end time.Time, live func(*Plan) string) (*Plan, string) {
	try := func(q *Plan) bool {
		if time.Now().After(end) {
			return false
		}
		w := live(q)
		if w == "" || rule(w) != rule(wrong) {
			return false
		}
		p, wrong = q, w
		return true
	}
	drop := func() (any bool) {
		for size := max(1, len(p.Ops)/2); ; size /= 2 {
			for from := 0; from < len(p.Ops); {
				if try(p.Without(from, min(from+size, len(p.Ops)))) {
					any = true
				} else {
					from += size
				}
			}
			if size <= 1 {
				return any
			}
		}
	}
	drop()
	for _, kinder := range []func(*Plan){
		func(q *Plan) { q.Loss, q.Twice = 0, 0 },
		func(q *Plan) { q.Faults = 0 },
		func(q *Plan) { q.StoreLag = 0 },
		func(q *Plan) { q.Gap = 0 },
		func(q *Plan) { q.MaxPayload = 1 << 20 },
		func(q *Plan) { q.StoreCost = 2 * time.Microsecond },
		func(q *Plan) { q.Blackout = false },
		func(q *Plan) { q.Probe = false },
		func(q *Plan) { q.Heal = q.Names },
	} {
		q := *p
		kinder(&q)
		try(&q)
	}
	for drop() {
	}
	return p, wrong
}

// rule is the rule that is broken, by the words of failf.
func rule(wrong string) string {
	_, text, _ := strings.Cut(wrong, " s: ")
	word, _, _ := strings.Cut(text, " ")
	return strings.TrimSuffix(word, ",")
}
