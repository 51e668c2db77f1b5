// Package options says where the broker is and how to log in, from the NATS_* variables. It
// is pure: it checks the values and does not open the files that they name. Package broker
// does.
package options

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// DefaultURL is the broker's URL if none is given.
const DefaultURL = "nats://127.0.0.1:4222"

// Broker says which broker to connect to and how to log in. The variables are
// those of the nats command line tool. Empty fields are not used; an empty URL
// means [DefaultURL].
type Broker struct {
	URL      string `env:"NATS_URL" envDefault:"nats://127.0.0.1:4222"` // one or more, separated by commas; may hold user info: see [Broker.Server]
	User     string `env:"NATS_USER"`
	Password Secret `env:"NATS_PASSWORD"` // needs User
	Token    Secret `env:"NATS_TOKEN"`
	Creds    string `env:"NATS_CREDS"` // file with a user's JWT and seed
	NKey     string `env:"NATS_NKEY"`  // file with a user's seed
	CA       string `env:"NATS_CA"`    // file with the authorities that may sign the broker's certificate
	Cert     string `env:"NATS_CERT"`  // file with the client certificate; needs Key
	Key      string `env:"NATS_KEY"`
}

// Validate reports everything that is wrong with the options, by the names of the variables,
// joined by [errors.Join]. It does not look at the files that the options name. The errors
// hold no secrets.
func (o Broker) Validate() error {
	var problems []error
	bad := func(variable string, err error) {
		problems = append(problems, fmt.Errorf("%s: %w", variable, err))
	}
	servers := o.Servers()
	if len(servers) == 0 {
		bad("NATS_URL", errors.New("no server"))
	}
	for _, server := range servers {
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
	if o.Password.Reveal() != "" && o.User == "" {
		bad("NATS_PASSWORD", errors.New("a password needs NATS_USER"))
	}
	if o.Cert != "" && o.Key == "" {
		bad("NATS_CERT", errors.New("a certificate needs NATS_KEY"))
	}
	if o.Key != "" && o.Cert == "" {
		bad("NATS_KEY", errors.New("a key needs NATS_CERT"))
	}
	return errors.Join(problems...)
}

// Server returns the URL in a form that people may see: without user info.
func (o Broker) Server() string {
	servers := o.Servers()
	for i, s := range servers {
		servers[i] = Redact(s)
	}
	return strings.Join(servers, ",")
}

// Servers returns the single URLs. They may hold user info.
func (o Broker) Servers() []string {
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

// checkServer reports why text is not a broker's URL. The error never contains the text,
// which may hold a password.
func checkServer(text string) error {
	if !strings.Contains(text, "://") {
		text = "nats://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // e itself quotes all of the text
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
			return fmt.Errorf("port %s is not between 1 and 65535", p)
		}
	}
	return nil
}

// Redact removes the user info from a URL. It does not show text that is not a URL.
func Redact(text string) string {
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
