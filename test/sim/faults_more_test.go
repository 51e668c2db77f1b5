package sim

// moreFaults were written from the rules and the code that keeps them, without a look at what
// the checkers look for. Each breaks the rule that its name begins with; the comment says what
// a user would suffer.
var moreFaults = []fault{
	// A client that moves to an edge with a longer name, or whose skew gets a digit more, has
	// two records from then on: a question may be answered with the old one, or with `? `.
	{"S1 where an id begins in its line is noted for a new client only", "edge/position/table.go",
		"\tr.clientAt, r.clientLen = op.clientAt, uint16(len(op.client))",
		"\tif r.clientLen == 0 {\n\t\tr.clientAt, r.clientLen = op.clientAt, uint16(len(op.client))\n\t}"},
	// All edges agree, but of two reports with one time they hold the one that came first: what
	// a client corrected at a second edge is gone, and programs that follow S2 hold another line.
	{"S2 between equal times the earlier receipt wins", "edge/wire/order.go",
		"cmp.Compare(a.Receipt, b.Receipt)", "cmp.Compare(b.Receipt, a.Receipt)"},
	// A client whose clock once ran ahead is frozen until that time has come, at the edges that
	// saw its line of then; the others go on with it.
	{"S2 a held line counts for all of its client's time", "edge/position/table.go",
		"r.revision, r.effective, r.holders = t.head, effective, bit",
		"r.revision, r.effective, r.holders = t.head, op.stamp, bit"},
	// Where the topology has a cycle every line goes round for ever: links and processors are
	// busy with what everybody holds.
	{"S3 a line that a second neighbour brings is stored anew", "edge/position/table.go",
		"\tcase c == 0:\n", "\tcase c == 0 && r.holders&bit != 0:\n"},
	// Positions are told after HERD_RETAIN has passed, and one edge tells what another has
	// forgotten.
	{"S4 what is past is told until it is swept", "edge/position/table.go",
		"if !ok || t.expired(t.records.at(slot).effective, now) {", "if !ok {"},
	// A client comes back while the deletion of what was forgotten waits: its new line, though
	// promised, is deleted from the journal and gone after a restart.
	{"S4 a deletion takes the new line of a client that came back", "edge/journal/marks.go",
		"\t\tback = true\n\t\tif r.Sequence() == 0 {", "\t\tif back = r.Sequence() == 0; back {"},
	// A client that sends one report to two edges is held in two ways for good: edges never
	// agree on its skew and on who received it.
	{"C11 a neighbour's line with the held time and location is a repetition", "edge/position/table.go",
		"if op.Kind == PutOwn && t.repeats(op, r, effective) {", "if op.Kind != PutKept && t.repeats(op, r, effective) {"},
	// One client per full message, or per full batch of the journal, stays unknown to the
	// neighbour until it moves again.
	{"H3 the cursor passes the record that had no room", "edge/position/changes.go",
		"return through, false\n\t\t\t}\n\t\t\tthrough = revision", "return revision, false\n\t\t\t}\n\t\t\tthrough = revision"},
	// An edge that restarts empty does not get back what it had told its neighbours: its own
	// clients are unknown to it.
	{"H4 what an earlier run held counts for the present one", "edge/position/reader.go",
		"if h.epoch != to.Epoch {", `if h.epoch == "" {`},
	// A stop takes all of HERD_SHUTDOWN_TIMEOUT and says that the links were not drained; with
	// HERD_LINK_WINDOW=1 a link stands still after its first message.
	{"H5 an ack for a message's own revision does not take it out of the window", "edge/link/ack.go",
		"s.flights[n].through <= through", "s.flights[n].through < through"},
	// What was under way when a message was lost, or a neighbour restarted, never reaches it.
	{"H6 going back leaves what was read from the table", "edge/link/send.go",
		"s.cursor, s.read = s.acked, s.acked", "s.cursor = s.acked"},
	// An edge that restarts beside a running one lacks all that this one held before.
	{"H6 a new stream is held from where its first message begins", "edge/link/receive.go",
		"\t\ts = r.take(now, m.Epoch, l.cfg.Heartbeat)\n",
		"\t\tif s = r.take(now, m.Epoch, l.cfg.Heartbeat); s != nil && s.heard.IsZero() {\n\t\t\ts.through = m.After\n\t\t}\n"},
	// After a power cut an edge answers `? ` for clients that only the journal of the edge at
	// the other end of the herd knows.
	{"H7 the port opens a level too early", "edge/joining.go",
		"if j.level < j.edges {", "if j.level < j.edges-1 {"},
	// An edge whose connection died without a word stays cut off, and lets go of a broker that
	// works when its neighbours are there.
	{"H8 the broker is asked for a sign of life while neighbours are heard", "edge/silence.go",
		"if !conn.Connected() || anyHeard() {", "if !conn.Connected() || !anyHeard() {"},
	// One bad line of a neighbour costs all good ones behind it in its message: they were
	// acknowledged, and do not come again.
	{"H9 a bad line ends its message", "edge/link/receive.go",
		"l.refuse(now, line, err)\n\t\t\tcontinue\n\t\t}\n\t\tif due", "l.refuse(now, line, err)\n\t\t\tbreak\n\t\t}\n\t\tif due"},
	// What an edge tells after its second restart is dropped by its neighbours, for seconds or
	// for a minute, because its revisions are lower than those of a dead run.
	{"H9 a new run is measured by the heads of one before", "edge/link/stream.go",
		"\t*s = stream{epoch: epoch}\n", "\ts.epoch, s.through = epoch, 0\n"},
	// A second process started by mistake under the name of a live edge takes its journal
	// before it knows of that edge: clients get `? `, and the live one may end.
	{"H10 a run takes the bucket before it has its name", "edge/adapt.go",
		"case <-e.named:\n\t\treturn e.journal.Run(ctx)", "case <-e.made:\n\t\treturn e.journal.Run(ctx)"},
	// A client that reported here and moved on is known by an old position after this edge lost
	// its memory, and a late report of it is promised that the journal does not hold.
	{"D1 a newer line that came over a link counts as kept like the one before", "edge/position/table.go",
		"r.origin, r.kept = originOf(op.Kind, bit, effective != op.stamp), false",
		"r.origin, r.kept = originOf(op.Kind, bit, effective != op.stamp), op.Kind == Put && r.kept"},
	// After a restart, what neighbours tell of an edge's own clients is not written to its
	// journal, nor is what was forgotten deleted: a second restart brings up old positions.
	{"D2 a client that the journal brought is not the edge's own", "edge/position/table.go",
		"\t\t// The very line: stored now, or held before.\n\t\tt.setOwn(r)\n", "\t\t// The very line: stored now, or held before.\n"},
	// A client that sends its line again, because it got no answer, is promised what no journal
	// holds yet: a crash loses it.
	{"D3 only what was stored waits for the journal", "edge/command/caller.go",
		"return outcome, h.cfg.Journal != nil && !op.Kept && op.Revision != 0",
		"return outcome, h.cfg.Journal != nil && !op.Kept && op.Outcome == position.Stored"},
	// With HERD_JOURNAL=on and JetStream not there yet, an edge lets clients in and knows none
	// of those that its journal holds.
	{"D4 an edge that must have a journal does not wait for JetStream", "edge/adapt.go",
		"e.cfg.Journal != config.JournalOn && isClosed(e.journal.None())", "isClosed(e.journal.None())"},
	// After one refused or failed write, its lines are not written until their clients move:
	// clients get `? ` for no reason, and a stop says that the journal is complete.
	{"D5 the journal's cursor moves before its write is acknowledged", "edge/journal/write.go",
		"\t\tif len(m.batch.items) == 0 { // a write that fails need not read it again\n\t\t\tm.cursor.Store(m.through)\n\t\t}\n",
		"\t\tm.cursor.Store(m.through)\n"},
	// Two runs of a name, cut off from each other, both write one bucket and both promise.
	{"D5 another owner of the same bucket is not noticed", "edge/journal/machine.go",
		`case s.ID == "" || s.ID != m.id || s.Owner != m.owner:`, `case s.ID == "" || s.ID != m.id:`},
	// Clients that came while the store was nearly full are not in the journal when there is
	// room again, until they move.
	{"D6 the cursor does not return for who was left out", "edge/journal/room.go",
		"\t\tm.back() // to the clients that were left out\n", ""},
}

func init() { faults = append(faults, moreFaults...) }
