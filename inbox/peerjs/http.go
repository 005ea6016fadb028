package peerjs

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"inbox/internal/problem"
	"inbox/internal/websocket"
)

// Route is a path of the protocol.
type Route uint8

// The routes.
const (
	RouteNone  Route = iota
	RouteInfo        // describes the server
	RouteID          // a new id
	RoutePeers       // the list of ids, which is refused
	RouteSocket
)

// prefix is the second path at which the protocol is served, beside the root.
const prefix = "/peerjs"

// RouteOf returns the route of a path, RouteNone if it is not of the protocol. The client calls
// these PATH, PATHkey/id, PATHkey/peers and PATHpeerjs, where its option path is / or /peerjs/. The
// description is at /peerjs/ only.
func RouteOf(path string) Route {
	switch path {
	case prefix + "/":
		return RouteInfo
	case prefix, prefix + prefix:
		return RouteSocket
	}
	parts := strings.Split(path, "/")
	if len(parts) == 4 && "/"+parts[1] == prefix {
		parts = parts[1:]
	}
	if len(parts) != 3 || parts[1] == "" {
		return RouteNone
	}
	switch parts[2] {
	case "id":
		return RouteID
	case "peers":
		return RoutePeers
	}
	return RouteNone
}

// info is what PeerServer answers. Clients can compare it.
const info = `{"name":"PeerJS Server","description":"A server side element to broker connections between PeerJS clients.",` +
	`"website":"https://peerjs.com/"}`

// ServeHTTP serves a request of a path that [RouteOf] knows.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	route := RouteOf(r.URL.Path)
	problem.SetInert(w.Header())
	h.AllowOrigin(w, r)
	switch {
	case r.Method == http.MethodOptions:
		preflight(w)
	case route == RouteNone, route == RouteSocket && !websocket.IsUpgrade(r):
		errNoRoute.Write(w)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", allowedMethods)
		problem.MethodNotAllowed.Write(w)
	case route == RoutePeers:
		errNoPeers.Write(w)
	case route == RouteInfo:
		respond(w, "application/json; charset=utf-8", info)
	case route == RouteID:
		h.serveID(w, r)
	default:
		if err := h.connect(w, r); err != nil {
			refuse(w, err)
		}
	}
}

func respond(w http.ResponseWriter, contentType, text string) {
	header := w.Header()
	header.Set("Content-Type", contentType)
	header.Set("Content-Length", strconv.Itoa(len(text)))
	_, _ = io.WriteString(w, text) // an error is that of the connection
}

// refuse writes the problem document of an error before the WebSocket.
func refuse(w http.ResponseWriter, err error) {
	var refuser interface{ Refuse(http.ResponseWriter) }
	var known *problem.Problem
	var invalid *websocket.HandshakeError
	switch {
	case errors.As(err, &refuser):
		refuser.Refuse(w)
	case errors.As(err, &invalid):
		invalid.SetHeader(w.Header())
		invalid.Problem().Write(w)
	case errors.As(err, &known):
		if known.Status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		known.Write(w)
	default: // the client is gone
		panic(http.ErrAbortHandler)
	}
}

// newID returns a random id of the form that the client accepts: letters and digits at both ends, a
// single separator between them. It is a UUID (RFC 9562, version 4).
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

const allowedMethods = "GET, HEAD, OPTIONS"

// AllowOrigin sets the CORS fields that let a page read a response. The routes take no cookies and
// no login, so pages of every site can be allowed.
func (h *Handler) AllowOrigin(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	if len(h.origins) == 0 {
		header.Set("Access-Control-Allow-Origin", "*")
		return
	}
	header.Set("Vary", "Origin")
	if origin := r.Header.Get("Origin"); h.origins[origin] {
		header.Set("Access-Control-Allow-Origin", origin)
	}
}

func preflight(w http.ResponseWriter) {
	header := w.Header()
	header.Set("Allow", allowedMethods)
	if header.Get("Access-Control-Allow-Origin") != "" {
		header.Set("Access-Control-Allow-Methods", allowedMethods)
		header.Set("Access-Control-Allow-Headers", "*")
		header.Set("Access-Control-Max-Age", "7200") // the maximum in Chromium
	}
	w.WriteHeader(http.StatusNoContent)
}

// servesOrigin reports whether the page of a WebSocket, to which CORS does not apply, can use the
// server. Programs send no Origin.
func (h *Handler) servesOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if len(h.origins) == 0 || origin == "" || h.origins[origin] {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, r.Host)
}
