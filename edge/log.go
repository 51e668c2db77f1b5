package edge

import (
	"io"
	"log/slog"
	"os"
)

// NewLog makes the process log of HERD_LOG_LEVEL and HERD_LOG_FORMAT on w: text
// where a person looks on at a terminal, else JSON, unless one is chosen.
func NewLog(w io.Writer, cfg *Config) *slog.Logger {
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
