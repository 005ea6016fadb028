package public

import (
	"net/http"
	"slices"
	"strings"
)

// ClientPath is the URL path below which the modules of the JavaScript client are served.
// Its number is the version of their interface: modules of a later version of the program
// with the same number can replace them. The modules at the root are those of the pages and
// have no version.
const ClientPath = "/client/1/"

// clientModules are the modules that clients import, and those that these import. The npm
// package has the same files.
var clientModules = []string{
	"channel-call.js", "channel.js", "codec.js", "connect.js", "data-channel.js", "events.js",
	"ice-list.js", "ice-restart.js", "ice.js", "inbox.js", "media-types.js", "path.js", "peer-call.js",
	"peer.js", "room.js", "seal.js", "stream-inbox.js", "streams.js", "transport-stream.js",
	"transport-websocket.js", "transports.js", "wait-time.js", "wake.js",
	"watched-peer.js",
}

// clientModule returns a module of the client by its URL path.
func (e embedded) clientModule(urlPath string) (page, bool) {
	name, ok := strings.CutPrefix(urlPath, ClientPath)
	if !ok || !slices.Contains(clientModules, name) {
		return page{}, false
	}
	return e[name], true
}

// serveClientModule serves a module of the client to pages of all origins: the modules are
// public, and what they request is subject to CORS. Caches revalidate a module before each
// use, so that the modules of two versions of the program are not mixed.
func (p page) serveClientModule(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cache-Control", "no-cache")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	p.serve(w, r)
}
