package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// natsContext is the part of a nats tool context that says how to connect.
type natsContext struct {
	URL      string `json:"url"`
	User     string `json:"user"`
	Password string `json:"password"`
	Token    string `json:"token"`
	Creds    string `json:"creds"`
	NKey     string `json:"nkey"`
	CA       string `json:"ca"`
	Cert     string `json:"cert"`
	Key      string `json:"key"`
}

// addContext adds the context that --context or NATS_CONTEXT names. Variables that are set
// take precedence; a way to log in among them replaces all of the context's.
func (n *natsFlags) addContext(vars map[string]string, environ []string) error {
	name := *n.context
	if name == "" {
		name = vars["NATS_CONTEXT"]
	}
	delete(vars, "NATS_CONTEXT")
	if name == "" {
		return nil
	}
	c, err := readNATSContext(name, environ)
	if err != nil {
		return err
	}
	loggedIn := false
	for _, flag := range logins {
		loggedIn = loggedIn || vars[asVariable[flag]] != ""
	}
	for flag, value := range map[string]string{
		"server": c.URL, "user": c.User, "password": c.Password, "token": c.Token, "creds": c.Creds, "nkey": c.NKey,
		"tls-ca": c.CA, "tls-cert": c.Cert, "tls-key": c.Key,
	} {
		login := false
		for _, l := range logins {
			login = login || l == flag
		}
		if name := asVariable[flag]; value != "" && vars[name] == "" && !(login && loggedIn) {
			vars[name] = value
		}
	}
	return nil
}

// readNATSContext reads a context from where the nats tool keeps it.
func readNATSContext(name string, environ []string) (c natsContext, err error) {
	if strings.ContainsAny(name, `/\`) || strings.HasPrefix(name, ".") {
		return c, usageError(fmt.Sprintf("--context: %q is not a valid context name", name))
	}
	dir := variable(environ, "XDG_CONFIG_HOME")
	if dir == "" {
		dir = filepath.Join(variable(environ, "HOME"), ".config")
	}
	path := filepath.Join(dir, "nats", "context", name+".json")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, configError{fmt.Errorf("NATS_CONTEXT: no context %q (%s)", name, path)}
	} else if err != nil {
		return c, configError{fmt.Errorf("NATS_CONTEXT: %w", err)}
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, configError{fmt.Errorf("NATS_CONTEXT: read %s: %w", path, err)}
	}
	home := variable(environ, "HOME")
	for _, file := range []*string{&c.Creds, &c.NKey, &c.CA, &c.Cert, &c.Key} {
		if rest, ok := strings.CutPrefix(*file, "~/"); ok {
			*file = filepath.Join(home, rest)
		}
	}
	return c, nil
}

// variable returns the value of a variable in an environment, or "" if it is not set.
func variable(environ []string, name string) string {
	for i := len(environ) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(environ[i], name+"="); ok {
			return value
		}
	}
	return ""
}
