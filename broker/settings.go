package broker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"herd/broker/certs"
	"herd/broker/options"
)

// CheckFiles reports everything that is wrong with the files that the options name, by the
// names of the variables, joined by [errors.Join]. [options.Broker.Validate] checks the
// options themselves. It connects to nothing. The errors hold no secrets.
func CheckFiles(o options.Broker) error {
	s := settings()
	return login(&s, o, slog.New(slog.DiscardHandler))
}

// login sets in s what the options name. It joins all problems with the files. log is told of
// renewed certificate files.
func login(s *nats.Options, o options.Broker, log *slog.Logger) error {
	var problems []error
	bad := func(variable string, err error) {
		problems = append(problems, fmt.Errorf("%s: %w", variable, err))
	}
	apply := func(variable string, option nats.Option) {
		if err := option(s); err != nil {
			bad(variable, err)
		}
	}

	s.Servers = o.Servers()
	s.User, s.Password, s.Token = o.User, o.Password.Reveal(), o.Token.Reveal()
	if o.Creds != "" {
		// nats.go reads the file at each login; this is only a check.
		apply("NATS_CREDS", nats.UserCredentials(o.Creds))
		if s.UserJWT != nil {
			if _, err := s.UserJWT(); err != nil {
				bad("NATS_CREDS", err)
			} else if _, err := s.SignatureCB([]byte("try")); err != nil {
				bad("NATS_CREDS", err)
			}
		}
	}
	if o.NKey != "" {
		if option, err := nats.NkeyOptionFromSeed(o.NKey); err != nil {
			bad("NATS_NKEY", err)
		} else {
			apply("NATS_NKEY", option)
		}
	}

	// nats.go asks for both before each handshake. Its own options would fail the handshake
	// while a renewal is half written; a Keeper continues with what it has.
	if o.CA != "" {
		if keeper, err := certs.Keep(certs.Files{CA: o.CA}, log); err != nil {
			bad("NATS_CA", err)
		} else {
			apply("NATS_CA", nats.RootCAs(o.CA))
			s.RootCAsCB = func() (*x509.CertPool, error) {
				keeper.Look()
				return keeper.Now().CA, nil
			}
		}
	}
	if o.Cert != "" && o.Key != "" {
		if keeper, err := certs.Keep(certs.Files{Cert: o.Cert, Key: o.Key}, log); err != nil {
			bad("NATS_CERT, NATS_KEY", errors.New(strings.ReplaceAll(err.Error(), "\n", "; ")))
		} else {
			apply("NATS_CERT, NATS_KEY", nats.ClientCert(o.Cert, o.Key))
			s.TLSCertCB = func() (tls.Certificate, error) {
				keeper.Look()
				return *keeper.Now().Pair, nil
			}
		}
	}
	return errors.Join(problems...)
}

// settings returns the settings of every connection of the herd. Each has its reason next to
// it.
func settings() nats.Options {
	s := nats.GetDefaultOptions()
	s.MaxReconnect = -1           // without limit
	s.IgnoreAuthErrorAbort = true // a second refusal must not end the connection: rights may be granted again
	s.ReconnectBufSize = -1       // H6: publishing while disconnected fails, and nothing is sent
	s.ReconnectWait = retryWait   //
	s.ReconnectJitter = retryJitter
	s.ReconnectJitterTLS = time.Second // TLS handshakes cost the broker more
	s.Timeout = connectTimeout         // nats.go holds its lock meanwhile, so all publishers wait
	s.FlusherTimeout = writeTimeout    // for the same reason
	s.ReconnectOnFlusherError = true
	s.PingInterval = 10 * time.Second
	s.MaxPingsOut = 2
	s.NoEcho = true         // H10: a run must not receive its own claims
	s.SkipHostLookup = true // the dialer resolves names within its time limit
	return s
}
