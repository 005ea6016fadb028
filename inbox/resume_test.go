package inbox_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

// TestResume has a client return that was away. A request of another device is written with
// its client; "phone+" resumes.
func TestResume(t *testing.T) {
	for _, row := range []struct {
		name, before, target string
		status               int
	}{
		{"a free name", "", "phone+", 204},
		{"its own poll was the last one", "phone", "phone+", 204},
		{"its own poll was the last one and resumed", "phone phone+", "phone+", 204},
		{"another device has polled since", "phone laptop", "phone+", 409},
		{"a client without an identifier has polled since", "phone -", "phone+", 409},
		{"it was refused before", "phone laptop phone+", "phone+", 409},
		{"another device was refused", "phone laptop+", "phone+", 204},
		{"it took over again", "phone laptop phone", "phone+", 204},
		{"without resume", "phone laptop", "phone", 204},
		{"the name was released meanwhile", "phone laptop DELETE", "phone+", 204},
		{"the other device has only sent", "phone POST", "phone+", 200},
	} {
		s := newRig(t, nil)
		target := func(client string) string {
			id, resume := strings.CutSuffix(client, "+")
			switch {
			case id == "-":
				return "/inbox?wait=0"
			case resume:
				return "/inbox?wait=0&resume=1&client=" + id
			}
			return "/inbox?wait=0&client=" + id
		}
		for _, step := range strings.Fields(row.before) {
			switch step {
			case "DELETE", "POST":
				s.do("bob", step, "/inbox?to=bob&client=laptop", "")
			default:
				s.do("bob", "GET", target(step), "")
			}
		}
		w := s.do("bob", "GET", target(row.target), "")
		if row.status == 409 {
			s.wantProblem(w, 409, "other-receiver")
		} else if w.Code != row.status {
			t.Errorf("%s: got %d %s, want %d", row.name, w.Code, w.Body, row.status)
		}
	}
}

// TestReleaseByClient has a client release the name. It must not end the mailbox of a device that
// has taken over, nor its relays.
func TestReleaseByClient(t *testing.T) {
	for _, row := range []struct {
		name     string
		polls    []string
		target   string
		released bool
	}{
		{"a name without a poll", nil, "/inbox?client=phone", true},
		{"the last receiver", []string{"laptop", "phone"}, "/inbox?client=phone", true},
		{"a client that was replaced", []string{"phone", "laptop"}, "/inbox?client=phone", false},
		{"a client that has not polled yet", []string{"laptop"}, "/inbox?client=phone", false},
		{"without client", []string{"phone", "laptop"}, "/inbox", true},
	} {
		deleted := 0
		s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) { c.OnDelete = func(string) { deleted++ } })
		for _, client := range row.polls {
			s.want(s.do("bob", "GET", "/inbox?wait=0&client="+client, ""), 204, "")
		}
		s.do("bob", "POST", "/inbox?to=bob", "kept")
		w := s.do("bob", "DELETE", row.target, "")
		if row.released {
			s.want(w, 204, "")
		} else {
			s.wantProblem(w, 409, "other-receiver")
			s.want(s.do("bob", "GET", "/inbox?wait=0&client=laptop&resume=1", ""), 200, "kept")
		}
		if got := deleted == 1; got != row.released {
			t.Errorf("%s: got released %v, want %v", row.name, got, row.released)
		}
	}
}

// TestResumeEndsNoOtherPoll checks that a poll that resumes does not end a waiting poll of another
// device, and acknowledges nothing. It ends a waiting poll of its own.
func TestResumeEndsNoOtherPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, nil)
		laptop := s.start(request("bob", "GET", "/inbox?client=laptop", ""))
		s.wantProblem(s.do("bob", "GET", "/inbox?client=phone&resume=1", ""), 409, "other-receiver")
		r := request("bob", "GET", "/inbox?client=phone&resume=1", "")
		r.SetBasicAuth("bob", "a wrong password")
		s.wantStatus(r, 401)
		resumed := s.start(request("bob", "GET", "/inbox?client=laptop&resume=1", ""))
		if w := <-laptop; w.Header().Get("X-Poll-Ended") != "superseded" {
			t.Errorf("got %d %v for the older poll of the laptop, want it superseded", w.Code, w.Header())
		}
		s.do("alice", "POST", "/inbox?to=bob", "hello")
		w := <-resumed
		s.want(w, 200, "hello")
		s.do("alice", "POST", "/inbox?to=bob", "again")
		w = s.do("bob", "GET", "/inbox?client=laptop&after=", "")
		s.want(w, 200, "again")
		id := w.Header().Get("X-Message-Id")
		s.wantProblem(s.do("bob", "GET", "/inbox?client=phone&resume=1&after="+id, ""), 409, "other-receiver")
		s.want(s.do("bob", "GET", "/inbox?client=laptop&resume=1&after=", ""), 200, "again")
		phone := s.start(request("bob", "GET", "/inbox?client=phone&after="+id, "")) // takes over
		s.wantProblem(s.do("bob", "GET", "/inbox?client=laptop&resume=1", ""), 409, "other-receiver")
		s.do("alice", "POST", "/inbox?to=bob", "for the phone")
		s.want(<-phone, 200, "for the phone")
	})
}

