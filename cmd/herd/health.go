package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"herd/broker"
)

var healthCommand = command{
	name:  "health",
	brief: "exit 0 if edges or a NATS server are well, 1 if not",
	more: `
Asks /readyz at the URL of an admin port, unless it has a path of its own. With
--nats nats://HOST:PORT it logs in at a NATS server, by the NATS_* variables, and
waits for a sign of life; with --nats http://HOST:PORT it asks the server's
monitoring port for /healthz, which says too whether JetStream has caught up.
`,
	setup: func(fs *flag.FlagSet) action {
		web := fs.String("http", "http://127.0.0.1:12080", "`URL` of an admin port")
		nats := fs.String("nats", "", "`URL` of a NATS server, or of its monitoring port")
		timeout := fs.Duration("timeout", 5*time.Second, "how long to wait, a `DURATION`")
		return func(ctx context.Context, p *process, _ []string) error {
			switch got := given(fs); {
			case got["http"] && got["nats"]:
				return usageError("--http or --nats, not both")
			case isWeb(*nats):
				return webHealth(ctx, p, *nats, "/healthz", *timeout)
			case got["nats"]:
				vars := natsVariables(p.environ)
				vars["NATS_URL"] = *nats
				return natsHealth(ctx, vars, *timeout)
			default:
				return webHealth(ctx, p, *web, "/readyz", *timeout)
			}
		}
	},
}

func isWeb(text string) bool {
	return strings.HasPrefix(text, "http://") || strings.HasPrefix(text, "https://")
}

// webHealth asks for path at the URL in text, unless that has one of its own.
func webHealth(ctx context.Context, p *process, text, path string, timeout time.Duration) error {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return usageError(fmt.Sprintf("%q is no URL of a web server", text))
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = path
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return usageError(err.Error())
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err // names the URL
	}
	defer answer.Body.Close()
	if _, err := io.Copy(p.stdout, io.LimitReader(answer.Body, 64<<10)); err != nil {
		return fmt.Errorf("read the answer of %s: %w", u, err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", u, answer.Status)
	}
	return nil
}

func natsHealth(ctx context.Context, vars map[string]string, timeout time.Duration) error {
	options, err := natsOptions(vars)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := dialNATS(ctx, options, broker.Events{}, timeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Alive(ctx)
}
