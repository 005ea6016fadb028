package inbox_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

// A server with mailboxes in memory, and two peers that use it.
func Example() {
	store := memstore.New(inbox.Limits{Timeout: time.Minute, Capacity: 100})
	handler := inbox.NewHandler(inbox.Config{
		Store:        store,
		Secret:       []byte("32 random bytes, kept in a file"),
		Path:         "/inbox",
		PollTimeout:  25 * time.Second,
		MaxBodyBytes: 1 << 20,
	})
	server := httptest.NewServer(handler)
	defer server.Close()

	ask := func(user, method, target, body string) string {
		r, _ := http.NewRequest(method, server.URL+target, strings.NewReader(body))
		r.SetBasicAuth(user, "password of "+user)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return err.Error()
		}
		defer answer.Body.Close()
		text, _ := io.ReadAll(answer.Body)
		return strings.TrimSpace(fmt.Sprintln(answer.StatusCode, answer.Header.Get("X-From"), string(text)))
	}
	fmt.Println(ask("bob", "GET", "/inbox?wait=0", ""))
	fmt.Println(ask("alice", "POST", "/inbox?to=bob", "an offer"))
	fmt.Println(ask("bob", "GET", "/inbox", ""))
	// Output:
	// 204
	// 200
	// 200 alice an offer
}
