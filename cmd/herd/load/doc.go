// Package load speaks the line protocol from the client's side: a Client for one
// conversation, and a Generator that keeps many connections busy on a schedule
// and checks every answer.
//
// It knows how commands and answers are written, and nothing of what an edge
// does with them, of NATS or of the herd's topology. It loads only the addresses
// that it is given: it looks for no others and follows no redirection.
package load
