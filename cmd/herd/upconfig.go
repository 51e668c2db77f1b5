package main

import (
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"syscall"

	"herd/broker/topology"
	"herd/edge"
	"herd/edge/config"
)

// variableOf has the edge's variable that each flag of up sets.
var variableOf = map[string]string{
	"http": "HERD_HTTP", "nats": "HERD_EMBEDDED_NATS_LISTEN", "data": "HERD_DATA", "devices": "HERD_DEVICES", "topology": "HERD_TOPOLOGY",
}

// configure returns the configuration per edge, in alphabetical order, from the environment
// and the flags. data is the directory if they name none. The error names every wrong
// variable at once.
func (u *up) configure(environ []string, data string) (herd []config.Config, warnings []string, err error) {
	vars := make(map[string]string)
	for _, pair := range environ {
		if name, value, ok := strings.Cut(pair, "="); ok && strings.HasPrefix(name, "HERD_") {
			vars[name] = value
		}
	}
	if _, ok := vars["HERD_EMBEDDED_NATS_LISTEN"]; !ok {
		vars["HERD_EMBEDDED_NATS_LISTEN"] = u.fs.Lookup("nats").DefValue
	}
	got := given(u.fs)
	for name, variable := range variableOf {
		if got[name] {
			vars[variable] = u.fs.Lookup(name).Value.String()
		}
	}
	if vars["HERD_DATA"] == "" {
		vars["HERD_DATA"] = data
	}
	vars["HERD_EMBEDDED_NATS"] = "true"

	names, err := edgesOf(vars["HERD_TOPOLOGY"])
	if err != nil {
		names = []string{"unknown"} // FromEnvironment reports the mistake with all others
	}
	if last := u.basePort + uint(len(names)) - 1; u.basePort > 0 && (u.basePort > 65535 || last > 65535) {
		return nil, nil, usageError(fmt.Sprintf("--base-port: %d edges need ports up to %d; the highest is 65535", len(names), last))
	}
	deviceHost, devicePort, err := devicePorts(vars["HERD_DEVICES"], len(names))
	if err != nil {
		return nil, nil, err
	}
	for i, name := range names {
		if devicePort > 0 {
			vars["HERD_DEVICES"] = net.JoinHostPort(deviceHost, strconv.Itoa(devicePort+i))
		}
		port := u.basePort
		if port > 0 {
			port += uint(i)
		}
		vars["HERD_EDGE"] = name
		vars["HERD_LISTEN"] = net.JoinHostPort(u.host, strconv.FormatUint(uint64(port), 10))
		cfg, warned, err := config.FromEnvironment(pairs(vars), edge.Check)
		if err != nil {
			err = u.inFlags(err, got)
			for _, w := range warned {
				err = fmt.Errorf("%w\nwarning: %s", err, w)
			}
			return nil, nil, configError{err}
		}
		herd, warnings = append(herd, cfg), warned
	}
	if err := shareFiles(herd, vars["HERD_MAX_CONNS"] != ""); err != nil {
		return nil, nil, configError{err}
	}
	if file := vars["HERD_TRANSCRIPT"]; file != "" && file != "-" && len(herd) > 1 {
		return nil, nil, configError{fmt.Errorf("HERD_TRANSCRIPT: %q cannot be the file of %d edges; omit it, and each edge writes its own in --data", file, len(herd))}
	}
	return herd, warnings, nil
}

// devicePorts returns the host and port for devices of the first of so many edges. The port is 0
// where all are the same: there is none, any is free, or the address is wrong, which FromEnvironment
// reports.
func devicePorts(address string, edges int) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, nil
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 1 || port > 65535 {
		return "", 0, nil
	}
	if last := port + edges - 1; last > 65535 {
		return "", 0, usageError(fmt.Sprintf("--devices (HERD_DEVICES): %d edges need ports up to %d; the highest is 65535", edges, last))
	}
	return host, port, nil
}

// edgesOf returns the sorted names in a topology, or in the default one if text is empty.
func edgesOf(text string) ([]string, error) {
	if text == "" {
		text = topology.Default
	}
	g, err := topology.Parse(text)
	if err != nil {
		return nil, err
	}
	return g.Edges(), nil
}

func pairs(vars map[string]string) []string {
	var environ []string
	for name, value := range vars {
		environ = append(environ, name+"="+value)
	}
	return environ
}

// inFlags replaces the variable by the flag in each error that the flag's value caused.
func (u *up) inFlags(err error, got map[string]bool) error {
	flags := map[string]string{"HERD_LISTEN": "host"} // its value always comes from that flag
	for name, variable := range variableOf {
		if got[name] {
			flags[variable] = name
		}
	}
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		for variable, name := range flags {
			if rest, ok := strings.CutPrefix(line, variable+": "); ok {
				lines[i] = "--" + name + ": " + rest
			}
		}
	}
	return errors.New(strings.Join(lines, "\n"))
}

// shareFiles divides the files that the process may open among the edges (C18):
// FromEnvironment gives all of them to each edge. chosen reports that HERD_MAX_CONNS is set.
func shareFiles(herd []config.Config, chosen bool) error {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return nil // the file limit is unknown
	}
	const others = 256 // files other than client connections
	files := int(min(uint64(limit.Cur), math.MaxInt32))
	share := max(1, (files-others)/len(herd))
	for i := range herd {
		if chosen && herd[i].MaxConns > share {
			return fmt.Errorf("HERD_MAX_CONNS: %d for each of %d edges is more than the process's limit of %d files allows: %d",
				herd[i].MaxConns, len(herd), files, share)
		}
		herd[i].MaxConns = min(herd[i].MaxConns, share)
	}
	return nil
}