// remoteStore takes a second for each OpenNext.
type remoteStore struct{ *memstore.Store }

func (s remoteStore) OpenNext(
	ctx context.Context, name string, key inbox.Key, ack uint64, r inbox.Client,
) (inbox.Claim, inbox.Message, error) {
	time.Sleep(time.Second)
	return s.Store.OpenNext(ctx, name, key, ack, r)
}

// TestResumeDuringAnotherPoll has a phone return while the password of another poll is on its way
// to the store. Only one with the right password keeps it away.
func TestResumeDuringAnotherPoll(t *testing.T) {
	for _, row := range []struct {
		name, password string
		status, resume int
	}{
		{"a guesser", "a wrong password", 401, 204},
		{"a laptop", "", 200, 409},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newRig(t, func(c *inbox.Config, l *inbox.Limits) { c.Store = remoteStore{memstore.New(*l)} })
				s.want(s.do("bob", "GET", "/inbox?wait=0&client=phone", ""), 204, "")
				r := request("bob", "GET", "/inbox?client=laptop", "")
				if row.password != "" {
					r.SetBasicAuth("bob", row.password)
				}
				other := s.start(r)
				phone := s.start(request("bob", "GET", "/inbox?wait=0&client=phone&resume=1", ""))
				if w := <-phone; w.Code != row.resume {
					t.Errorf("phone: got %d %s, want %d", w.Code, w.Body, row.resume)
				}
				s.do("alice", "GET", "/inbox?wait=0", "")
				s.do("alice", "POST", "/inbox?to=bob", "hello")
				if w := <-other; w.Code != row.status {
					t.Errorf("the other poll: got %d %s, want %d", w.Code, w.Body, row.status)
				}
			})
		})
	}
}

// TestResumeParameters checks what identifies a client.
func TestResumeParameters(t *testing.T) {
	s := newRig(t, nil)
	for target, status := range map[string]int{
		"client=a":                          204,
		"client=" + strings.Repeat("a", 64): 204,
		"client=123e4567-E89B_9":            204,
		"client=%61&resume=1":               204,
		"client=" + strings.Repeat("a", 65): 400,
		"client=":                           400,
		"client":                            400,
		"client=a%20b":                      400,
		"client=%C3%AB":                     400,
		"client=a&client=a":                 400,
		"client=a&resume=0":                 400,
		"client=a&resume=":                  400,
		"client=a&resume=1&resume=1":        400,
		"resume=1":                          400,
		"resume=1&client=":                  400,
	} {
		r := request(target, "GET", "/inbox?wait=0&"+target, "")
		r.SetBasicAuth("name of "+strings.ReplaceAll(target, ":", ""), "x")
		s.wantStatus(r, status)
	}
}

// TestLastReceiverSurvivesARestart saves and loads the mailboxes.
func TestLastReceiverSurvivesARestart(t *testing.T) {
	limits := inbox.Limits{Timeout: time.Minute}
	before := memstore.New(limits)
	s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) { c.Store = before })
	s.do("bob", "GET", "/inbox?wait=0&client=phone", "")
	s.do("bob", "GET", "/inbox?wait=0&client=laptop", "")
	var snapshot strings.Builder
	if _, err := before.Save(&snapshot, nil); err != nil {
		t.Fatal(err)
	}
	after, _, err := memstore.Load(limits, strings.NewReader(snapshot.String()), nil)
	if err != nil {
		t.Fatal(err)
	}
	s = newRig(t, func(c *inbox.Config, _ *inbox.Limits) { c.Store = after })
	s.wantProblem(s.do("bob", "GET", "/inbox?wait=0&client=phone&resume=1", ""), 409, "other-receiver")
	s.want(s.do("bob", "GET", "/inbox?wait=0&client=laptop&resume=1", ""), 204, "")
}
