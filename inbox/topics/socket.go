package topics

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"inbox/inbox"
	"inbox/internal/websocket"
)

const (
	// membersPerToken of a topic cost a publisher one token, besides that of the frame.
	membersPerToken = 8
	// tokenBytes of a frame cost as much as a further frame.
	tokenBytes = 16 << 10
	// freeFrameInterval is how often a ping or a pong is free.
	freeFrameInterval = time.Second
)

// socket is the connection of a client. The methods of websocket.Handler run one at a time, and
// call all others but Deliver and flush.
type socket struct {
	h         *Handler
	conn      *websocket.Conn
	client    Client
	topics    []ID // that the connection has joined
	freeFrame time.Time
	incoming  reservation // of an incomplete message
	protocol  Protocol
	queue     queue
}

func newSocket(h *Handler, client Client) *socket {
	return &socket{h: h, client: client, queue: queue{budget: &h.queued, payer: client.Payer()}}
}

// Allow takes a token for a frame. Pings, pongs and close frames are free up to one a second.
func (s *socket) Allow(kind websocket.Kind, payload []byte) (wait time.Duration, again bool) {
	isFree := kind == websocket.Ping || kind == websocket.Pong || kind == websocket.Close ||
		kind == websocket.Text && string(payload) == string(pingText)
	if now := time.Now(); isFree && !now.Before(s.freeFrame) {
		s.freeFrame = now.Add(freeFrameInterval)
		return 0, false
	}
	return s.client.Delay()
}

// Message handles a frame. What neither protocol has is ignored.
func (s *socket) Message(kind websocket.Kind, payload []byte) {
	var f frame
	if kind == websocket.Text {
		f = parseFrame(payload)
	}
	s.h.counts.frames[f.kind].Add(1)
	tokens := 0
	switch f.kind {
	case subscribe:
		tokens = s.subscribe(&f)
	case unsubscribe:
		s.unsubscribe(&f)
	case publish:
		tokens = s.publish(&f)
	case ping:
		if s.protocol != Trystero {
			s.Deliver(pongText)
		}
	}
	if tokens += len(payload) / tokenBytes; tokens > 0 {
		s.client.Charge(tokens)
	}
}

// decide makes the first subscription select the protocol.
func (s *socket) decide(p Protocol) {
	if s.protocol != Unknown || p == Unknown {
		return
	}
	s.h.counts.open[Unknown].Add(-1)
	s.h.counts.open[p].Add(1)
	s.protocol = p
	s.queue.setDropOldest(p == Trystero)
}

// subscribe joins topics, and returns the tokens that they cost besides that of the frame.
func (s *socket) subscribe(f *frame) (tokens int) {
	s.decide(f.protocol())
	joined := 0
	for _, id := range s.named(f) {
		if slices.Contains(s.topics, id) {
			continue
		}
		if err := s.join(id); err != nil {
			s.refuse(err)
			break
		}
		joined++
	}
	return max(0, joined-1)
}

// errTooManyTopics is the error of a connection with as many topics as it can have.
var errTooManyTopics = errors.New("topics: too many topics of a connection")

func (s *socket) join(id ID) error {
	if len(s.topics) >= s.h.maxTopics {
		return errTooManyTopics
	}
	if err := s.h.topics.Join(id, s.queue.payer, s); err != nil {
		return err
	}
	s.topics = append(s.topics, id)
	return nil
}

// named returns the topics that a subscription is about. Of too many, it returns one more than a
// connection can have.
func (s *socket) named(f *frame) (ids []ID) {
	switch {
	case s.protocol == YWebRTC && f.topics != nil:
		for value := range elements(f.topics) {
			if name, ok := unquote(value); ok && len(ids) <= s.h.maxTopics {
				ids = append(ids, NewID(YWebRTC, name))
			}
		}
	case s.protocol == Trystero && f.topic != nil:
		if name, ok := unquote(f.topic); ok {
			ids = append(ids, NewID(Trystero, name))
		}
	}
	return ids
}

