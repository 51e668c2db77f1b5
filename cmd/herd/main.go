// Command herd is the tool for people: it runs a whole herd, speaks to one edge
// as a client does, and looks on. A command is a file of its own; this one has
// their table and what they have in common: usage, exit codes, where words go.
//
// Data goes to standard output, talk to standard error. The exit code is 0 on
// success, 1 on failure, 2 on wrong usage or configuration.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
)

const (
	exitOK = iota
	exitFailed
	exitUsage
)

// commands in the order in which usage shows them.
func commands() []command {
	return []command{
		upCommand, iamatCommand, whatsatCommand, watchCommand, statusCommand, benchCommand,
		placesCommand, natsConfigCommand, healthCommand, versionCommand,
	}
}

// command is one row of the table.
type command struct {
	name        string
	operands    string // as usage shows them
	least, most int    // how many
	brief       string // what it does, in a few words
	more        string // the rest of its usage, lines with their LF
	// setup defines the command's flags and returns what runs once they are parsed.
	setup func(*flag.FlagSet) action
}

type action func(ctx context.Context, p *process, operands []string) error

// process is what a command may use of the process that it runs in.
type process struct {
	stdout, stderr io.Writer
	environ        []string // KEY=VALUE
	// notify sends signals to c until stop is called.
	notify func(c chan<- os.Signal, signals ...os.Signal) (stop func())
}

// say tells people what is going on.
func (p *process) say(format string, args ...any) {
	fmt.Fprintf(p.stderr, "herd: "+format+"\n", args...)
}

// untilInterrupted returns a context that the first SIGINT or SIGTERM ends. stop
// gives the signals back.
func (p *process) untilInterrupted(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 1)
	giveBack := p.notify(signals, os.Interrupt, syscall.SIGTERM)
	var waiting sync.WaitGroup
	waiting.Go(func() {
		select {
		case <-signals:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		giveBack()
		cancel()
		waiting.Wait()
	}
}

// usageError is a mistake of whoever called: exit code 2, with the usage.
type usageError string

func (e usageError) Error() string { return string(e) }

// configError is wrong configuration, a variable or flag a line: exit code 2,
// without the usage.
type configError struct{ error }

func (e configError) Error() string {
	return "the configuration is wrong\n  " + strings.ReplaceAll(e.error.Error(), "\n", "\n  ")
}

func (e configError) Unwrap() error { return e.error }

func main() {
	os.Exit(run(context.Background(), os.Args[1:], &process{
		stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ(),
		notify: func(c chan<- os.Signal, signals ...os.Signal) func() {
			signal.Notify(c, signals...)
			return func() { signal.Stop(c) }
		},
	}))
}

// run does what args say, without the program's name, and returns the exit code.
func run(ctx context.Context, args []string, p *process) int {
	all := commands()
	flags, operands := part(args, anyTakesValue(all))
	if len(operands) == 0 {
		return p.general(all, flags)
	}
	name, operands := operands[0], operands[1:]
	help := false
	if name == "help" {
		if len(operands) == 0 {
			p.usage(p.stdout, all)
			return exitOK
		}
		name, help = operands[0], true
	}
	for _, c := range all {
		if c.name == name {
			return p.command(ctx, c, flags, operands, help)
		}
	}
	p.say("there is no command %q", name)
	p.usage(p.stderr, all)
	return exitUsage
}

// general answers words without a command among them.
func (p *process) general(all []command, flags []string) int {
	fs := newFlagSet("herd")
	switch err := fs.Parse(flags); {
	case errors.Is(err, flag.ErrHelp):
		p.usage(p.stdout, all)
		return exitOK
	case err != nil:
		p.say("%v", err)
	default:
		p.say("a command is missing")
	}
	p.usage(p.stderr, all)
	return exitUsage
}

func (p *process) command(ctx context.Context, c command, flags, operands []string, help bool) int {
	fs := newFlagSet(c.name)
	act := c.setup(fs)
	err := fs.Parse(flags)
	if help || errors.Is(err, flag.ErrHelp) {
		c.usage(p.stdout)
		return exitOK
	}
	switch {
	case err != nil:
		err = usageError(err.Error())
	case len(operands) < c.least:
		err = usageError(fmt.Sprintf("want %s", c.operands))
	case len(operands) > c.most:
		err = usageError(fmt.Sprintf("too many arguments: %q", operands[c.most:]))
	default:
		err = act(ctx, p, operands)
	}
	if err == nil {
		return exitOK
	}
	p.say("%s: %v", c.name, err)
	if _, wrong := errors.AsType[usageError](err); wrong {
		c.usage(p.stderr)
		return exitUsage
	}
	if _, wrong := errors.AsType[configError](err); wrong {
		return exitUsage
	}
	return exitFailed
}
