package devices

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"
)

const (
	maxUsersFile = 64 << 20 // bytes
	maxCost      = 14       // of a hash: about a second; passwords are checked one at a time
	maxPassword  = 72       // bytes that bcrypt looks at
)

// A user is a line of the file of users.
type user struct {
	name  string
	hash  []byte
	place uint64 // in roll.ring
	// right is the keyed hash of the password that was right; nil: none was yet.
	right atomic.Pointer[[sha256.Size]byte]
}

// A roll is all users, as the file had them at one time.
type roll struct {
	key   [32]byte // of the keyed hashes
	users map[string]*user
	all   []*user // in the order of the file
	ring  []*user // by their places
}

// CheckUsers reports what is wrong with a file of users.
func CheckUsers(path string) error {
	_, _, err := readUsers(path)
	return err
}

// readUsers reads a file of users, and how it looked from outside.
func readUsers(path string) (*roll, os.FileInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errors.New("not a regular file")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxUsersFile+1))
	if err != nil {
		return nil, nil, err
	}
	if len(text) > maxUsersFile {
		return nil, nil, errors.New("larger than 64 MiB")
	}
	users, err := parseUsers(text)
	return users, info, err
}

// parseUsers parses lines name:hash, as htpasswd -B writes them; empty lines, and such as begin
// with #, are comments. Its errors name lines by their number, and show nothing of them.
func parseUsers(text []byte) (*roll, error) {
	r := &roll{users: map[string]*user{}}
	n := 0
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		n++
		line = bytes.TrimRight(line, "\r")
		if len(bytes.TrimSpace(line)) == 0 || line[0] == '#' {
			continue
		}
		name, hash, ok := bytes.Cut(line, []byte(":"))
		cost, err := bcrypt.Cost(hash)
		switch {
		case !ok:
			return nil, fmt.Errorf("line %d: not name:hash", n)
		case !isName(name):
			return nil, fmt.Errorf("line %d: a name is 1 to 255 bytes without /, : and white space", n)
		case err != nil || len(hash) != 60:
			return nil, fmt.Errorf("line %d: not a bcrypt hash, as htpasswd -B makes them", n)
		case cost > maxCost:
			return nil, fmt.Errorf("line %d: a bcrypt cost of %d; the most is %d", n, cost, maxCost)
		case r.users[string(name)] != nil:
			return nil, fmt.Errorf("line %d: a name for the second time", n)
		}
		u := &user{name: string(name), hash: bytes.Clone(hash)}
		r.users[u.name] = u
		r.all = append(r.all, u)
	}
	var key [32]byte
	if _, err := rand.Read(key[:]); err != nil {
		return nil, err
	}
	r.arrange(key)
	return r, nil
}

// arrange sets the key, and puts the users in their places by it.
func (r *roll) arrange(key [32]byte) {
	r.key, r.ring = key, slices.Clone(r.all)
	for _, u := range r.ring {
		u.place = r.place([]byte(u.name))
	}
	slices.SortFunc(r.ring, func(a, b *user) int { return cmp.Compare(a.place, b.place) })
}

// place is where on the ring a name is.
func (r *roll) place(name []byte) uint64 {
	h := r.sum(name, nil)
	return binary.LittleEndian.Uint64(h[:])
}

func isName(name []byte) bool {
	return 1 <= len(name) && len(name) <= 255 && !bytes.ContainsAny(name, "/: \t\n\v\f\r\x00")
}

// sum is the keyed hash of a name and a password.
func (r *roll) sum(name, password []byte) [sha256.Size]byte {
	h := hmac.New(sha256.New, r.key[:])
	var size [4]byte
	binary.LittleEndian.PutUint32(size[:], uint32(len(name)))
	h.Write(size[:])
	h.Write(name)
	h.Write(password[:min(len(password), maxPassword)])
	return [sha256.Size]byte(h.Sum(nil))
}

// find returns the user of that name. For an unknown name it returns some user, known is false, and
// what is done with it is to be the same: so an unknown name costs what a known one does (V5). It
// is nil where there are no users at all.
func (r *roll) find(name []byte) (u *user, known bool) {
	if len(r.ring) == 0 {
		return nil, false
	}
	// Hashes may differ in their cost, so an unknown name has always the same one, as a user has: the
	// next on the ring, which hardly any other user's coming or going changes.
	at, _ := slices.BinarySearchFunc(r.ring, r.place(name), func(u *user, place uint64) int { return cmp.Compare(u.place, place) })
	other := r.ring[at%len(r.ring)]
	if u = r.users[string(name)]; u != nil {
		return u, true
	}
	return other, false
}

