package broker

import (
	"errors"
	"fmt"
	"os"

	"github.com/nats-io/nkeys"
)

// NewKey makes a user's key: a seed, as a file for NATS_NKEY holds it, and the
// public key by which a server's configuration names the user.
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

var errNoSeed = errors.New("no seed of a user")

// PublicKey reads a file for NATS_NKEY and returns the public key that belongs
// to the seed in it. An error never shows what is in the file.
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
