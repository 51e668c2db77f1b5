// Package overview holds what edges say about themselves (Status), and derives what that says
// about the whole herd (Herd): which edges are silent, which links are down and since when, what
// would cut the herd in parts if lost, what is wrong, and all of it in one sentence. `herd
// status`, the status page and its JSON share it.
//
// The package is pure. It knows nothing of HTTP, of NATS, of clocks, or of how statuses arrive.
package overview
