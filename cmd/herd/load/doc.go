// Package load generates requests over edge/client: a Generator keeps many connections busy
// on a schedule and checks every answer, and a Prober samples how long an update takes to
// reach other edges.
//
// It knows nothing of what an edge does with commands, of NATS or of the herd's topology. It
// loads only the addresses that it is given: it looks for no others and follows no redirects.
package load