// refusals are the limits that a client can reach when it subscribes.
var refusals = []struct {
	err           error
	limit, detail string
}{
	{errTooManyTopics, limitTopicsPerConn, "A connection can subscribe to no more topics."},
	{ErrTopicFull, limitMembersPerTopic, "The topic can have no more members, or none of your address."},
	{inbox.ErrPayerFull, limitTopicsPerAddress, "Your address can subscribe to no more topics."},
	{ErrFull, limitTopics, "The server is at its limit of members of topics."},
}

// refuse tells the client why it has not joined a topic. Clients of both protocols ignore the
// frame; a person sees it in the tools of a browser. Closing the connection would end what works.
func (s *socket) refuse(err error) {
	for _, r := range refusals {
		if !errors.Is(err, r.err) {
			continue
		}
		s.h.counts.countRefused(r.limit)
		s.h.log.Debug("subscription refused", "limit", r.limit, "protocol", s.protocol.String())
		text, _ := json.Marshal(errorFrame{"error", r.limit, r.detail}) // strings: cannot fail
		s.Deliver(text)
		return
	}
	s.h.log.Error("subscribe", "err", err)
}

type errorFrame struct {
	Type   string `json:"type"`
	Limit  string `json:"limit"`
	Detail string `json:"detail"`
}

func (s *socket) unsubscribe(f *frame) {
	for _, id := range s.named(f) {
		if i := slices.Index(s.topics, id); i >= 0 {
			s.topics = slices.Delete(s.topics, i, i+1)
			s.h.topics.Leave(id, s)
		}
	}
}

// publish publishes a frame, and returns the tokens that it costs besides the first one.
func (s *socket) publish(f *frame) (tokens int) {
	protocol := s.protocol
	if protocol == Unknown {
		protocol = f.protocol()
	}
	name, ok := unquote(f.topic)
	if !ok || name == "" && protocol == YWebRTC || f.payload == nil && protocol == Trystero {
		return 0
	}
	members := s.h.topics.Publish(NewID(protocol, name), func(members int) []byte {
		if protocol == Trystero {
			return f.withoutType()
		}
		return f.withClients(members)
	})
	return members / membersPerToken * (1 + len(f.text)/tokenBytes)
}

// Deliver implements [Member]. A goroutine writes the frame, and those that follow meanwhile, so
// that a client that does not read delays no other one.
func (s *socket) Deliver(frame []byte) {
	r := s.queue.push(frame)
	if r.dropped > 0 {
		s.h.counts.dropped.Add(int64(r.dropped))
	}
	switch {
	case r.start:
		go s.flush()
	case r.closed:
		s.h.counts.disconnect.Add(1)
		s.h.log.Debug("connection closed: its client does not read", "protocol", YWebRTC.String())
		go s.conn.Close(websocket.TryAgainLater, "frames were lost: connect again") // waits for the frame that is being written
	}
}

// flush writes until the queue is empty, or the connection ends.
func (s *socket) flush() {
	for frame := s.queue.next(); frame != nil; frame = s.queue.next() {
		if s.conn.Write(websocket.Text, frame) != nil {
			s.queue.close()
			continue
		}
		s.h.counts.delivered.Add(1)
	}
}

// Pong implements websocket.Handler, which has noticed that the client is alive.
func (s *socket) Pong([]byte) {}

// Woken implements websocket.Handler. Nothing wakes the connection.
func (s *socket) Woken() {}

// Buffer implements websocket.Buffering.
func (s *socket) Buffer(more int) bool {
	return s.h.queued.resize(&s.incoming, s.queue.payer, s.incoming.bytes+int64(more))
}

// Closed implements websocket.Handler.
func (s *socket) Closed(error) {
	for _, id := range s.topics {
		s.h.topics.Leave(id, s)
	}
	s.topics = nil
	s.h.access.remove(s)
	s.queue.close()
	s.h.counts.open[s.protocol].Add(-1)
	s.client.Leave()
}
