package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"inbox/e2e"
)

// TestMain lets the test binary run as the bare handler, as the load tool does when it
// starts itself.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-bare") {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestRunMeasuresAll(t *testing.T) {
	program, err := e2e.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	args := []string{"-pairs", "3", "-count", "30", "-rounds", "2", "-after",
		"-other", "again=" + program + " -bind {addr} -https={https} -state " + t.TempDir()}
	if err := run(t.Context(), args, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"http, 3 pairs", "https, 3 pairs", "inbox, poll ", "bare net/http", "again "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got a report without %q, want it to contain that:\n%s", want, out.String())
		}
	}
}

func TestRunFailsAboveRatio(t *testing.T) {
	args := []string{"-pairs", "1", "-count", "10", "-rounds", "1", "-scheme", "http", "-max-ratio", "0.001"}
	err := run(t.Context(), args, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "want at most 0.00") {
		t.Errorf("got %v, want an error with the limit", err)
	}
}

func TestRunEndsAfterDuration(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args := []string{"-scheme", "http", "-duration", "1s", "-rounds", "1000", "-count", "1000000"}
	err := run(ctx, args, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "-duration") {
		t.Errorf("got %v, want an error that mentions -duration", err)
	}
	var out bytes.Buffer
	args = []string{"-scheme", "http", "-duration", "2s", "-rounds", "1000", "-count", "100"}
	if err := run(ctx, args, &out, io.Discard); err != nil || !strings.Contains(out.String(), "bare") {
		t.Errorf("got %v and %q, want a report of the completed rounds", err, out.String())
	}
	if ctx.Err() != nil {
		t.Error("got a run that only the timeout of the test ended, want it to end after -duration")
	}
}

// alteringSender sends another message than the one that is expected.
type alteringSender struct{ sender }

func (s alteringSender) send(body []byte) error {
	body = bytes.Clone(body)
	body[0] = 'x'
	return s.sender.send(body)
}

func TestRelayDetectsWrongMessage(t *testing.T) {
	bare, err := startBare("http")
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cfg, err := parse([]string{"-pairs", "1"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPair(ctx, cfg, target{name: "bare", addr: bare.Addr, transport: poll}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := p.relay(); err != nil {
		t.Fatal(err)
	}
	p.sender = alteringSender{p.sender}
	if err := p.relay(); err == nil {
		t.Error("got no error for a wrong message, want one")
	}
}

// Each transport relays, and peers of each stay connected and receive through a flood.
func TestTransports(t *testing.T) {
	program, err := e2e.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-pairs", "2", "-count", "20", "-rounds", "1"},
		{"-peers", "4", "-messages", "10", "-settle", "1s", "-flood", "1s"},
	} {
		var out bytes.Buffer
		args = append(args, "-program", program, "-transports", "all", "-duration", "5m")
		if err := run(t.Context(), args, &out, io.Discard); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out.String())
		}
		for _, want := range []string{"http, ", "https, ", "poll ", "poll-h2 ", "sse ", "sse-h2 ", "ws ", "peerjs "} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q: got a report without %q:\n%s", args, want, out.String())
			}
		}
	}
}

func TestMask(t *testing.T) {
	const key = 0x04030201 // the bytes 1, 2, 3, 4
	for n := range 40 {
		got := make([]byte, n)
		mask(got, key)
		for i, b := range got {
			if want := byte(i%4 + 1); b != want {
				t.Errorf("%d bytes: got %d at %d, want %d", n, b, i, want)
			}
		}
	}
}

func TestParseRejects(t *testing.T) {
	for name, args := range map[string][]string{
		"another machine":       {"-url", "http://192.0.2.1:3000"},
		"host name":             {"-url", "http://example.org:80"},
		"no port":               {"-url", "http://127.0.0.1"},
		"another scheme":        {"-url", "ftp://127.0.0.1:21"},
		"url and other":         {"-url", "http://127.0.0.1:1", "-other", "x=x {addr}"},
		"other without address": {"-other", "x=x"},
		"other over no wire":    {"-other", "x/gopher=x {addr}"},
		"no pairs":              {"-pairs", "0"},
		"too many rounds":       {"-rounds", "1000000"},
		"fewer than pairs":      {"-pairs", "10", "-count", "9"},
		"unknown scheme":        {"-scheme", "gopher"},
		"positional argument":   {"relay"},
		"unknown transport":     {"-transports", "poll,carrier-pigeon"},
		"half a pair":           {"-peers", "3"},
		"messages without time": {"-peers", "2", "-size", "15"},
		"peers and url":         {"-peers", "2", "-url", "http://127.0.0.1:3000"},
		"server without port":   {"-peerserver", "peerjs"},
	} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%s: got no error for %q, want one", name, args)
		}
	}
	if _, err := parse([]string{"-url", "https://127.8.0.1:3000"}, io.Discard); err != nil {
		t.Errorf("loopback address: got %v, want no error", err)
	}
}

func TestQuantile(t *testing.T) {
	values := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
	for q, want := range map[float64]int{0: 1, 0.5: 6, 0.9: 10, 0.999: 11, 1: 11} {
		if got := quantile(values, q); got != want {
			t.Errorf("quantile %v of %v: got %d, want %d", q, values, got, want)
		}
	}
	if got := quantile([]int{7}, 0.99); got != 7 {
		t.Errorf("quantile of one value: got %d, want 7", got)
	}
}

func TestSlowMessages(t *testing.T) {
	var s slowMessages
	var out strings.Builder
	s.print(&out, 0)
	for n := range 17 {
		p := &peer{source: peerAddress(n)}
		p.received(0, slowAfter)
		if n > 0 {
			p.received(time.Duration(n)*time.Second, 40*time.Second)
		}
		s.add(p)
	}
	s.print(&out, 33)
	const want = "16 of 33 messages took over 1s: to 16 peers of 3 addresses, sent at 1.0 to 16.0 s, received at 40.0 to 40.0 s\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestStamp(t *testing.T) {
	body := testBody(16)
	for _, sent := range []time.Duration{0, 1, time.Hour + 1} {
		if stamp(body, sent); sentAt(body) != sent {
			t.Errorf("%v: got %q, which is %v", sent, body, sentAt(body))
		}
	}
}
