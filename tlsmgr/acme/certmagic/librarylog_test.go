package certmagic

import (
	"log/slog"
	"net/http"
	"testing"
	"time"

	"go.uber.org/zap"

	"inbox/tlsmgr/internal/tlstest"
)

func TestLibraryLog(t *testing.T) {
	buf := new(tlstest.LogBuffer)
	l := newLibraryLog(slog.New(slog.NewTextHandler(buf, &slog.HandlerOptions{Level: slog.LevelDebug})))
	z := l.zap().Named("obtain").With(zap.String("identifier", "one.example"))
	z.Error("could not get certificate", zap.String("email", "me@example.org"), zap.Strings("account_contact", []string{"mailto:me"}))
	z.Debug("http request", zap.Int("status_code", 429), zap.Any("response_headers", http.Header{"Retry-After": {"30"}}))
	if buf.Count("level=DEBUG") != 1 || buf.Count("level=") != 1 {
		t.Errorf("want one line, at debug level:\n%s", buf)
	}
	if buf.Count("one.example") != 1 || buf.Count("me@example.org") != 0 || buf.Count("mailto") != 0 {
		t.Errorf("want the name and no data of the account owner:\n%s", buf)
	}
	if got := l.retryAfter(); got != 30*time.Second {
		t.Errorf("got Retry-After %v, want 30 s", got)
	}
	z.Debug("http request", zap.Int("status_code", 200), zap.Any("response_headers", http.Header{"Retry-After": {"3"}}))
	if got := l.retryAfter(); got != 0 {
		t.Errorf("after a success: got Retry-After %v, want 0", got)
	}
}
