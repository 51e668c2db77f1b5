// Package httplog is what the HTTP servers of an edge log about themselves: a handler's panic,
// which is a fault of ours, as an error, and the rest, which is mostly what clients did, at the
// level debug. It
// knows nothing of what is served, and logs nothing that was sent.
package httplog

import (
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/time/rate"
)

// Rest returns the ErrorLog of a server whose handler is one of Panics.
func Rest(to *slog.Logger) *log.Logger { return slog.NewLogLogger(to.Handler(), slog.LevelDebug) }

// Panics returns a handler that logs the panics of another one as errors, ten at once and one per
// second, and closes their connections as net/http does. doing says what a request asks for, in
// words that its sender did not choose.
func Panics(to *slog.Logger, doing func(*http.Request) string, next http.Handler) http.Handler {
	often := &rate.Sometimes{First: 10, Interval: time.Second}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if cause != http.ErrAbortHandler {
				stack := debug.Stack() // has no texts, only where they are
				often.Do(func() {
					to.Error("panic while a request was answered", "request", doing(r), "error", describe(cause), "stack", string(stack))
				})
			}
			panic(http.ErrAbortHandler) // net/http closes the connection and logs nothing
		}()
		next.ServeHTTP(w, r)
	})
}

// describe returns the text of an error of the runtime, which has numbers and types, and only the
// type of anything else: its text may have what was sent.
func describe(cause any) string {
	if err, ok := cause.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("%T", cause)
}
