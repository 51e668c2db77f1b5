// Package client speaks the line protocol (docs/PROTOCOL.md, C) from the client's
// side, over TCP or TLS.
//
// [Client] is for programs: it may be called from any goroutine, pipelines what
// they ask over one connection, and goes on at the next of several addresses when
// that breaks. [Conn] is one connection without goroutines, for those who decide
// themselves when to send and when to receive.
//
//	c, err := client.New(client.Config{Addrs: []string{"127.0.0.1:12000", "127.0.0.1:12001"}})
//	...
//	defer c.Close()
//	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
//	defer cancel()
//	at, err := c.IAMAT(ctx, "kiwi", client.Location(34.06893, -118.445127), time.Now())
//
// # Units
//
// Times are client times, exact to the nanosecond, from 1970 to the year 2261 (C8).
// Locations are ISO 6709 degrees, latitude first (C7). Radii are kilometres (C12).
// Client ids are 1 to 1024 bytes without white space (C6); they need not be UTF-8.
//
// # Refusals
//
// An answer `? ` is a [RefusedError]. It says that the edge did not do what the
// command asks for, with one exception: an edge that answers only what its journal
// holds (HERD_DURABILITY=journal) refuses a valid IAMAT whose entry was not
// confirmed in time, and that IAMAT may still take effect (D3). So a refused
// IAMAT is not known to be without effect. A refused WHATSAT says that this edge
// does not know the client (C13); another edge may.
//
// # When a connection breaks
//
// What had no answer then may or may not have taken effect. A Client sends it again,
// in order, at the next address, until its context ends. That is safe: an IAMAT
// carries its own time, and of two reports the one with the later client time counts,
// however often and in whatever order they arrive (S2, C11); a WHATSAT changes
// nothing. A repeated IAMAT is answered by the edge that got the repetition, with
// its own name and skew, while the herd may hold the line of the first. With
// [Config].NoRepeat such commands fail with [ErrBroken] and the caller decides.
//
// The next edge may not yet have heard what the last one was told: a WHATSAT after
// a reconnect may be refused, or answer with an older position.
//
// The package knows nothing of what an edge does with a command, of NATS or of the
// herd's topology. It connects only to the addresses that it is given.
package client
