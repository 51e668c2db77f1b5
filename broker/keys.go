package broker

import (
	"errors"
	"fmt"
	"os"

	"github.com/nats-io/nkeys"
)

// NewKey makes a user's key: a seed in the form of a file for NATS_NKEY, and the public key
// that names the user in a server's configuration.
func NewKey() (seed []byte, public string, err error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, "", fmt.Errorf("make a key: %w", err)
	}
	defer pair.Wipe()
	if seed, err = pair.Seed(); err != nil {
		return nil, "", fmt.Errorf("make a key: %w", err)
	}
	if public, err = pair.PublicKey(); err != nil {
		return nil, "", fmt.Errorf("make a key: %w", err)
	}
	return append(seed, '\n'), public, nil
}

var errNoSeed = errors.New("not a user's seed")

// PublicKey reads a file for NATS_NKEY and returns the public key of the seed in it. Errors
// never show the file's content.
func PublicKey(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	defer clear(text)
	pair, err := nkeys.ParseDecoratedNKey(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", file, errNoSeed)
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	if err != nil || !nkeys.IsValidPublicUserKey(public) {
		return "", fmt.Errorf("%s: %w", file, errNoSeed)
	}
	return public, nil
}
