package main

import "time"

// arrivalTime is for connections that were accepted just before the end: a TLS
// handshake and a request from the other side of the earth.
const arrivalTime = 500 * time.Millisecond

// leaveDoors leaves sockets that outlive us to the next process before the
// server shuts down, and answers the last that came in. net/http's Shutdown
// drops a first request that it reads after its beginning, so that some would
// break at each restart. Without such sockets a restart breaks connections anyway.
func (h *house) leaveDoors() {
	if !h.doors.lent {
		return
	}
	h.doors.main.Close() // our copy: who connects now waits for the next process
	if h.doors.plain != nil {
		h.doors.plain.Close()
		h.plain.SetKeepAlivesEnabled(false)
	}
	h.handler.EndPolls()
	h.server.SetKeepAlivesEnabled(false) // an answer says that the connection ends
	time.Sleep(arrivalTime)
}
