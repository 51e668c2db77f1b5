package natsconf

import (
	"fmt"
	"strings"

	"herd/broker/topology"
)

// Accounts that are not an edge's. An edge's account has the edge's name, so no edge may have
// one of these names.
const (
	OperatorAccount = "operator" // reads everything and changes nothing
	ClientAccount   = "client"   // for trusted services: the endpoints of every edge
	SystemAccount   = "sys"      // the server's own, called $SYS by default
)

const systemAccountName = "$SYS"

// OtherAccounts returns the accounts of a herd's broker that are not an edge's.
func OtherAccounts() []string { return []string{OperatorAccount, SystemAccount, ClientAccount} }

// CheckEdges reports edges of the herd with the name of one of the other accounts.
func CheckEdges(herd *topology.Graph) error {
	var taken []string
	for _, name := range OtherAccounts() {
		if herd.Has(name) {
			taken = append(taken, name)
		}
	}
	if len(taken) > 0 {
		return fmt.Errorf("no edge may be called %s: an account at the broker has that name", strings.Join(taken, ", "))
	}
	return nil
}

// An account is isolated: a message in it is not seen outside, except through its exports
// where another account imports them. This keeps edges apart. Permissions of a user would
// not: a reply subject is not checked against them, and with it an edge could make a
// neighbour or JetStream publish on a link of others.
type account struct {
	name string
	user string // its public key
	// publish is what the user may publish in the account; empty means everything. It is no
	// protection, but tells a user who has another edge's key about the mistake, and keeps
	// them from publishing as that edge.
	publish []string
	// journal says that the account may have a journal.
	journal bool
	exports []export
	imports []imported
}

// An export is what others may import: a stream, or a service, for which answers says how
// many answers a request may have.
type export struct {
	subject string
	answers answers
	to      []string // accounts
}

// imported is what an account imports from another.
type imported struct {
	from    string // account
	subject string
	as      string // its subject here, if different
	service bool
}

type answers int

const (
	stream     answers = iota // not a service: published messages
	oneAnswer                 // a service with one answer per request
	anyAnswers                // a service with many answers per request
)

// always are the subjects that every edge's user must be allowed to publish on: answers to
// questions of its own run and of other accounts, and what JetStream and its tools send to
// the server.
var always = []string{"_INBOX.>", "_R_.>", "$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.ACK.>", "$JS.FC.>", "$JS.SNAPSHOT.>", "$SYS.REQ.USER.INFO"}

// accounts returns the rights of a whole herd (H1): exports and imports along the links, and
// those of the operator and of trusted services. keys are the users' public keys by name.
func accounts(herd *topology.Graph, prefix string, keys map[string]string) []account {
	operator := account{name: OperatorAccount, user: keys[OperatorAccount]}
	client := account{name: ClientAccount, user: keys[ClientAccount]}
	var all []account
	for _, edge := range herd.Edges() {
		a := edgeAccount(herd, prefix, edge)
		a.user = keys[edge]
		for _, e := range a.exports {
			for _, to := range e.to {
				i := imported{from: edge, subject: e.subject, service: e.answers != stream}
				switch to {
				case OperatorAccount:
					if rest, ok := strings.CutPrefix(e.subject, "$JS."); ok {
						i.as = "JS." + edge + "." + rest
					}
					operator.imports = append(operator.imports, i)
				case ClientAccount:
					client.imports = append(client.imports, i)
				}
			}
		}
		all = append(all, a)
	}
	return append(all, operator, client, account{name: systemAccountName, user: keys[SystemAccount]})
}

// edgeAccount returns the account of one edge, without its user.
func edgeAccount(herd *topology.Graph, prefix, edge string) account {
	subject := func(kind, from, to string) string { return prefix + "." + kind + "." + from + "." + to }
	bucket := prefix + "_" + edge
	a := account{name: edge, journal: true, publish: []string{subject("join", edge, edge), "$KV." + bucket + ".>"}}
	for _, kind := range []string{"$JS.API.*.*.KV_", "$JS.API.*.*.*.KV_"} { // STREAM.INFO, CONSUMER.MSG.NEXT and the like
		a.publish = append(a.publish, kind+bucket, kind+bucket+".>")
	}
	a.publish = append(a.publish, always...)
	for _, n := range herd.Neighbours(edge) {
		a.publish = append(a.publish, subject("at", edge, n), subject("ack", edge, n), subject("join", edge, n))
		a.exports = append(a.exports,
			export{subject: subject("at", edge, n), to: []string{n, OperatorAccount}},
			export{subject: subject("ack", edge, n), to: []string{n, OperatorAccount}},
			export{subject: subject("join", n, edge), answers: oneAnswer, to: []string{n}},
		)
		a.imports = append(a.imports,
			imported{from: n, subject: subject("at", n, edge)},
			imported{from: n, subject: subject("ack", n, edge)},
			imported{from: n, subject: subject("join", edge, n), service: true},
		)
	}
	endpoint := prefix + ".edge." + edge + "."
	a.exports = append(a.exports,
		export{subject: endpoint + "status", answers: oneAnswer, to: []string{OperatorAccount, ClientAccount}},
		export{subject: endpoint + "whatsat", answers: oneAnswer, to: []string{OperatorAccount, ClientAccount}},
		export{subject: endpoint + "whosat", answers: oneAnswer, to: []string{OperatorAccount, ClientAccount}},
		export{subject: endpoint + "iamat", answers: oneAnswer, to: []string{ClientAccount}},
		// What is held of clients: for the operator alone.
		export{subject: endpoint + "client", answers: oneAnswer, to: []string{OperatorAccount}},
		export{subject: endpoint + "cells", answers: oneAnswer, to: []string{OperatorAccount}},
		export{subject: endpoint + "digest", answers: oneAnswer, to: []string{OperatorAccount}},
		// The micro service: discovery and statistics.
		export{subject: "$SRV.>", answers: anyAnswers, to: []string{OperatorAccount}},
		// One value of the journal: `nats kv get` uses these two.
		export{subject: "$JS.API.STREAM.INFO.KV_" + bucket, answers: oneAnswer, to: []string{OperatorAccount}},
		export{subject: "$JS.API.DIRECT.GET.KV_" + bucket + ".>", answers: oneAnswer, to: []string{OperatorAccount}},
	)
	return a
}
