package peerjs

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// TestWire has the rules of the protocol: those of PeerServer, and those in which this server is
// better.
func TestWire(t *testing.T) {
	const a, b, elsewhere = "192.0.2.1", "192.0.2.2", "192.0.2.3"
	for _, rule := range []struct {
		name string
		test func(s *testServer)
	}{
		{"GET PATH describes the server", func(s *testServer) {
			_, body := s.get("/peerjs/")
			const want = `{"name":"PeerJS Server","description":"A server side element to broker connections between PeerJS clients.","website":"https://peerjs.com/"}`
			if body != want {
				s.t.Errorf("got %s", body)
			}
		}},
		{"GET KEY/id returns new ids that the client accepts, for every key", func(s *testServer) {
			valid, seen := regexp.MustCompile(`^[A-Za-z0-9]+(?:[ _-][A-Za-z0-9]+)*$`), map[string]bool{}
			for _, path := range []string{"/peerjs/id", "/peerjs/peerjs/id?ts=1&version=1.5.5", "/other/id", "/peerjs/other/id", "/null/id"} {
				resp, id := s.get(path, "Origin: https://a.example")
				if resp.StatusCode != 200 || !valid.MatchString(id) || seen[id] || resp.Header.Get("Cache-Control") != "no-store" {
					s.t.Errorf("%s: got %s %q %v", path, resp.Status, id, resp.Header)
				}
				seen[id] = true
			}
		}},
		{"GET KEY/peers is refused", func(s *testServer) {
			for _, path := range []string{"/peerjs/peers", "/peerjs/peerjs/peers", "/other/peers"} {
				if resp, _ := s.get(path); resp.StatusCode != 401 {
					s.t.Errorf("%s: got %s, want 401", path, resp.Status)
				}
			}
		}},
		{"GET peerjs without an upgrade is 404", func(s *testServer) {
			for _, path := range []string{"/peerjs", "/peerjs/peerjs"} {
				if resp, _ := s.get(path); resp.StatusCode != 404 {
					s.t.Errorf("%s: got %s, want 404", path, resp.Status)
				}
			}
		}},
		{"pages of every site are served", func(s *testServer) {
			for _, path := range []string{"/peerjs/", "/peerjs/id", "/peerjs/peers", "/peerjs"} {
				if resp, _ := s.get(path, "Origin: https://a.example"); resp.Header.Get("Access-Control-Allow-Origin") != "*" {
					s.t.Errorf("%s: got fields %v", path, resp.Header)
				}
			}
		}},
		{"without an id, a token or a key: ERROR", func(s *testServer) {
			for _, query := range []string{"id=x&token=t", "id=x&key=k", "token=t&key=k", "id=&token=t&key=k", ""} {
				c := s.dialPath("/peerjs?"+query, a)
				if text := c.next(); !strings.HasPrefix(text, `{"type":"ERROR","payload":{"msg":"`) {
					s.t.Errorf("%s: got %s", query, text)
				}
				c.expectEnd()
			}
		}},
		{"every key is accepted", func(s *testServer) {
			s.dialPath("/peerjs/peerjs?key=secret&id=x&token=t", a).expect(`{"type":"OPEN"}`)
		}},
		{"a new id: OPEN before everything else", func(s *testServer) {
			caller := s.open("caller", "t1", a)
			caller.message("OFFER", "x", `1`)
			s.dial("x", "t", b).expect(`{"type":"OPEN"}`)
		}},
		{"an id that is used with another token: ID-TAKEN", func(s *testServer) {
			x := s.open("x", "t", a)
			for _, addr := range []string{a, elsewhere} { // the same address, too
				c := s.dial("x", "another", addr)
				c.expect(`{"type":"ID-TAKEN","payload":{"msg":"ID is taken"}}`)
				c.expectEnd()
			}
			x.expectNothing()
		}},
		{"frames are handed over with the id of the sender", func(s *testServer) {
			x, y := s.open("x", "t1", a), s.open("y", "t2", b)
			for _, kind := range []string{"OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"} {
				x.send(`{"type":"` + kind + `","src":"forged","dst":"y","payload":{"sdp":"v=0\r\n","n":[1,"}"]},"more":1}`)
				y.expectFrom(kind, "x", `{"sdp":"v=0\r\n","n":[1,"}"]}`)
			}
		}},
		{"a frame without a payload has none", func(s *testServer) {
			x, y := s.open("x", "t1", a), s.open("y", "t2", b)
			x.send(`{"type":"LEAVE","dst":"y"}`)
			y.expect(`{"type":"LEAVE","src":"x","dst":"y"}`)
		}},
		{"the order of a sender is kept", func(s *testServer) {
			x, y := s.open("x", "t1", a), s.open("y", "t2", b)
			for i := range 200 {
				x.message("CANDIDATE", "y", fmt.Sprint(i))
			}
			for i := range 200 {
				y.expectFrom("CANDIDATE", "x", fmt.Sprint(i))
			}
		}},
		{"HEARTBEAT is silent", func(s *testServer) {
			x := s.open("x", "t", a)
			for range 3 {
				x.send(`{"type":"HEARTBEAT"}`)
			}
			x.expectNothing()
		}},
		{"a message to oneself arrives", func(s *testServer) {
			x := s.open("x", "t", a)
			x.message("OFFER", "x", `1`)
			x.expectFrom("OFFER", "x", `1`)
		}},
		{"frames for an absent id wait, and follow the OPEN in their order", func(s *testServer) {
			s.timing.absent = wait
			x := s.open("x", "t1", a)
			x.message("OFFER", "late", `1`)
			x.message("CANDIDATE", "late", `2`)
			x.message("LEAVE", "late", `3`) // dropped
			x.message("CANDIDATE", "late", `4`)
			x.expectNothing()
			late := s.open("late", "t2", b)
			for _, n := range []string{"OFFER 1", "CANDIDATE 2", "CANDIDATE 4"} {
				kind, payload, _ := strings.Cut(n, " ")
				late.expectFrom(kind, "x", payload)
			}
			x.message("CANDIDATE", "late", `5`)
			late.expectFrom("CANDIDATE", "x", `5`)
		}},
		{"an id that stays absent: one EXPIRE", func(s *testServer) {
			x := s.open("x", "t1", a)
			for i := range 4 {
				x.message("OFFER", "nobody", fmt.Sprint(i))
			}
			x.message("OFFER", "neither", `1`)
			got := map[string]bool{}
			for range 2 {
				got[x.next()] = true
			}
			if !got[`{"type":"EXPIRE","src":"nobody","dst":"x"}`] || !got[`{"type":"EXPIRE","src":"neither","dst":"x"}`] {
				s.t.Errorf("got %v", got)
			}
			x.expectNothing() // and the connection stays open
		}},
		{"LEAVE and EXPIRE for an absent id are dropped", func(s *testServer) {
			x := s.open("x", "t1", a)
			x.message("LEAVE", "nobody", `1`)
			x.message("EXPIRE", "nobody", `1`)
			time.Sleep(s.timing.absent + 100*time.Millisecond)
			x.expectNothing()
		}},
		{"LEAVE without a recipient frees the id", func(s *testServer) {
			x := s.open("x", "t", a)
			x.send(`{"type":"LEAVE"}`)
			x.expectEnd()
			s.awaitLost("x")
			s.open("x", "another", elsewhere)
		}},
		{"other frames without a recipient do nothing", func(s *testServer) {
			x := s.open("x", "t", a)
			x.send(`{"type":"OFFER","payload":1}`)
			x.send(`{"type":"OFFER","dst":7,"payload":1}`)
			x.send(`{"type":"OFFER","dst":"","payload":1}`)
			x.expectNothing()
		}},
		{"a close frame frees the id", func(s *testServer) {
			for i, code := range []ws.StatusCode{0, 1000, 1001} {
				x := s.open("x", fmt.Sprint("t", i), a)
				var payload []byte
				if code != 0 {
					payload = ws.NewCloseFrameBody(code, "")
				}
				x.write(ws.OpClose, payload)
				for x.next() != "" {
				}
				s.awaitLost("x")
			}
			s.open("x", "another", elsewhere)
		}},
		{"unknown types are ignored", func(s *testServer) {
			x, y := s.open("x", "t1", a), s.open("y", "t2", b)
			x.message("HELLO", "y", `1`)
			x.message("OPEN", "y", `1`)
			x.message("ERROR", "y", `1`)
			x.expectNothing()
			y.expectNothing()
		}},
		{"ids can have every character", func(s *testServer) {
			const id = "Zoë's \"id\" <& 日本>\\"
			x, y := s.open(id, "t1", a), s.open("y", "t2", b)
			y.message("OFFER", id, `1`)
			x.expectFrom("OFFER", "y", `1`)
			x.message("ANSWER", "y", `2`)
			y.expectFrom("ANSWER", id, `2`)
		}},

		{"better: the same token takes over, with OPEN, and the old connection is closed", func(s *testServer) {
			x := s.open("x", "t", a)
			again := s.open("x", "t", elsewhere)
			x.expectEnd()
			y := s.open("y", "t2", b)
			y.message("OFFER", "x", `1`)
			again.expectFrom("OFFER", "y", `1`)
		}},
		{"better: junk does not stop a connection", func(s *testServer) {
			x, y := s.open("x", "t1", a), s.open("y", "t2", b)
			for _, junk := range []string{"", "7", "null", "[]", `"`, "{", `{"type":7}`, `{"type":null,"dst":"y"}`, "\x01", `{"type":"OFFER","dst":"y",}`} {
				x.send(junk)
			}
			x.write(ws.OpBinary, []byte{0xff, 0xfe})
			x.write(ws.OpBinary, []byte(`{"type":"OFFER","dst":"y","payload":"\xff"}`+"\xff"))
			x.message("OFFER", "y", `1`)
			y.expectFrom("OFFER", "x", `1`)
		}},
		{"better: a dead line loses nothing", func(s *testServer) {
			x, y := s.open("x", "t1", a), s.open("y", "t2", b)
			x.deaf.Store(true)
			y.message("OFFER", "x", `1`)
			y.message("CANDIDATE", "x", `2`)
			y.expectNothing()
			again := s.open("x", "t1", elsewhere)
			again.expectFrom("OFFER", "y", `1`)
			again.expectFrom("CANDIDATE", "y", `2`)
			again.expectNothing()
		}},
		{"better: a connection that does not answer gives its id to the newcomer", func(s *testServer) {
			x, y := s.open("x", "t1", a), s.open("y", "t2", b)
			x.deaf.Store(true)
			y.message("OFFER", "x", `1`)
			again := s.open("x", "reloaded", elsewhere)
			y.expectFrom("EXPIRE", "x", "") // for the offer, which is not for the newcomer
			again.expectNothing()
		}},
		{"better: the id of a lost line is kept for its token and its address", func(s *testServer) {
			x := s.open("x", "t1", a)
			x.hangUp()
			s.awaitLost("x")
			s.dial("x", "stranger", elsewhere).expect(string(idTakenFrame))
			x = s.open("x", "reloaded", a) // the same address
			x.hangUp()
			s.awaitLost("x")
			s.dial("x", "t1", elsewhere).expect(string(idTakenFrame))
			s.open("x", "reloaded", elsewhere) // the same token
		}},
		{"better: after that, everybody can have it, and callers learn it", func(s *testServer) {
			x, y := s.open("x", "t1", a), s.open("y", "t2", b)
			x.hangUp()
			s.awaitLost("x")
			y.message("OFFER", "x", `1`)
			y.expectFrom("EXPIRE", "x", "")
			s.awaitFree("x")
			s.open("x", "stranger", elsewhere)
		}},
		{"better: what a client that leaves has not received waits for it", func(s *testServer) {
			s.timing.absent = wait
			x, y := s.open("x", "t1", a), s.open("y", "t2", b)
			x.noPong.Store(true)
			y.message("OFFER", "x", `1`)
			y.message("CANDIDATE", "x", `2`)
			x.expectFrom("OFFER", "y", `1`)
			x.leave()
			s.awaitLost("x")
			y.message("CANDIDATE", "x", `3`)
			y.expectNothing()
			x = s.open("x", "t3", elsewhere)
			x.expectFrom("OFFER", "y", `1`)
			x.expectFrom("CANDIDATE", "y", `2`)
			x.expectFrom("CANDIDATE", "y", `3`)
			x.expectNothing()
		}},
		{"better: what is sent to one that has left waits and expires", func(s *testServer) {
			x, y := s.open("x", "t1", a), s.open("y", "t2", b)
			x.leave()
			s.awaitLost("x")
			y.message("OFFER", "x", `1`)
			y.expectFrom("EXPIRE", "x", "")
			s.awaitFree("x")
		}},
		{"better: what waits for absent ids is bounded", func(s *testServer) {
			x := s.open("x", "t1", a)
			for i := range maxQueueFrames + 10 {
				x.message("CANDIDATE", "nobody", fmt.Sprint(i)) // the last ten are read when the others have expired
			}
			x.expectFrom("EXPIRE", "nobody", "")
			x.expectFrom("EXPIRE", "nobody", "")
		}},
		{"better: a connection can wait for a number of absent ids", func(s *testServer) {
			s.timing.absent = wait
			x := s.open("x", "t1", a)
			for i := range 2 * maxQueues {
				x.message("OFFER", fmt.Sprint("absent-", i), `1`)
			}
			for i := maxQueues; i < 2*maxQueues; i++ {
				x.expectFrom("EXPIRE", fmt.Sprint("absent-", i), "")
			}
			x.expectNothing()
		}},
	} {
		t.Run(rule.name, func(t *testing.T) {
			t.Parallel()
			rule.test(serve(t, testConfig()))
		})
	}
}
