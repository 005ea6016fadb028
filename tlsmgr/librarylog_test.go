package tlsmgr

import (
	"log/slog"
	"net/http"
	"testing"
	"time"

	"go.uber.org/zap"
)

func TestLibraryLog(t *testing.T) {
	buf := new(logBuffer)
	l := newLibraryLog(slog.New(slog.NewTextHandler(buf, &slog.HandlerOptions{Level: slog.LevelDebug})))
	z := l.zap().Named("obtain").With(zap.String("identifier", "one.example"))
	z.Error("could not get certificate", zap.String("email", "me@example.org"), zap.Strings("account_contact", []string{"mailto:me"}))
	z.Debug("http request", zap.Int("status_code", 429), zap.Any("response_headers", http.Header{"Retry-After": {"30"}}))
	if buf.count("level=DEBUG") != 1 || buf.count("level=") != 1 {
		t.Errorf("want one line, at debug level:\n%s", buf)
	}
	if buf.count("one.example") != 1 || buf.count("me@example.org") != 0 || buf.count("mailto") != 0 {
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

func TestStdLogIsQuiet(t *testing.T) {
	log, buf := newLog()
	if _, err := (StdLog{log}).Write([]byte("[WARNING] listen tcp :80: bind: address already in use\n")); err != nil || buf.String() != "" {
		t.Errorf("got log %q, error %v, want nothing above debug level", buf, err)
	}
}
