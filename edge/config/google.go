package config

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"herd/broker/options"
)

// readGoogleKey reads the key from its file.
func (c *Config) readGoogleKey() error {
	if c.GoogleKeyFile == "" {
		return nil
	}
	if c.GoogleKey.Reveal() != "" {
		return errors.New("conflicts with HERD_GOOGLE_KEY; set one of the two")
	}
	text, err := readShort(c.GoogleKeyFile)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", quote(c.GoogleKeyFile), cause(err))
	case !isKey(text):
		return fmt.Errorf("%s: %s", quote(c.GoogleKeyFile), wantKey)
	}
	c.GoogleKey = options.NewSecret(text)
	return nil
}

// readShort reads a file that holds one word.
func readShort(path string) (string, error) {
	// A pipe would block the start, and be empty when read again.
	if info, err := os.Stat(path); err != nil {
		return "", err
	} else if !info.Mode().IsRegular() {
		return "", errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	const longest = 4 << 10
	text, err := io.ReadAll(io.LimitReader(f, longest))
	return strings.TrimSpace(string(text)), err
}

const wantKey = "want a key of 1 to 256 letters, digits and -_.~+/=:"

// isKey reports whether text could be a key. Google's consist of letters, digits, - and _. A
// key without white space, quotes and the like is never escaped, so it can
// be found and hidden wherever it might appear.
func isKey(text string) bool {
	return 1 <= len(text) && len(text) <= 256 && strings.Trim(text, alphanumeric+"-_.~+/=:") == ""
}

// isBase reports whether text is the URL of a server or of a path on one.
func isBase(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" &&
		u.User == nil && !strings.ContainsAny(text, "?#")
}

// isFieldMask reports whether text is * or paths separated by commas, without spaces.
func isFieldMask(text string) bool {
	if text == "*" {
		return true
	}
	for path := range strings.SplitSeq(text, ",") {
		if path == "" || strings.Trim(path, alphanumeric+"._*") != "" || path != "*" && path != "places" && !strings.HasPrefix(path, "places.") {
			return false
		}
	}
	return true
}

// answersFields reports whether a field mask includes what an answer needs per place: id,
// name and location.
func answersFields(mask string) bool {
	for _, need := range []string{"places.id", "places.displayName", "places.location"} {
		has := false
		for path := range strings.SplitSeq(mask, ",") {
			has = has || path == "*" || path == "places.*" || path == "places" || path == need || strings.HasPrefix(path, need+".")
		}
		if !has {
			return false
		}
	}
	return true
}
