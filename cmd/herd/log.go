package main

import (
	"io"
	"log/slog"
	"os"

	"herd/edge"
)

// newLog makes the process log of HERD_LOG_LEVEL and HERD_LOG_FORMAT: text on a
// terminal, else JSON, unless one is chosen.
func newLog(w io.Writer, cfg *edge.Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.LogLevel}
	if cfg.LogFormat == "text" || cfg.LogFormat == "" && isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
