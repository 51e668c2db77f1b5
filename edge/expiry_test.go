package edge

import (
	"bytes"
	"context"
	"crypto/x509"
	"log/slog"
	"strings"
	"testing"
	"time"

	"herd/broker/certs/certstest"
	"herd/edge/config"
)

// A certificate that expires while the edge runs is reported two weeks before, a day before, and
// when it has expired: once each, and again for the next certificate.
func TestACertificateThatRunsOutIsToldOf(t *testing.T) {
	at := time.Date(2026, 11, 30, 0, 44, 25, 0, time.UTC)
	var x expiry
	for _, step := range []struct {
		before time.Duration
		at     time.Time
		want   string
	}{
		{15 * 24 * time.Hour, at, ""},
		{14 * 24 * time.Hour, at, "two weeks"},
		{13 * 24 * time.Hour, at, ""},
		{24 * time.Hour, at, "a day"},
		{time.Hour, at, ""},
		{0, at, "has expired"},
		{-time.Hour, at, ""},
		{-time.Hour, at.Add(100 * 24 * time.Hour), ""},        // renewed
		{-time.Hour, at.Add(90 * time.Minute), "a day"},       // by one that expires as soon
		{-2 * time.Hour, at.Add(90 * time.Minute), "expired"}, // and has expired already
	} {
		got := x.look(at.Add(-step.before), step.at)
		if step.want == "" && got != "" || !strings.Contains(got, step.want) {
			t.Errorf("%v before: %q, want %q", step.before, got, step.want)
		}
	}
}

// The connection to the broker outlives its certificate, and shows only when it breaks that it
// cannot be made anew: so this certificate is told of as well.
func TestTheCertificateForTheBrokerIsToldOf(t *testing.T) {
	dir := t.TempDir()
	signed := certstest.New(t, "authority").Sign(&x509.Certificate{NotAfter: time.Now().Add(time.Hour)})
	cert, key := signed.Files(dir, "edge")
	for _, test := range []struct {
		embedded bool
		want     string
	}{{false, "certificate for the broker expires within a day"}, {true, ""}} {
		var said bytes.Buffer
		e := &Edge{log: slog.New(slog.NewTextHandler(&said, nil)), cfg: config.Config{EmbeddedNATS: test.embedded}}
		e.cfg.Broker.Cert, e.cfg.Broker.Key = cert, key
		ctx, stop := context.WithCancel(t.Context())
		stop() // it looks once
		if err := e.watchCertificates(ctx); err != nil {
			t.Fatal(err)
		}
		if test.want == "" && said.Len() > 0 || !strings.Contains(said.String(), test.want) {
			t.Errorf("embedded %v: %q, want %q", test.embedded, said.String(), test.want)
		}
	}
}
