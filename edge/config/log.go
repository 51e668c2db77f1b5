package config

import (
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"
)

// NewLog returns the process log for HERD_LOG_LEVEL and HERD_LOG_FORMAT, writing to w. The
// default format is text if w is a terminal, and JSON otherwise.
func NewLog(w io.Writer, cfg *Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.LogLevel, ReplaceAttr: durationsInWords}
	if cfg.LogFormat == "text" || cfg.LogFormat == "" && IsTerminal(w) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// durationsInWords writes durations with a unit in JSON too, where slog writes bare
// nanoseconds.
func durationsInWords(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
