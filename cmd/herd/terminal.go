package main

import (
	"io"
	"slices"
	"strings"

	"herd/edge/config"
)

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	if p, ok := w.(*printer); ok {
		w = p.w
	}
	return config.IsTerminal(w)
}

// colours colours words, or leaves them as they are.
type colours struct{ on bool }

// paint uses colours on a terminal, unless NO_COLOR is set or the terminal is dumb.
func paint(p *process) colours {
	dumb := slices.Contains(p.environ, "TERM=dumb")
	no := slices.ContainsFunc(p.environ, func(v string) bool { return strings.HasPrefix(v, "NO_COLOR=") && v != "NO_COLOR=" })
	return colours{isTerminal(p.stdout) && !no && !dumb}
}

func (c colours) red(text string) string    { return c.paint("31", text) }
func (c colours) green(text string) string  { return c.paint("32", text) }
func (c colours) yellow(text string) string { return c.paint("33", text) }
func (c colours) plain(text string) string  { return text }

func (c colours) paint(code, text string) string {
	if !c.on {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
