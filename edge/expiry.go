package edge

import (
	"context"
	"time"

	"herd/broker/certs"
	"herd/edge/overview"
)

// certificateEvery is how often an edge looks whether its certificate has expired.
const certificateEvery = 10 * time.Second

// An expiry is what the log was told of a certificate's end.
type expiry struct {
	forBroker bool      // it is shown to the broker, not to clients
	at        time.Time // of the certificate that was last looked at
	level     int       // how much of it was told
}

// look says what is to be told now of a certificate that ends at a time; "": nothing new.
func (x *expiry) look(now, at time.Time) string {
	if !at.Equal(x.at) {
		x.at, x.level = at, 0
	}
	of, refused := "certificate for clients", "clients refuse this edge"
	if x.forBroker {
		of, refused = "certificate for the broker", "the broker refuses the next connection"
	}
	levels := [...]struct {
		before time.Duration
		text   string
	}{
		{overview.CertificateWarning, of + " expires within two weeks"},
		{24 * time.Hour, of + " expires within a day"},
		{0, of + " has expired: " + refused},
	}
	level := 0
	for level < len(levels) && at.Sub(now) <= levels[level].before {
		level++
	}
	if level <= x.level {
		return ""
	}
	x.level = level
	return levels[level-1].text
}

// watchCertificates tells the log, until ctx ends, that the client port's certificate or the one
// for the broker is about to expire, and that it has: from then on no client may come that brings
// it to light, and a connection to the broker goes on until it breaks, which may be long after.
func (e *Edge) watchCertificates(ctx context.Context) error {
	tick := time.NewTicker(certificateEvery)
	defer tick.Stop()
	var clients expiry
	broker := expiry{forBroker: true}
	look := func(told *expiry, file string, at time.Time) {
		if text := told.look(time.Now(), at); text != "" {
			e.log.Warn(text, "file", file, "expires", at.UTC().Format(time.RFC3339))
		}
	}
	for {
		if e.certs != nil {
			look(&clients, e.cfg.TLSCert, e.certs.Now().Pair.Leaf.NotAfter)
		}
		if files := e.brokerFiles(); files.Cert != "" {
			// Files that are of no use just now are told of when the connection is made anew.
			if held, err := certs.Read(files); err == nil {
				look(&broker, files.Cert, held.Pair.Leaf.NotAfter)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// brokerFiles are those of the certificate that this edge shows to the broker, if it shows one.
func (e *Edge) brokerFiles() certs.Files {
	if e.cfg.EmbeddedNATS || e.shared.Embedded != nil || e.shared.Dial != nil {
		return certs.Files{}
	}
	return certs.Files{Cert: e.cfg.Broker.Cert, Key: e.cfg.Broker.Key}
}
