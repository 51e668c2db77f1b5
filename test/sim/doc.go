// Package sim simulates bad days of a herd. A day is one run of a whole herd in virtual time,
// drawn from one number.
//
// A [Plan] is drawn from a seed: a graph, options, and operations at their times, such as clients that
// tell where they are, kills, twins (two runs of one name), cuts, a broker that goes away, buckets that
// lose what they acknowledged, clocks that step, lies. [Live] starts whole edges (edge.Edge, but
// for sockets) in one bubble of testing/synctest, over a model of the broker. One goroutine owns
// the network: what edges send only becomes an item in an outbox; when all edges wait, that
// goroutine sorts the outbox, draws each item's fate from a source of the item's own subject, and
// hands over one item at a time, each at a nanosecond of its own. So the same seed has the same
// trace, which TestTheSameSeedHasTheSameTraceInTwoProcesses checks; the scheduler of goroutines can
// still make an exception on a very busy machine. A process that lives plans has one
// core and no preemption by signals, and each core has such a process.
//
// A day has two phases. In the first, of at most five minutes (one day in a hundred has longer
// ones), anything may fail. Then the noise ends: cuts and deaths stay, all edges that are joined by
// links must come level (hold the same), and what is told must be known exactly where links lead. In
// the second phase one connected part is healed, by its last topology, whatever becomes of the rest,
// and must come level. What hardly ever comes together by chance is added to some days (endings.go), such as
// clients that tell where they are at the moment that their edge is told to stop. Some days end
// with a clock that is wrong, or with all killed and started at once, now and then before JetStream is
// there.
//
//	go test ./test/sim                            a fixed set of days, and the plans that were kept
//	go test ./test/sim -run One -sim.seed 7       one day: its plan, and the hash of its trace
//	… -sim.plan FILE                              the same with the plan in a file,
//	… -sim.write FILE                             which this writes
//	… -sim.trace FILE -sim.log FILE               its trace, and what its edges log
//	… -sim.shrink                                 the least of its plan that still fails, as Go
//	go test ./test/sim -run Many -sim.seeds 10000 days from -sim.from on, until one fails
//	go test ./test/sim -run Planted -sim.faults all -sim.times 3 -timeout 0
//	                                              the table of docs/trust.md: each fault, planted until found
//	go test ./test/sim -run Large -sim.edges 500 -timeout 0
//	                                              a measurement of docs/performance.md
//
// # Which checker sees which rule
//
//	S1, S2  lookAt: no run's line of a client ever goes back; unlike: all hold the same bytes
//	S3      checkQuiet: nothing circulates in a herd at rest
//	S4      lookAt: nothing is forgotten too early, or told too late; herdtest.Judge: what is past is no promise;
//	        unlikeInBucket: what is forgotten leaves the bucket
//	H1      checkSend: to neighbours only; lull: what is told is known where links lead, only there
//	H3      checkSend: revisions in order; unlike: lags end; checkStarves: whoever moves most is
//	        heard of
//	H4      unlike: whoever restarted empty has all again
//	H5      checkSend: the window, and the bytes of a message; lookAtRun: no edge is ready with a
//	        max_payload that is too small; unlike: what did not fit goes when it does
//	H6      unlike: level 15 s after healing; checkSend: messages in a heartbeat are bounded;
//	        checkAckSent: what is held of a neighbour's last two runs is not forgotten; checkBack:
//	        who is connected anew says at once what it said when the connection was lost
//	H7      unlike: whoever started has joined; blackout: nobody serves clients with less than
//	        the journals hold; lookAtRun: nobody joins for ever
//	H8      unlike: links are up where somebody is there, and nowhere else, after dead
//	        subscriptions and connections too; checkQuiet: at rest there are heartbeats only;
//	        probeClock: whose clock is wrong is not ready
//	H9      unlike, after lies, spoilt messages and clocks that stepped; checkSend: the head never goes
//	        back, and good-byes by turns with other words make no storm
//	H10     unlike: one run per name; look: an earlier claim is answered; checkClaims: who is connected
//	        anew claims its name; checkOwn: whoever takes a bucket has the name
//	D1      unlikeInBucket: the bucket holds what the edge holds of its own clients
//	D2      unlike: what only a journal held is back
//	D3      owed and herdtest.Judge: nothing promised is lost; atOnce: what is promised at once is
//	        in the bucket
//	D4      blackout: with HERD_JOURNAL=on nobody serves clients before JetStream is there
//	D5      look: nobody writes a bucket that another run owns; owed: after twins, stalls, buckets that are emptied, made anew or go back; lookAtRun,
//	        checkPromise: no bucket is trusted that may drop what it acknowledged; checkRefusal: an
//	        operator's write costs no promise
//	D6      checkRefusal: known clients are taken by a bucket that is nearly full, and while much
//	        is deleted; unlikeInBucket: what was left out is written when there is room
//	L2 to L5  watcher.take: each line of a watch fits what was told before, and none goes back;
//	        unlikeTold: in the end a watcher has what a plain scan of its edge finds, after kills,
//	        reconnects, forgetting and times when it did not read
//	C11     herdtest.Judge: a repetition is no newer line
//	C19     ended: a run that was not told to stop, and has its name, does not end; lookAtRun: a
//	        stop ends in time; checkHandedOver: neighbours are handed what they lack;
//	        checkInTime: answers do not wait for the journal for as long as a stop takes
//
// # What it cannot see
//
//   - Sockets: the client port, C1 to C5, C14, C18, C20. A watcher comes to it over a pipe, in one
//     day of three. Other clients ask over the model of NATS, one command at a time: answers that wait for each other in broker are seen by broker's tests.
//   - JetStream itself, the kernel, and the time that code takes. Tests in real time see these.
//   - H2 and the encoding of headers (a Herd-Interval under 10 ms): messages are handed over as
//     values. Tests of broker see these.
//   - A run that is stopped by a signal: a stall holds back what it sends and is sent, and its
//     calls of the bucket, but its timers go on.
//   - H3 for the journal, whose batches are a thousand entries, and loading that takes minutes
//     (D6): days have too few clients. Tests of edge/journal see these.
//   - Two edges whose clocks are wrong alike at the same time (S4).
package sim
