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
	brief: "exit 0 if edges or a NATS server are healthy, else 1",
	more: `
Requests /readyz from the admin port at URL, unless URL has a path of its own. With
--nats nats://HOST:PORT it logs in to a NATS server, using the NATS_* variables, and
waits for a reply; with --nats http://HOST:PORT it requests /healthz from the server's
monitoring port, which also reports whether JetStream has caught up.
`,
	setup: func(fs *flag.FlagSet) action {
		web := fs.String("http", "http://127.0.0.1:12080", "`URL` of an admin port")
		nats := fs.String("nats", "", "`URL` of a NATS server, or of its monitoring port")
		timeout := fs.Duration("timeout", 5*time.Second, "longest `DURATION` to wait")
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

// webHealth requests path at the URL in text and prints the answer, whatever its status.
func webHealth(ctx context.Context, p *process, text, path string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer, err := askWeb(ctx, text, path)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(p.stdout, io.LimitReader(answer.Body, 64<<10)); err != nil {
		return fmt.Errorf("read the answer from %s: %w", answer.Request.URL, err)
	}
	return wantOK(answer)
}

// askWeb requests path at the URL in text, unless the URL has a path of its own. The caller
// closes the answer's body.
func askWeb(ctx context.Context, text, path string) (*http.Response, error) {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return nil, usageError(fmt.Sprintf("%q is not an http or https URL", text))
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = path
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, usageError(err.Error())
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // for one request only
	return (&http.Client{Transport: transport}).Do(request)
}

// wantOK returns an error that names the URL, unless the answer is 200.
func wantOK(answer *http.Response) error {
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", answer.Request.URL, answer.Status)
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
