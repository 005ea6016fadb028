package inbox_test

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/invite"
)

// documentedToken is the invitation of the document.
const documentedToken = "invite_onuxq5dfmvxcaytzorsxgidpojdejoec"

// documentedAccess is the access to the private server of the document. Its invitation is
// documentedToken.
type documentedAccess struct {
	*invite.Access
	storage *documentedStorage
}

func (a *documentedAccess) open(t *testing.T, store inbox.Store) {
	a.storage = &documentedStorage{changed: true}
	var err error
	if a.Access, err = invite.New(invite.Config{Storage: a.storage, Store: store, Remember: time.Minute}); err != nil {
		t.Fatal(err)
	}
	go a.Run(t.Context())
}

// handler returns the handler of mailboxes with the path of guest passes before it.
func (a *documentedAccess) handler(mailboxes http.Handler) http.Handler {
	passes := invite.NewHandler(invite.HandlerConfig{Access: a.Access, Payer: func(*http.Request) inbox.Payer { return inbox.Payer{} }})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/guest-pass" {
			passes.ServeHTTP(w, r)
		} else {
			mailboxes.ServeHTTP(w, r)
		}
	})
}

// revoke revokes the invitation, and waits until a server has noticed it.
func (a *documentedAccess) revoke() {
	a.storage.mu.Lock()
	a.storage.revoked, a.storage.changed = time.Now(), true
	a.storage.mu.Unlock()
	time.Sleep(time.Second)
}

// documentedStorage has one invitation, for 90 days.
type documentedStorage struct {
	mu      sync.Mutex
	revoked time.Time
	changed bool
}

func (s *documentedStorage) Interval() time.Duration { return 250 * time.Millisecond }

func (s *documentedStorage) Update(context.Context, func([]byte) ([]byte, error)) error {
	panic("the document changes nothing")
}

func (s *documentedStorage) Poll(context.Context) (text []byte, changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.changed {
		return nil, false, nil
	}
	s.changed = false
	secret, err := base32.StdEncoding.DecodeString(strings.ToUpper(strings.TrimPrefix(documentedToken, "invite_")))
	if err != nil {
		return nil, false, err
	}
	digest := sha256.Sum256(secret[:16])
	type invitation struct {
		Label                     string
		SHA256                    []byte
		Created, Expires, Revoked time.Time
	}
	text, err = json.Marshal(map[string]any{
		"format": 1, "secret": make([]byte, 32),
		"invitations": []invitation{{"alice", digest[:], time.Now(), time.Now().Add(90 * 24 * time.Hour), s.revoked}},
	})
	return text, true, err
}