// remembers returns the user whose password was sent and was right before; nil: that is nobody.
func (r *roll) remembers(sent credentials) *user {
	u, _ := r.find(sent.name)
	if u == nil {
		return nil
	}
	var none [sha256.Size]byte
	sum, right := r.sum(sent.name, sent.password), u.right.Load()
	if right == nil {
		right = &none
	}
	if !hmac.Equal(right[:], sum[:]) || right == &none {
		return nil
	}
	return u
}

// verify returns the user whose password was sent, which takes long, and remembers it; nil: that
// is nobody.
func (r *roll) verify(sent credentials) *user {
	u, known := r.find(sent.name)
	if u == nil {
		return nil
	}
	right := bcrypt.CompareHashAndPassword(u.hash, sent.password[:min(len(sent.password), maxPassword)]) == nil
	if !right || !known {
		return nil
	}
	sum := r.sum(sent.name, sent.password)
	u.right.Store(&sum)
	return u
}

// users is the file of users, read again when it changes. Its methods may be called from any
// goroutine.
type users struct {
	path string
	log  *slog.Logger
	now  atomic.Pointer[roll]

	mu      sync.Mutex
	seen    fileState // when it was last of use
	tried   fileState // when it was last read
	trouble string    // what was wrong when it was last read, and was logged
}

// A fileState is how a file looks from outside.
type fileState struct {
	modified time.Time
	size     int64
	info     os.FileInfo
}

func (s fileState) same(info os.FileInfo) bool {
	return s.info != nil && os.SameFile(s.info, info) && s.size == info.Size() && s.modified.Equal(info.ModTime())
}

func openUsers(path string, log *slog.Logger) (*users, error) {
	r, info, err := readUsers(path)
	if err != nil {
		return nil, err
	}
	seen := fileState{info.ModTime(), info.Size(), info}
	u := &users{path: path, log: log, seen: seen, tried: seen}
	u.now.Store(r)
	return u, nil
}

// changed says whether the file is another than it was when it was last read.
func (u *users) changed() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	info, err := os.Stat(u.path)
	return err == nil && !u.tried.same(info)
}

// look reads the file again if it has changed, and returns the names that are no longer what
// they were: taken out, or with another password. A file that is of no use changes nothing.
func (u *users) look() (gone []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	info, err := os.Stat(u.path)
	if err == nil && u.seen.same(info) && time.Since(u.seen.modified) > 3*time.Second {
		return nil
	}
	var next *roll
	if err == nil {
		u.tried = fileState{info.ModTime(), info.Size(), info}
		next, info, err = readUsers(u.path)
	}
	if err != nil {
		if u.trouble != err.Error() {
			u.trouble = err.Error()
			u.log.Error("file of users is of no use, keeping the users as they were", "file", u.path, "error", err)
		}
		return nil
	}
	if u.trouble != "" {
		u.trouble = ""
		u.log.Info("file of users is valid again", "file", u.path)
	}
	u.seen = fileState{info.ModTime(), info.Size(), info}
	before := u.now.Load()
	changed := len(before.all) != len(next.all)
	for _, old := range before.all {
		if fresh := next.users[old.name]; fresh == nil || !bytes.Equal(fresh.hash, old.hash) {
			gone = append(gone, old.name)
			changed = true
		}
	}
	if !changed {
		return nil
	}
	next.arrange(before.key)
	u.now.Store(next)
	u.log.Info("file of users read again", "file", u.path, "users", len(next.all), "taken out or changed", len(gone))
	return gone
}

// credentials are a name and a password as they were sent.
type credentials struct{ name, password []byte }

// cutCredentials parses name:password.
func cutCredentials(text []byte) (credentials, bool) {
	name, password, ok := bytes.Cut(text, []byte(":"))
	return credentials{name, password}, ok && len(name) > 0
}

// cutScheme returns what follows an authentication scheme, whose case does not matter.
func cutScheme(header, scheme string) (rest string, ok bool) {
	if len(header) <= len(scheme) || !strings.EqualFold(header[:len(scheme)], scheme) || header[len(scheme)] != ' ' {
		return "", false
	}
	return strings.TrimLeft(header[len(scheme):], " "), true
}
