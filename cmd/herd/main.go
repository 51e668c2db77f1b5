// Command herd is the tool for people: it runs a whole herd, sends commands to one edge as a
// client does, and observes. Each command has a file of its own; this file has the table of
// commands and what they share: usage, exit codes and output.
//
// Data goes to standard output, messages to standard error. The exit code is 0 on success, 1
// on failure, 2 on wrong usage or configuration.
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

// commands returns the commands in the order in which usage shows them.
func commands() []command {
	return []command{
		upCommand, iamatCommand, whatsatCommand, whosatCommand, followCommand, watchCommand, statusCommand, pageCommand,
		verifyCommand, explainCommand, benchCommand, placesCommand, phoneCommand, natsConfigCommand, healthCommand, versionCommand,
	}
}

// command is one row of the table.
type command struct {
	name        string
	operands    string // as shown in usage
	least, most int    // number of operands
	brief       string // a short description
	more        string // the rest of its usage, whole lines
	// setup defines the command's flags and returns the action to run once they are parsed.
	setup func(*flag.FlagSet) action
}

type action func(ctx context.Context, p *process, operands []string) error

// process is what a command may use of its process.
type process struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string // KEY=VALUE
	// notify sends signals to c until stop is called.
	notify func(c chan<- os.Signal, signals ...os.Signal) (stop func())
	// exit ends the process at once, for a command that hangs.
	exit func(code int)
}

// say prints a message for people.
func (p *process) say(format string, args ...any) {
	fmt.Fprintf(p.stderr, "herd: "+format+"\n", args...)
}

// untilInterrupted returns a context that the first SIGINT or SIGTERM ends. stop ends the
// handling of signals.
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

// usageError is a mistake in the arguments: exit code 2, and a hint where to read more.
type usageError string

func (e usageError) Error() string { return string(e) }

// configError is a wrong configuration, one line per variable or flag: exit code 2.
type configError struct{ error }

func (e configError) Error() string {
	return "the configuration is wrong\n  " + strings.ReplaceAll(e.error.Error(), "\n", "\n  ")
}

func (e configError) Unwrap() error { return e.error }

func main() {
	os.Exit(run(context.Background(), os.Args[1:], &process{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ(),
		notify: func(c chan<- os.Signal, signals ...os.Signal) func() {
			signal.Notify(c, signals...)
			return func() { signal.Stop(c) }
		},
		exit: os.Exit,
	}))
}

// printer writes to standard output. It keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (o *printer) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if err != nil && o.err == nil {
		o.err = err
	}
	return n, err
}

// run runs the command in args, which lack the program's name, and returns the exit code. It
// is not success unless all output was printed.
func run(ctx context.Context, args []string, p *process) int {
	out := &printer{w: p.stdout}
	printing := *p
	printing.stdout = out
	code := printing.run(ctx, args)
	if code == exitOK && out.err != nil {
		p.say("print: %v", out.err)
		return exitFailed
	}
	return code
}

func (p *process) run(ctx context.Context, args []string) int {
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
	p.say("unknown command %q; \"herd help\" lists all", name)
	return exitUsage
}

// general handles arguments without a command.
func (p *process) general(all []command, flags []string) int {
	fs := newFlagSet("herd")
	version := fs.Bool("version", false, "")
	switch err := fs.Parse(flags); {
	case errors.Is(err, flag.ErrHelp):
		p.usage(p.stdout, all)
		return exitOK
	case err != nil:
		p.say("%v; see \"herd help\"", err)
	case *version:
		return p.command(context.Background(), versionCommand, nil, nil, false)
	default:
		p.say("a command is required; \"herd help\" lists all")
	}
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
	if _, wrong := errors.AsType[usageError](err); wrong {
		p.say("%s: %v; see \"herd help %s\"", c.name, err, c.name)
		return exitUsage
	}
	p.say("%s: %v", c.name, err)
	if _, wrong := errors.AsType[configError](err); wrong {
		return exitUsage
	}
	return exitFailed
}
