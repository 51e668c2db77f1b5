package devices

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// A site is a host as a web page's origin names it: in lower case, without the port that its
// scheme has anyway.
type site struct {
	scheme string // "": any
	host   string
}

// parseSite parses HOST, HOST:PORT or SCHEME://HOST:PORT, with or without a path.
func parseSite(text string) (s site, ok bool) {
	text = strings.ToLower(strings.TrimSpace(text))
	if !strings.Contains(text, "://") {
		text = "//" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return site{}, false
	}
	host, port := strings.TrimSuffix(u.Hostname(), "."), u.Port()
	if port == "" || port == "443" && u.Scheme != "http" || port == "80" && u.Scheme != "https" {
		return site{u.Scheme, host}, true
	}
	return site{u.Scheme, net.JoinHostPort(host, port)}, true
}

// name is the site's host without its port.
func (s site) name() string {
	if host, _, err := net.SplitHostPort(s.host); err == nil {
		return host
	}
	return s.host
}

// fits says whether a site is one that another, of the configuration or of a Host header, names.
func (s site) fits(named site) bool {
	return s.host == named.host && (named.scheme == "" || s.scheme == named.scheme)
}

// answersTo says whether a request may be for this port by the host that it asks for (V2). Without
// that a web page could point its own host name at this machine (DNS rebinding). With TLS the
// certificate says so.
func (s *Server) answersTo(host string) bool {
	if s.cfg.TLS != nil || host == "" { // browsers always say
		return true
	}
	asked, ok := parseSite(host)
	if !ok {
		return false
	}
	name := asked.name()
	if name == "localhost" {
		return true
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return slices.ContainsFunc(s.origins, func(o site) bool { return o.name() == name })
}

// foreign says whether a request is from a page of another site (V5).
func foreign(r *http.Request) bool {
	for _, name := range []string{"Origin", "Referer"} {
		for _, from := range r.Header.Values(name) {
			if !sameHost(from, r.Host) {
				return true
			}
		}
	}
	for _, site := range r.Header.Values("Sec-Fetch-Site") {
		if site != "same-origin" && site != "none" {
			return true
		}
	}
	return false
}

// sameHost says whether a page's address is on the host that is asked for.
func sameHost(page, asked string) bool {
	from, ok := parseSite(page)
	to, known := parseSite(asked)
	if !ok || !known || from.scheme == "" {
		return false
	}
	if to.host == from.host {
		return true
	}
	// The port that the other's scheme has anyway.
	return from.host == to.name() && net.JoinHostPort(to.name(), map[string]string{"http": "80", "https": "443"}[from.scheme]) == to.host
}

// mayFollow says whether a page may open a WebSocket here by its Origin, which programs that are
// no browser leave out (V2).
func (s *Server) mayFollow(r *http.Request) bool {
	for _, origin := range r.Header.Values("Origin") {
		from, ok := parseSite(origin)
		if !ok {
			return false
		}
		if !sameHost(origin, r.Host) && !slices.ContainsFunc(s.origins, from.fits) {
			return false
		}
	}
	return true
}

// fromBrowser says whether a GET may be an <img> or a <script> of some page, or a page that somebody was led to:
// apps ask for neither images nor pages, and are not called as all browsers are (V5). To plain HTTP browsers
// send no Sec-Fetch-Site, and a page can have them send no Referer.
func fromBrowser(r *http.Request) bool {
	for _, accept := range r.Header.Values("Accept") {
		accept = strings.ToLower(accept)
		if strings.Contains(accept, "image/") || strings.Contains(accept, "text/html") {
			return true
		}
	}
	return strings.HasPrefix(r.UserAgent(), "Mozilla/")
}

// knows says whether a request has a password where only who knows it can put it: in the path, or as a
// token. Basic authentication and certificates are what a browser adds by itself to what any page asks
// of it (V5).
func (s *Server) knows(r *http.Request, inPath bool) bool {
	_, token := cutScheme(r.Header.Get("Authorization"), "Bearer")
	return s.users != nil && (inPath || token)
}
