package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"herd/edge/devices"
)

var phoneCommand = command{
	name: "phone", operands: "[USER]", least: 0, most: 1,
	brief: "set up a phone: a user, a password, and what to type into its app",
	more: `
Adds USER to the file that HERD_DEVICES_USERS names, or gives USER a new password,
tries it against the edge, and prints for each app what to type, and a link and a QR
code if the app can be set up by one. The edge notices the change of the file by itself.
If it does not accept the password, the file is put back as it was.

--url is where phones find the edge. The password is tried at its host and port if it
is an http:// URL, or an https:// one and --tls-ca is given. An https:// URL without
--tls-ca is taken for that of a proxy: the password is then tried at the edge itself, at
127.0.0.1:12010, where herd up --devices 0.0.0.0:12010 has its first edge. --addr names
another address to try it at.

The password is made up, or read from standard input with --stdin. It is printed, and
kept only as a hash in the file, as htpasswd -B writes it. Other users' lines and the
file's mode and owner stay as they are.

Without USER the users are listed. --create makes an empty file if there is none:
an edge does not start without its file, and lets nobody in with an empty one.
`,
	setup: func(fs *flag.FlagSet) action {
		c := &phone{fs: fs, secure: newAuthorityFlag(fs)}
		fs.StringVar(&c.users, "users", "", "`FILE` of users, name:hash lines")
		fs.StringVar(&c.addr, "addr", "", "`HOST:PORT` of the edge's port for devices, to try the password (see above); empty: it is not tried")
		fs.StringVar(&c.url, "url", "", "`URL` at which phones reach the edge (by default http://, with --tls-ca https://, and the address of --addr)")
		fs.StringVar(&c.device, "device", "phone", "`NAME` of the device: on the map it is USER/NAME")
		fs.StringVar(&c.apps, "app", "", "`APPS` to print it for, separated by commas ("+strings.Join(appNames(), ",")+")")
		fs.BoolVar(&c.stdin, "stdin", false, "read the password from standard input")
		fs.BoolVar(&c.create, "create", false, "make an empty file if there is none")
		fs.BoolVar(&c.remove, "remove", false, "remove USER, and close the user's connections")
		fs.BoolVar(&c.qr, "qr", false, "print QR codes even if standard output is no terminal; --qr=false prints none")
		fs.DurationVar(&c.timeout, "timeout", 15*time.Second, "longest `DURATION` to wait for the edge")
		return c.run
	},
}

// phone has the command's flags.
type phone struct {
	fs                             *flag.FlagSet
	users, addr, url, device, apps string
	stdin, create, remove, qr      bool
	timeout                        time.Duration
	secure                         *tlsFlags
}

func (c *phone) run(ctx context.Context, p *process, operands []string) error {
	if err := c.check(operands); err != nil {
		return err
	}
	file, err := openUsersFile(c.users, c.create)
	if err != nil {
		return err
	}
	defer file.close()
	switch {
	case len(operands) == 0:
		return c.list(p, file)
	case c.remove:
		return c.takeOut(p, file, operands[0])
	}
	return c.setUp(ctx, p, file, operands[0])
}

// check reports wrong usage that needs no file.
func (c *phone) check(operands []string) error {
	got := given(c.fs)
	if c.users == "" {
		return usageError("--users: want the file that HERD_DEVICES_USERS names")
	}
	if len(operands) == 0 {
		if c.remove || c.stdin {
			return usageError("want USER")
		}
		return nil
	}
	if c.remove {
		if c.stdin || c.create {
			return usageError("--remove takes no password and makes no file")
		}
		return nil
	}
	if err := devices.CheckName(operands[0]); err != nil {
		return usageError("USER: " + err.Error())
	}
	if err := devices.CheckName(c.device); err != nil {
		return usageError("--device: " + err.Error())
	}
	if got["addr"] && c.addr == "" && c.url == "" {
		return usageError("without --addr, --url must say where the edge is")
	}
	if c.addr != "" {
		if _, _, err := net.SplitHostPort(c.addr); err != nil {
			return usageError("--addr: " + err.Error())
		}
	}
	if c.timeout <= 0 {
		return usageError("--timeout: want more than 0")
	}
	if got["app"] {
		for _, name := range strings.Split(c.apps, ",") {
			if !slices.Contains(appNames(), name) {
				return usageError(fmt.Sprintf("--app: %q is none of %s", name, strings.Join(appNames(), ", ")))
			}
		}
	}
	return nil
}

func (c *phone) list(p *process, file *usersFile) error {
	names, err := devices.Users(file.text)
	if err != nil {
		return fmt.Errorf("%s: %w", c.users, err)
	}
	for _, name := range names {
		fmt.Fprintln(p.stdout, printable(name))
	}
	return nil
}

func (c *phone) takeOut(p *process, file *usersFile, user string) error {
	text, removed, err := devices.RemoveUser(file.text, user)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", c.users, err)
	case !removed:
		return fmt.Errorf("%s has no user %q", c.users, user)
	}
	if err := file.write(text); err != nil {
		return err
	}
	p.say("%s is taken out of %s", user, c.users)
	return nil
}

