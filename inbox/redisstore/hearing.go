package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// deaf is how long a subscription may be silent; it hears this node each second.
const deaf = 4 * time.Second

// listen hears what happens to mailboxes that somebody waits for here. After
// each time that it was deaf everybody looks again, so nothing is missed.
func (s *Store) listen(ctx context.Context, l *link) {
	for ctx.Err() == nil {
		err := s.subscribe(ctx, l)
		if _, refused := rueidis.IsRedisErr(err); refused {
			s.log.Warn("the store does not tell this server of messages, so they come late", "store", s.address, "err", err)
			pause(ctx, recheck)
		} else if err != nil && ctx.Err() == nil {
			s.log.Debug("the subscription ended", "err", err)
		}
		pause(ctx, retryEvery)
	}
}

func (s *Store) subscribe(ctx context.Context, l *link) error {
	c, release := l.Dedicate()
	defer release()
	begun := make(chan struct{}, 1)
	ended := c.SetPubSubHooks(rueidis.PubSubHooks{
		OnMessage:      func(m rueidis.PubSubMessage) { s.hear(m.Message) },
		OnSubscription: func(rueidis.PubSubSubscription) { notify(begun) },
	})
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := c.Do(asking, c.B().Subscribe().Channel("inbox:n:"+s.node).Build()).Error(); err != nil {
		return err
	}
	silence, speak := time.NewTimer(deaf), time.NewTicker(refreshEvery)
	defer silence.Stop()
	defer speak.Stop()
	for {
		select {
		case <-begun:
			s.done.Go(func() { s.waiters.wakeAll(ctx) })
		case <-speak.C:
			_ = s.speak(ctx, l) // if it is not heard, silence tells
		case <-s.heard:
			silence.Reset(deaf)
		case err := <-ended:
			return err
		case <-silence.C:
			return errors.New("it is silent")
		case <-ctx.Done():
			return nil
		}
	}
}

// speak lets this node hear itself, over the whole way that a wake-up takes.
func (s *Store) speak(ctx context.Context, l *link) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := l.Do(ctx, l.B().Publish().Channel("inbox:n:"+s.node).Message("!").Build()).Error(); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// hear takes one message of the channel: "wTAG" to wake, "sSEQ TAG" to
// supersede, "!" is this node's own. Anything else is nothing of ours.
func (s *Store) hear(text string) {
	if text == "" {
		return
	}
	switch rest := text[1:]; text[0] {
	case 'w':
		s.waiters.wake(rest)
	case 's':
		number, tag, _ := strings.Cut(rest, " ")
		if seq, err := strconv.ParseUint(number, 10, 64); err == nil {
			s.waiters.supersede(tag, seq)
		}
	case '!':
		notify(s.heard)
	}
}
