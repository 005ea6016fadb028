package origin

import (
	"net/http"
	"net/url"
	"strings"
)

// requester is what made a request, as far as a browser tells.
type requester int

const (
	ownPage      requester = iota // or no browser
	otherScript                   // of another site's page, under the rules of CORS
	otherElement                  // an image, a form or a link on another site's page
)

// originOf returns what made a request. Browsers send Sec-Fetch-Site, except over plain
// HTTP and before 2023.
func originOf(r *http.Request) requester {
	switch field(r.Header, "Sec-Fetch-Site") {
	case "same-origin", "none":
		return ownPage
	case "":
		return guessOrigin(r)
	}
	switch field(r.Header, "Sec-Fetch-Mode") {
	case "no-cors", "navigate":
		return otherElement
	}
	return otherScript
}

// guessOrigin returns what made a request without Sec-Fetch-Site. Browsers send Origin
// with every POST and every script's request to another site, and Referer unless the page
// forbids it.
func guessOrigin(r *http.Request) requester {
	if origin := field(r.Header, "Origin"); origin != "" {
		switch {
		case hasHost(origin, r.Host):
			return ownPage
		case acceptsElement(r.Header):
			return otherElement
		}
		return otherScript
	}
	if referer := field(r.Header, "Referer"); referer != "" {
		if hasHost(referer, r.Host) {
			return ownPage
		}
		return otherElement
	}
	if acceptsElement(r.Header) || isBrowser(r.Header) && !bypassesCache(r.Header) {
		return otherElement
	}
	return ownPage
}

func hasHost(rawURL, host string) bool {
	u, err := url.Parse(rawURL)
	return err == nil && strings.EqualFold(u.Host, host)
}

// acceptsElement reports whether the field Accept is that of an element of a page: a
// picture, sound, font or style sheet, or a page in a frame or behind a link. The field
// of Java's HttpURLConnection begins with text/html and lists pictures, too.
func acceptsElement(h http.Header) bool {
	accept := strings.ToLower(field(h, "Accept"))
	if strings.Contains(accept, "application/xhtml+xml") {
		return true
	}
	for _, prefix := range []string{"image/", "audio/", "video/", "font/", "text/css", "application/signed-exchange"} {
		if strings.HasPrefix(accept, prefix) {
			return true
		}
	}
	return false
}

// isBrowser reports whether User-Agent is that of a browser. All of them still claim to be
// Mozilla with, or like, its engine.
func isBrowser(h http.Header) bool {
	agent := field(h, "User-Agent")
	return strings.HasPrefix(agent, "Mozilla/5.0 (") && strings.Contains(agent, "Gecko")
}

// bypassesCache reports what a browser sends for a fetch with cache: 'no-store', which
// clients of the mailbox use, and not for a script or a sound that a page embeds.
func bypassesCache(h http.Header) bool {
	return strings.Contains(strings.ToLower(field(h, "Cache-Control")), "no-cache")
}

// field is Header.Get for a name in canonical form.
func field(h http.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}
