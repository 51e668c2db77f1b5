package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"herd/edge/config"
)

// healthLimit is the longest wait for the edge's answer.
const healthLimit = 2 * time.Second

// health asks the edge that runs with this environment whether it is ready, and prints the
// answer.
func health(environ []string, stdout, stderr io.Writer) int {
	answer, err := askReady(environ)
	fmt.Fprint(stdout, answer)
	if err != nil {
		fmt.Fprintf(stderr, "edge health: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// askReady returns the body of /readyz, and an error unless it says that the edge is ready.
func askReady(environ []string) (answer string, err error) {
	address, err := adminAddress(environ)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), healthLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return "", err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no proxy: the edge is on this machine
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return string(body), errors.New(response.Status)
	}
	return string(body), nil
}

// adminAddress returns the address of the admin port of an edge with this environment. It
// reads only HERD_HTTP: other mistakes are for the running edge to report.
func adminAddress(environ []string) (string, error) {
	only := []string{"HERD_EDGE=any", "HERD_TOPOLOGY=any"}
	for _, pair := range environ {
		if strings.HasPrefix(pair, "HERD_HTTP=") {
			only = append(only, pair)
		}
	}
	cfg, _, err := config.FromEnvironment(only)
	if err != nil {
		return "", err
	}
	if cfg.HTTP == "" {
		return "", errors.New("HERD_HTTP is off: there is no admin port to ask")
	}
	host, port, err := net.SplitHostPort(cfg.HTTP)
	if err != nil {
		return "", err
	}
	if port == "0" {
		return "", errors.New("HERD_HTTP has port 0: the admin port is unknown")
	}
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return net.JoinHostPort(host, port), nil
}
