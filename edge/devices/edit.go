package devices

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/crypto/bcrypt"
)

// hashCost is bcrypt's: some 60 ms per password that is not remembered.
const hashCost = 10

// Of a password that SetUser takes, in bytes: bcrypt sees no more than the most.
const (
	MinPassword = 8
	MaxPassword = maxPassword
)

// CheckName reports why no new user may have a name. Files may have others (V5): a new name is
// visible ASCII, because apps differ in how they send anything else, and does not look like a comment.
func CheckName(name string) error {
	switch {
	case !isName([]byte(name)):
		return errors.New("a name is 1 to 255 bytes without /, : and white space")
	case name[0] == '#' || !visible(name):
		return errors.New("a name is visible ASCII, and begins with no #")
	}
	return nil
}

// CheckPassword reports why no new user may have a password. Its errors show nothing of it.
func CheckPassword(password string) error {
	if len(password) < MinPassword || len(password) > MaxPassword || !visible(password) {
		return fmt.Errorf("a password is %d to %d visible ASCII characters, without white space", MinPassword, MaxPassword)
	}
	return nil
}

func visible(text string) bool {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// SetUser returns the text of a file of users with a line for this user, as htpasswd -B writes it,
// in place of the one there was; else at the end. Other lines stay as they are. A file that has a
// mistake is an error: an edge would not read it. The name and the password are to be checked.
func SetUser(text []byte, name, password string) (edited []byte, added bool, err error) {
	if _, err := parseUsers(text); err != nil {
		return nil, false, err
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), hashCost)
	if err != nil {
		return nil, false, fmt.Errorf("hash the password: %w", err)
	}
	hash[2] = 'y' // $2y$, as htpasswd calls the same
	line := append([]byte(name+":"), hash...)
	before, after, found := findUser(text, name)
	if !found && len(before) > 0 && before[len(before)-1] != '\n' {
		before = append(bytes.Clone(before), '\n')
	}
	return bytes.Join([][]byte{before, line, []byte("\n"), after}, nil), !found, nil
}

// RemoveUser returns the text of a file of users without this user, and whether there was one.
func RemoveUser(text []byte, name string) (edited []byte, removed bool, err error) {
	if _, err := parseUsers(text); err != nil {
		return nil, false, err
	}
	before, after, found := findUser(text, name)
	return append(bytes.Clone(before), after...), found, nil
}

// Users returns the names in a file of users, in its order.
func Users(text []byte) (names []string, err error) {
	r, err := parseUsers(text)
	if err != nil {
		return nil, err
	}
	for _, u := range r.all {
		names = append(names, u.name)
	}
	return names, nil
}

// findUser returns what stands before and after a user's line; all is before where there is none.
func findUser(text []byte, name string) (before, after []byte, found bool) {
	at := 0
	for line := range bytes.SplitAfterSeq(text, []byte("\n")) {
		end := at + len(line)
		if bytes.HasPrefix(line, []byte(name+":")) {
			return text[:at:at], text[end:], true
		}
		at = end
	}
	return text[:len(text):len(text)], nil, false
}
