package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// A trial asks an edge whether it takes a user's password, in each way in which apps send it. It
// reports no position.
type trial struct {
	base           *url.URL // as phones see it: its host is what the edge is asked for
	user, password string
	client         *http.Client
}

// newTrial returns a trial that connects to addr, whatever the host of base is.
func newTrial(addr string, base *url.URL, secure *tls.Config, user, password string) *trial {
	at := &url.URL{Scheme: "http", Host: base.Host, Path: "/"}
	if secure != nil {
		at.Scheme = "https"
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	return &trial{base: at, user: user, password: password, client: &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, addr)
			},
			TLSClientConfig:        secure,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (t *trial) close() { t.client.CloseIdleConnections() }

// Errors of an answer after which it may be asked again.
var (
	errDenied = errors.New("it does not take the password: is this the file that its HERD_DEVICES_USERS names, and can it read it?")
	errLater  = errors.New("it asks to come again later (503): it joins, stops, or is full")
)

// run tries until the edge has read the file, or the time is over.
func (t *trial) run(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v", timeout))
	defer cancel()
	for {
		err := t.all(ctx)
		if !errors.Is(err, errDenied) && !errors.Is(err, errLater) {
			return err
		}
		select { // the file may reach it late
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// all tries every way, and that nobody is let in without a password.
func (t *trial) all(ctx context.Context) error {
	path := "/t/" + settings{user: t.user, password: t.password}.credentials() + "/"
	for _, way := range []struct {
		path, kind, body string
		login            func(*http.Request)
		want             string
	}{
		{"/", "application/json", `{"_type":"status"}`, func(r *http.Request) { r.SetBasicAuth(t.user, t.password) }, "[]"},
		{"/", "application/json", `{"locations":[]}`, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+t.user+":"+t.password) }, `{"result":"ok"}`},
		{path, "application/x-www-form-urlencoded", "id=" + url.QueryEscape(t.user), func(*http.Request) {}, ""},
	} {
		status, body, err := t.post(ctx, way.path, way.kind, way.body, way.login)
		if err == nil {
			err = judgeStatus(status)
		}
		if err == nil && body != way.want {
			err = errors.New("it answers otherwise than an edge's port for devices")
		}
		if err != nil {
			return err
		}
	}
	// A wrong password says no more, and would be in the edge's log as somebody's guess.
	status, _, err := t.post(ctx, "/", "application/json", `{"_type":"status"}`, func(*http.Request) {})
	switch {
	case err != nil:
		return err
	case status == http.StatusOK:
		return errors.New("it lets in anybody: it has no HERD_DEVICES_USERS")
	case status == http.StatusUnauthorized:
		return nil
	}
	return judgeStatus(status)
}

// judgeStatus says what is wrong where an edge does not answer 200.
func judgeStatus(status int) error {
	switch status {
	case http.StatusOK:
		return nil
	case http.StatusUnauthorized:
		return errDenied
	case http.StatusServiceUnavailable:
		return errLater
	case http.StatusMisdirectedRequest:
		return errors.New("over plain HTTP it does not answer to the host of --url (421): HERD_DEVICES_ORIGINS must name it")
	}
	return fmt.Errorf("it answers %d %s: this is no edge's port for devices, or it speaks TLS (--tls-ca FILE)", status, http.StatusText(status))
}

// post sends a body and returns the answer. Its errors do not have the path, in which there may be a
// password.
func (t *trial) post(ctx context.Context, path, kind, body string, login func(*http.Request)) (status int, answer string, err error) {
	at := *t.base
	at.Path, at.RawPath = "", ""
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String()+path, strings.NewReader(body))
	if err != nil {
		return 0, "", errors.New("not a request that can be sent")
	}
	request.Header.Set("Content-Type", kind)
	login(request)
	response, err := t.client.Do(request)
	if err != nil {
		if outer, ok := errors.AsType[*url.Error](err); ok {
			err = outer.Err
		}
		if cause := context.Cause(ctx); ctx.Err() != nil && cause != nil {
			err = cause
		}
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	if err != nil {
		return 0, "", fmt.Errorf("read its answer: %w", err)
	}
	return response.StatusCode, string(text), nil
}
