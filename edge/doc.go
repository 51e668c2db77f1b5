// Package edge is one edge's life, and the only package that knows all the others of an edge.
//
//	client (TCP lines)              operator (HTTP)
//	     │                               │
//	edge/server                      edge/admin
//	     │ complete lines of a read
//	edge/command ───── edge/wire     edge/transcript
//	     │ one batch    (grammar)    (what went in and out)
//	edge/position
//	the newest line per client, one order of changes
//	  │ cursors     ▲ merge
//	edge/link (one per neighbour)    edge/journal (own clients)
//	  │ messages, acks                    │ atomic batches
//	broker ── herd.at.<from>.<to> ── NATS ── KV herd_<edge>
//
// One update's way: the server stamps when its read returned and hands the
// complete lines to a command session, which parses them, merges them into the
// table as one batch and answers. If a line is newer than the held one (S2) it
// gets the next revision, and the links wake: each reads what is
// behind its cursor, except what came from its neighbour, and sends that as one message.
// The neighbour merges, its own links wake, and it acks. What is not newer goes
// nowhere: that ends the flood (S3).
//
// Edge converts between the types of the other packages (adapt.go, store.go, endpoints.go). Its
// configuration comes from edge/config. It knows nothing of how the others do their work.
package edge
