package edge

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"herd/edge/admin"
	"herd/edge/command"
	"herd/edge/config"
	"herd/edge/devices"
	"herd/edge/livemap"
	"herd/edge/server"
)

// takeDevices takes the address of the port for devices, which tells them to come again until the
// edge is ready (V4).
func (e *Edge) takeDevices() (err error) {
	if e.cfg.Devices == "" {
		return nil
	}
	if e.devicesLn, err = net.Listen("tcp", e.cfg.Devices); err != nil {
		return fmt.Errorf("%w: %w", ErrDevicesPort, err)
	}
	return nil
}

// ErrDevicesPort is why New fails where HERD_DEVICES cannot be listened on.
var ErrDevicesPort = errors.New("port for devices (HERD_DEVICES)")

// makeDevices makes the listener for devices, which shares the client port's limits (V1).
func (e *Edge) makeDevices(lines server.Config) (err error) {
	if e.devicesLn == nil {
		return nil
	}
	cfg := devices.Config{
		Lines: lines, Gate: e.server.Gate(), TLS: e.devicesTLS(),
		Caller: e.deviceCaller,
		Session: func(c *command.Caller) server.Session {
			s := c.Session()
			s.Marked = true
			return session{s}
		},
		Users: e.cfg.DevicesUsers, Origins: e.cfg.DevicesOrigins,
		Page: livemap.Handler(),
		Wall: e.wall, StopTimeout: e.stopTime().clientsEnd(), Log: e.log,
	}
	if by := e.cfg.TLSIdentity; by != "" {
		cfg.Identities = func(state *tls.ConnectionState) []string {
			if len(state.VerifiedChains) == 0 {
				return nil
			}
			return identities(by, state.PeerCertificates[0])
		}
	}
	if e.devices, err = devices.New(cfg); err != nil {
		return fmt.Errorf("port for devices (HERD_DEVICES_USERS, HERD_DEVICES_ORIGINS): %w", err)
	}
	return nil
}

// deviceCaller is who asks on the port for devices (V5).
func (e *Edge) deviceCaller(from netip.Addr, who devices.Who) *command.Caller {
	switch {
	case who.User != "":
		return e.handler.CallerOf(from, who.User, e.cfg.DevicesSee == config.SeeAll)
	case who.Bound:
		return e.handler.CallerFor(from, who.IDs)
	}
	return e.handler.Caller(from)
}

// devicesTLS is nil for plain HTTP. With a file of users a certificate is optional (V5).
func (e *Edge) devicesTLS() *tls.Config {
	if e.certs == nil {
		return nil
	}
	auth := tls.RequireAndVerifyClientCert
	if e.cfg.DevicesUsers != "" {
		auth = tls.VerifyClientCertIfGiven
	}
	return withClients(e.certs, auth)
}

// serveDevices serves devices until the run is to end. The function that it returns ends the run,
// waits for that, and is to be called before what is below the clients stops (C19).
func (e *Edge) serveDevices(f *floors) (wait func() error) {
	if e.devices == nil {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() { // waited for by wait
		err := e.devices.Serve(f.ctx, e.devicesLn)
		f.fail(nil) // the run ends with it
		done <- err
	}()
	return func() error {
		f.fail(nil)
		if err := <-done; err != nil {
			return fmt.Errorf("serve devices: %w", err)
		}
		return nil
	}
}

// DevicesAddr is the address for devices; nil where HERD_DEVICES is off.
func (e *Edge) DevicesAddr() net.Addr {
	if e.devicesLn == nil {
		return nil
	}
	return e.devicesLn.Addr()
}

// devicesMetrics is what the port for devices has counted; nil where it is off.
func (e *Edge) devicesMetrics() *admin.DevicesMetrics {
	if e.devices == nil {
		return nil
	}
	s := e.devices.Stats()
	count := func(all []devices.Count) (counts []admin.AppCount) {
		for _, c := range all {
			counts = append(counts, admin.AppCount{App: c.App.String(), Outcome: c.Outcome.String(), Count: c.N})
		}
		return counts
	}
	return &admin.DevicesMetrics{Requests: count(s.Requests), Positions: count(s.Positions)}
}
