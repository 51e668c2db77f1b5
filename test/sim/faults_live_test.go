package sim

// liveFaults are in what watchers are told (L). The comment says what a user would suffer. What changes
// while a list is told cannot be seen here, where a list is one write: tests of edge/watch see that.
var liveFaults = []fault{
	// A fence never hears that somebody has left it, unless that is found by chance.
	{"L4 who leaves an area is not looked for there", "edge/watch/watch.go",
		"if !in && !(had && area.Contains(was)) {", "if !in {"},
	// Somebody who was forgotten stays on the map for good.
	{"L4 a forgotten client's slot is free before its OUT was told", "edge/watch/watch.go",
		"\tif l.gone && l.holds == 0 {", "\tif l.gone {"},
	{"L4 what is forgotten is no change", "edge/position/retain.go",
		"\tr.own, r.kept, r.effective = false, false, -1\n\tt.touch(slot, r)\n", "\tr.own, r.kept, r.effective = false, false, -1\n"},
	// The circle around a lorry stays where the lorry was when the watch began.
	{"L2 a circle does not follow its client", "edge/watch/target.go",
		"\t\ts.moves(v)\n\t}\n}\n\n// follow moves", "\t}\n}\n\n// follow moves"},
	// A client that is not known when it is watched is never seen.
	{"L2 a watched client that comes later is not noticed", "edge/watch/watch.go",
		"if t := s.targets[string(s.id)]; t != nil && !t.bound {", "if t := s.targets[string(s.id)]; t != nil && !t.bound && l.gone {"},
	// An idle watcher that was slow is not told the rest until something else happens.
	{"L4 nobody comes back for what is marked", "edge/watch/tell.go",
		"if v.set.marked > 0 || v.visits {", "if v.visits {"},
}

func init() { faults = append(faults, liveFaults...) }