// setUp adds or renews a user, tries it, and prints what to type.
func (c *phone) setUp(ctx context.Context, p *process, file *usersFile, user string) error {
	secure, err := c.secure.config()
	if err != nil {
		return err
	}
	base, addr, err := c.where(secure != nil)
	if err != nil {
		return err
	}
	ctx, stop := p.untilInterrupted(ctx)
	defer stop()
	password := strings.ToLower(rand.Text()[:16]) // 80 bits, of letters and digits that nobody confuses
	if c.stdin {
		if password, err = readPassword(p); err != nil {
			return err
		}
	}
	text, added, err := devices.SetUser(file.text, user, password)
	if err != nil {
		return fmt.Errorf("%s: %w", c.users, err)
	}
	if err := file.write(text); err != nil {
		return err
	}
	done := "renewed"
	if added {
		done = "added"
	}
	if addr == "" {
		p.say("%s is %s in %s, and was not tried", user, done, c.users)
	} else {
		trial := newTrial(addr, base, secure, user, password)
		defer trial.close()
		if err := trial.run(ctx, c.timeout); err != nil {
			return errors.Join(fmt.Errorf("edge at %s: %w", addr, err), file.restore())
		}
		p.say("%s is %s in %s, and the edge at %s takes the password", user, done, c.users, addr)
	}
	switch {
	case isLoopback(base.Hostname()):
		p.say("warning: %s is this machine to itself: for a phone elsewhere, --url says where it finds the edge", base)
	case base.Scheme == "http":
		p.say("warning: %s is not encrypted: whoever is on the way reads the password and every position", base)
	}
	what := settings{base: base, user: user, password: password, device: c.device}
	return c.show(p, what)
}

// where returns the URL at which phones reach the edge, whose path ends with a slash, and the address at
// which a password is tried; "": nowhere.
func (c *phone) where(secure bool) (base *url.URL, addr string, err error) {
	scheme := "http"
	if secure {
		scheme = "https"
	}
	addr, text := c.addr, c.url
	if !given(c.fs)["addr"] {
		addr = firstEdge
	}
	if text == "" {
		text = scheme + "://" + addr
	}
	base, err = url.Parse(text)
	switch {
	case err != nil: // its text may have a password
		return nil, "", usageError("--url: not a URL")
	case base.Scheme != "http" && base.Scheme != "https", base.Hostname() == "":
		return nil, "", usageError("--url: want http://HOST or https://HOST")
	case base.User != nil, base.RawQuery != "", base.Fragment != "":
		return nil, "", usageError("--url: want no user, no query and no fragment")
	}
	if !strings.HasSuffix(base.Path, "/") {
		base.Path += "/"
		if base.RawPath != "" {
			base.RawPath += "/"
		}
	}
	if !given(c.fs)["addr"] && base.Scheme == scheme { // no proxy is between
		port := base.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[scheme]
		}
		addr = net.JoinHostPort(base.Hostname(), port)
	}
	return base, addr, nil
}

// firstEdge is where the first edge is of herd up --devices 0.0.0.0:12010.
const firstEdge = "127.0.0.1:12010"

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// readPassword reads a line from standard input; on a terminal without showing it.
func readPassword(p *process) (password string, err error) {
	const most = 1 << 10 // bytes of a line
	if f, ok := p.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(p.stderr, "Password: ")
		typed, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(p.stderr)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		password = string(typed)
	} else {
		line, err := bufio.NewReader(io.LimitReader(p.stdin, most)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read the password: %w", err)
		}
		password = strings.TrimRight(line, "\r\n")
	}
	if err := devices.CheckPassword(password); err != nil {
		return "", usageError("standard input: " + err.Error())
	}
	return password, nil
}

// usersFile is a file of users that no other run of this command changes until it is closed.
type usersFile struct {
	name   string
	dir    *os.File
	text   []byte
	before fs.FileInfo // nil: there was none
}

const maxUsersFile = 64 << 20 // bytes, as an edge reads

// openUsersFile opens the file, also through links, and makes an empty one if it may.
func openUsersFile(path string, create bool) (*usersFile, error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	dir, err := lockDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	f := &usersFile{name: filepath.Base(path), dir: dir}
	f.before, err = os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && create:
		err = f.write(nil)
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%s does not exist; --create makes it", path)
	case err != nil:
	case !f.before.Mode().IsRegular():
		err = fmt.Errorf("%s is not a regular file", path)
	case f.before.Size() > maxUsersFile:
		err = fmt.Errorf("%s is larger than 64 MiB", path)
	default:
		f.text, err = os.ReadFile(path)
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	return f, nil
}

func (f *usersFile) close() { f.dir.Close() }

// write replaces the file, which keeps its mode and owner.
func (f *usersFile) write(text []byte) error { return replaceFile(f.dir, f.name, text, f.before) }

// restore puts the file back as it was when it was opened.
func (f *usersFile) restore() error {
	if err := f.write(f.text); err != nil {
		return fmt.Errorf("the file of users was not put back: %w", err)
	}
	return errors.New("the file of users is as it was")
}
