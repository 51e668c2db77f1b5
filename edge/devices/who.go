package devices

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
)

// An identity is who a request is from.
type identity struct {
	user  string // "": nobody in particular
	as    *user  // nil then
	ids   []string
	bound bool // by a certificate, to ids
}

// cutPath takes /t/name:password from a request's path (V5), which is read raw and decoded once.
// path is what is left, still raw.
func cutPath(u *url.URL) (path string, sent credentials, has bool) {
	path = u.EscapedPath()
	rest, ok := strings.CutPrefix(path, "/t/")
	if !ok {
		return path, credentials{}, false
	}
	text, rest, _ := strings.Cut(rest, "/")
	sent, _ = cutCredentials(unescapePath(text))
	return "/" + rest, sent, true
}

// unescapePath decodes %XX once; a + is a +.
func unescapePath(text string) []byte {
	if plain, err := url.PathUnescape(text); err == nil {
		return []byte(plain)
	}
	return nil
}

// authorization returns the credentials of a request's header, if it has one.
func authorization(r *http.Request) (sent credentials, has bool) {
	headers := r.Header.Values("Authorization")
	if len(headers) == 0 {
		return credentials{}, false
	}
	if text, ok := cutScheme(headers[0], "Basic"); ok {
		plain, err := base64.StdEncoding.DecodeString(text)
		if err == nil {
			sent, _ = cutCredentials(plain)
		}
		return sent, true
	}
	if text, ok := cutScheme(headers[0], "Bearer"); ok {
		sent, _ = cutCredentials([]byte(text))
	}
	return sent, true
}

// identify says who a request is from (V5): OK, Denied, or Later where no turn to check a password
// was to be had.
func (s *Server) identify(r *http.Request, c *conn, inPath credentials, has bool) (identity, Outcome) {
	if s.users == nil {
		return s.certified(r), OK
	}
	sent := inPath
	if !has {
		sent, has = authorization(r)
	}
	if has {
		who, outcome := s.login(r.Context(), c, sent)
		if outcome != OK {
			return who, outcome
		}
		c.loggedIn(who)
		if !s.still(who) { // taken out meanwhile: nobody else would notice
			return identity{}, Denied
		}
		return who, OK
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return s.certified(r), OK
	}
	return identity{}, Denied
}

// certified is who a certificate says that the sender is, as on the client port.
func (s *Server) certified(r *http.Request) identity {
	if r.TLS == nil || s.cfg.Identities == nil {
		return identity{}
	}
	return identity{bound: true, ids: s.cfg.Identities(r.TLS)}
}

// login checks a password. Others than those that were right before are checked one at a time, by
// turns of addresses.
func (s *Server) login(ctx context.Context, c *conn, sent credentials) (identity, Outcome) {
	now := s.users.now.Load()
	if u := now.remembers(sent); u != nil {
		return identity{user: u.name, as: u}, OK
	}
	if s.checks.enter(ctx, c.entry.Address()) != nil {
		return identity{}, Later
	}
	defer s.checks.leave(c.entry.Address())
	u := now.remembers(sent) // another request of the same device may have been first
	if u == nil {
		u = now.verify(sent)
	}
	if u == nil && s.newerThan(now) { // who was added just now need not come again
		u = s.users.now.Load().verify(sent)
	}
	if u == nil {
		s.wrong.Do(func() { s.log.Warn("wrong name or password", "remote", c.remote) })
		return identity{}, Denied
	}
	return identity{user: u.name, as: u}, OK
}

// newerThan says whether the users are others than they were, also by a file that changed just now.
func (s *Server) newerThan(before *roll) bool {
	if s.users.changed() {
		s.LookAtUsers()
	}
	return s.users.now.Load() != before
}

// still says whether a user is what it was when it logged in.
func (s *Server) still(who identity) bool {
	if who.as == nil {
		return true
	}
	u := s.users.now.Load().users[who.user]
	return u != nil && string(u.hash) == string(who.as.hash)
}
