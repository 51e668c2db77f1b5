package broker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"herd/broker/certs"
)

// DefaultURL is where the broker is looked for when nothing else is said.
const DefaultURL = "nats://127.0.0.1:4222"

// Options say which broker to connect to and how to log in. The variables are
// those of the nats command line tool. Empty fields are not used; an empty URL
// means [DefaultURL].
type Options struct {
	URL      string `env:"NATS_URL" envDefault:"nats://127.0.0.1:4222"` // one or more, parted by commas; may hold user info: see [Options.Server]
	User     string `env:"NATS_USER"`
	Password Secret `env:"NATS_PASSWORD"` // needs User
	Token    Secret `env:"NATS_TOKEN"`
	Creds    string `env:"NATS_CREDS"` // file with a user's JWT and seed
	NKey     string `env:"NATS_NKEY"`  // file with a user's seed
	CA       string `env:"NATS_CA"`    // file with the certificates that may sign the broker's
	Cert     string `env:"NATS_CERT"`  // file with the client certificate; needs Key
	Key      string `env:"NATS_KEY"`
}

// Validate reports everything that is wrong with the options at once, each by
// the name of its variable, joined by [errors.Join]. It reads the files that
// the options name, but connects to nothing. No secret is in the errors.
func (o Options) Validate() error {
	_, err := o.settings(slog.New(slog.DiscardHandler))
	return err
}

// Server is the URL as it may be shown to people: without user info.
func (o Options) Server() string {
	servers := o.servers()
	for i, s := range servers {
		servers[i] = redact(s)
	}
	return strings.Join(servers, ",")
}

func (o Options) servers() []string {
	text := o.URL
	if strings.TrimSpace(text) == "" {
		text = DefaultURL
	}
	var servers []string
	for s := range strings.SplitSeq(text, ",") {
		if s = strings.TrimSpace(s); s != "" {
			servers = append(servers, s)
		}
	}
	return servers
}

// settings are the options as nats.go takes them, with all problems joined. log is
// told of certificate files that are renewed.
func (o Options) settings(log *slog.Logger) (nats.Options, error) {
	s := settings()
	var problems []error
	bad := func(variable string, err error) {
		problems = append(problems, fmt.Errorf("%s: %w", variable, err))
	}
	apply := func(variable string, option nats.Option) {
		if err := option(&s); err != nil {
			bad(variable, err)
		}
	}

	s.Servers = o.servers()
	if len(s.Servers) == 0 {
		bad("NATS_URL", errors.New("no server"))
	}
	for _, server := range s.Servers {
		if err := checkServer(server); err != nil {
			bad("NATS_URL", err)
		}
	}

	var logins []string
	for _, l := range []struct{ variable, value string }{
		{"NATS_USER", o.User}, {"NATS_TOKEN", o.Token.Reveal()}, {"NATS_CREDS", o.Creds}, {"NATS_NKEY", o.NKey},
	} {
		if l.value != "" {
			logins = append(logins, l.variable)
		}
	}
	if len(logins) > 1 {
		bad(strings.Join(logins, ", "), errors.New("more than one way to log in"))
	}
	s.User, s.Password, s.Token = o.User, o.Password.Reveal(), o.Token.Reveal()
	if s.Password != "" && s.User == "" {
		bad("NATS_PASSWORD", errors.New("a password needs NATS_USER"))
	}
	if o.Creds != "" {
		// nats.go reads the file at each login; here it is only tried.
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

	// nats.go asks for both before each handshake. Its own options would fail it while a
	// renewal is half written; a Keeper goes on with what it has.
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
	switch {
	case o.Cert != "" && o.Key != "":
		if keeper, err := certs.Keep(certs.Files{Cert: o.Cert, Key: o.Key}, log); err != nil {
			bad("NATS_CERT, NATS_KEY", errors.New(strings.ReplaceAll(err.Error(), "\n", "; ")))
		} else {
			apply("NATS_CERT, NATS_KEY", nats.ClientCert(o.Cert, o.Key))
			s.TLSCertCB = func() (tls.Certificate, error) {
				keeper.Look()
				return *keeper.Now().Pair, nil
			}
		}
	case o.Cert != "":
		bad("NATS_CERT", errors.New("a certificate needs NATS_KEY"))
	case o.Key != "":
		bad("NATS_KEY", errors.New("a key needs NATS_CERT"))
	}
	return s, errors.Join(problems...)
}

// settings are those of every connection of the herd, wherever it leads. Why
// each is as it is stands beside it.
func settings() nats.Options {
	s := nats.GetDefaultOptions()
	s.MaxReconnect = -1           // for ever
	s.IgnoreAuthErrorAbort = true // a second refusal must not end the connection: rights come back
	s.ReconnectBufSize = -1       // H6: what is published while disconnected errs, and did not happen
	s.ReconnectWait = retryWait   //
	s.ReconnectJitter = retryJitter
	s.ReconnectJitterTLS = time.Second // handshakes cost the broker more
	s.Timeout = connectTimeout         // nats.go holds its lock meanwhile, and all publishers wait
	s.FlusherTimeout = writeTimeout    // likewise
	s.ReconnectOnFlusherError = true
	s.PingInterval = 10 * time.Second
	s.MaxPingsOut = 2
	s.NoEcho = true         // H10: a run does not hear its own claims
	s.SkipHostLookup = true // the dialer looks up within its time limit
	return s
}

// checkServer reports why text is no broker's URL. The text itself is never in
// the error: it may hold a password.
func checkServer(text string) error {
	if !strings.Contains(text, "://") {
		text = "nats://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // e itself quotes the whole text
		}
		if strings.Contains(text, "@") {
			return errors.New("not a URL") // even the inner error may quote a part
		}
		return fmt.Errorf("not a URL: %w", err)
	}
	switch u.Scheme {
	case "nats", "tls", "ws", "wss":
	default:
		return fmt.Errorf("unknown scheme %q", u.Scheme)
	}
	if u.Hostname() == "" {
		return errors.New("no host")
	}
	if p := u.Port(); p != "" {
		if _, err := strconv.ParseUint(p, 10, 16); err != nil {
			return fmt.Errorf("port %s is not one of 1 to 65535", p)
		}
	}
	return nil
}

// redact takes the user info out of a URL. What is no URL is not shown at all.
func redact(text string) string {
	full := text
	if !strings.Contains(full, "://") {
		full = "nats://" + full
	}
	u, err := url.Parse(full)
	if err != nil {
		return "(not a URL)"
	}
	u.User = nil
	return u.String()
}
