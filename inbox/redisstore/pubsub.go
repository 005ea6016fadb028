package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"inbox/inbox"

	"github.com/redis/rueidis"
)

// silenceTimeout is how long a subscription can receive nothing before it is replaced.
// This node publishes a heartbeat to itself every refreshEvery.
const silenceTimeout = 4 * time.Second

// listen receives the wake-ups for watches of this node and resubscribes after a
// failure. After each subscription all watches are renewed, so no message is missed.
func (s *Store) listen(ctx context.Context, sess *session) {
	for ctx.Err() == nil {
		err := s.subscribe(ctx, sess)
		if _, refused := rueidis.IsRedisErr(err); refused {
			s.log.Warn("subscription refused; messages are delivered late", "store", s.address, "err", err)
			pause(ctx, recheckClusterEvery)
		} else if err != nil && ctx.Err() == nil {
			s.log.Debug("subscription ended", "err", err)
		}
		pause(ctx, retryEvery)
	}
}

func (s *Store) subscribe(ctx context.Context, sess *session) error {
	c, release := sess.Dedicate()
	defer release()
	subscribed := make(chan struct{}, 1)
	ended := c.SetPubSubHooks(rueidis.PubSubHooks{
		OnMessage:      func(m rueidis.PubSubMessage) { s.handleMessage(m.Message) },
		OnSubscription: func(rueidis.PubSubSubscription) { signal(subscribed) },
	})
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := c.Do(callCtx, c.B().Subscribe().Channel("inbox:n:"+s.node).Build()).Error(); err != nil {
		return err
	}
	silence, heartbeat := time.NewTimer(silenceTimeout), time.NewTicker(refreshEvery)
	defer silence.Stop()
	defer heartbeat.Stop()
	for {
		select {
		case <-subscribed:
			s.tasks.Go(func() { s.watches.recheck(ctx) })
		case <-heartbeat.C:
			_ = s.publishHeartbeat(ctx, sess) // silenceTimeout detects a failure
		case <-s.heartbeats:
			silence.Reset(silenceTimeout)
		case err := <-ended:
			return err
		case <-silence.C:
			return fmt.Errorf("no heartbeat for %v", silenceTimeout)
		case <-ctx.Done():
			return nil
		}
	}
}

// publishHeartbeat sends a message to this node over the whole path of a wake-up.
func (s *Store) publishHeartbeat(ctx context.Context, sess *session) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := sess.Do(ctx, sess.B().Publish().Channel("inbox:n:"+s.node).Message("!").Build()).Error(); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

// handleMessage handles a message on this node's channel: "wTAG" wakes the watches of a
// mailbox, "sSEQ TAG" supersedes them up to a seq, "eEPOCH TAG" tells that a claim has
// ended, "!" is the heartbeat. Other messages are ignored.
func (s *Store) handleMessage(text string) {
	if text == "" {
		return
	}
	switch rest := text[1:]; text[0] {
	case 'w':
		s.watches.wake(rest)
	case 's', 'e':
		number, tag, _ := strings.Cut(rest, " ")
		n, err := strconv.ParseUint(number, 10, 64)
		switch {
		case err != nil:
		case text[0] == 's':
			s.watches.end(tag, inbox.ErrSuperseded, func(w *watch) bool { return w.seq <= n })
		default:
			s.watches.end(tag, inbox.ErrClaimEnded, func(w *watch) bool { return w.epoch == n })
		}
	case '!':
		signal(s.heartbeats)
	}
}
