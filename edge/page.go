package edge

import (
	"context"
	"time"

	"herd/broker"
	"herd/edge/admin"
	"herd/edge/config"
	"herd/edge/inquiry"
	"herd/edge/overview"
)

// adminConfig is the admin port of an edge by itself: its page shows the whole herd, as far as the
// broker lets an edge ask the others.
func (e *Edge) adminConfig() admin.Config {
	version, commit := Version()
	cfg := admin.Config{
		Version: version, Commit: commit, Pprof: e.cfg.Pprof, Hosts: e.cfg.HTTPHosts, StopTimeout: e.stopTime().adminEnd(), Log: e.log,
		Name: e.cfg.Edge, Prefix: e.cfg.SubjectPrefix, Map: MapSwitch(&e.cfg), Verify: inquiry.Verify,
	}
	if conn, ok := e.conn.(inquiry.Conn); ok { // a model of a broker has no questions
		cfg.Others = inquiry.Of(conn, e.cfg.SubjectPrefix, "herd page --nkey operator.nk")
	}
	return cfg
}

// MapSwitch is whether the page of an admin port that is configured so may show positions, and
// why not (HERD_MAP).
func MapSwitch(cfg *config.Config) overview.Switch {
	switch {
	case cfg.ShowsMap():
		return overview.Switch{On: true}
	case cfg.Map == config.MapOff:
		return overview.Switch{Why: "HERD_MAP is off: positions are private. HERD_MAP=on shows them."}
	}
	return overview.Switch{Why: "Positions are private, and HERD_HTTP is not a loopback address. HERD_MAP=on shows them all the same."}
}

// answerOwn answers this process's own page as the edge's endpoints answer over NATS, with or
// without a broker (docs/PROTOCOL.md, NATS endpoints).
func (e *Edge) answerOwn(ctx context.Context, endpoint string, payload []byte) ([]byte, error) {
	var reply broker.Reply
	if why := e.whyJoining(); why != "" && endpoint != "client" && endpoint != "cells" {
		return nil, &admin.Refusal{Code: "503", Text: why}
	}
	switch endpoint {
	case "client":
		reply = e.clientOne(payload)
	case "cells":
		reply = e.cellsOne(payload)
	case "digest":
		reply = e.digestOne(payload)
	case "whatsat":
		reply = e.whereOne(ctx, payload, time.Now())
	case "whosat":
		reply = e.whoOne(payload, time.Now())
	default:
		return nil, &admin.Refusal{Code: "404", Text: "no such endpoint: " + endpoint}
	}
	switch {
	case reply.Refused:
		return nil, &admin.Refusal{Code: "400", Text: "refused", Data: reply.Answer}
	case reply.Code != "":
		return nil, &admin.Refusal{Code: reply.Code, Text: reply.Why}
	}
	return reply.Answer, nil
}
