// Package edge is one edge's life, and the only place where its rooms meet.
//
//	client (TCP lines)              operator (HTTP)
//	     │                               │
//	edge/server                      edge/admin
//	     │ complete lines of a read
//	edge/command ───── edge/wire     edge/transcript
//	     │ one batch    (grammar)    (what went in and out)
//	edge/position
//	the newest line a client, one order of changes
//	  │ cursors     ▲ merge
//	edge/link (one a neighbour)      edge/journal (own clients)
//	  │ messages, acks                    │ atomic batches
//	broker ── herd.at.<from>.<to> ── NATS ── KV herd_<edge>
//
// One update's way: the server stamps when its read returned and hands the
// complete lines to a command session, which parses them, merges them into the
// table as one batch and answers. If a line is newer than the held one (S2) it
// gets the next revision, and each link that waits wakes: it reads what is
// behind its cursor, but for what its neighbour taught it, and sends that as one message.
// The neighbour merges, its own links wake, and it acks. What is not newer goes
// nowhere: that ends the flood (S3).
//
// The package knows all rooms and converts between their types (adapt.go). It
// knows nothing of how any of them does its work.
package edge
