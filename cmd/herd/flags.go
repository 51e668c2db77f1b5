package main

import (
	"flag"
	"fmt"
	"io"
	"strings"
)

// part sorts words into flags, each followed by its value, and operands. Flags may be
// anywhere; after `--` every word is an operand. A lone `-`, and a word of `-` and a digit,
// is an operand, never a flag: southern and western coordinates begin like that. takesValue
// reports whether the value of a flag, named without its dashes, is the next word.
func part(words []string, takesValue func(name string) bool) (flags, operands []string) {
	for i := 0; i < len(words); i++ {
		word := words[i]
		switch {
		case word == "--":
			return flags, append(operands, words[i+1:]...)
		case len(word) < 2 || word[0] != '-' || '0' <= word[1] && word[1] <= '9':
			operands = append(operands, word)
		default:
			flags = append(flags, word)
			name := strings.TrimPrefix(word[1:], "-")
			if !strings.Contains(name, "=") && takesValue(name) && i+1 < len(words) {
				i++
				flags = append(flags, words[i])
			}
		}
	}
	return flags, operands
}

// anyTakesValue knows the flags of all commands, so that flags may come before the command
// too. No flag name takes a value in one command and none in another.
func anyTakesValue(all []command) func(name string) bool {
	values := make(map[string]bool)
	for _, c := range all {
		fs := newFlagSet(c.name)
		c.setup(fs)
		fs.VisitAll(func(f *flag.Flag) {
			b, ok := f.Value.(interface{ IsBoolFlag() bool })
			values[f.Name] = !ok || !b.IsBoolFlag()
		})
	}
	return func(name string) bool { return values[name] }
}

// newFlagSet returns a set that prints nothing by itself.
func newFlagSet(name string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	return fs
}

// given returns which flags were given.
func given(fs *flag.FlagSet) map[string]bool {
	names := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { names[f.Name] = true })
	return names
}

// usage prints all commands.
func (p *process) usage(w io.Writer, all []command) {
	fmt.Fprint(w, "Usage: herd COMMAND [ARGUMENT ...] [--FLAG ...]\n\nCommands:\n")
	for _, c := range all {
		fmt.Fprintf(w, "  %-36s %s\n", c.call(), c.brief)
	}
	fmt.Fprint(w, `
Flags may be anywhere; -- ends them. A word that begins with - and a digit is an argument.
Exit code: 0 success, 1 failure, 2 wrong usage. See also "herd help COMMAND".
`)
}

func (c command) call() string { return strings.TrimSpace(c.name + " " + c.operands) }

// usage prints one command and its flags. A flag with an empty usage text is the short form
// of the flag before it in alphabetical order.
func (c command) usage(w io.Writer) {
	fs := newFlagSet(c.name)
	c.setup(fs)
	var lines []string
	fs.VisitAll(func(f *flag.Flag) {
		if f.Usage == "" {
			return
		}
		value, text := flag.UnquoteUsage(f)
		call := "--" + f.Name
		if short := f.Name[:1]; len(f.Name) > 1 && fs.Lookup(short) != nil && fs.Lookup(short).Usage == "" {
			call += ", -" + short
		}
		if value != "" {
			call += " " + value
		}
		if f.DefValue != "" && f.DefValue != "false" {
			text += " (" + f.DefValue + ")"
		}
		lines = append(lines, fmt.Sprintf("  %-24s %s\n", call, text))
	})
	call := "Usage: herd " + c.call()
	if len(lines) > 0 {
		call += " [--FLAG ...]"
	}
	fmt.Fprintf(w, "%s\n\n%s\n%s", call, c.brief, c.more)
	if len(lines) > 0 {
		fmt.Fprintf(w, "\nFlags:\n%s", strings.Join(lines, ""))
	}
}
