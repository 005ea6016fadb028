package certmagic

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"inbox/tlsmgr/acme"
)

// libraryLog is a zapcore.Core that forwards certmagic's log to slog. The scheduler
// logs what operators need, so library messages are logged at a lower level. It also
// reads Retry-After from logged CA responses, which certmagic does not expose
// elsewhere. It is safe for concurrent use.
type libraryLog struct {
	log    *slog.Logger
	fields []zapcore.Field

	tracker *retryAfterTracker // shared by all loggers derived from this one
}

// retryAfterTracker holds the Retry-After of the last CA response.
type retryAfterTracker struct {
	mu         sync.Mutex
	retryAfter time.Duration
}

func newLibraryLog(log *slog.Logger) *libraryLog {
	return &libraryLog{log: log, tracker: new(retryAfterTracker)}
}

func (l *libraryLog) zap() *zap.Logger { return zap.New(l) }

// retryAfter returns the Retry-After of the last CA response, or zero if that was not
// an error.
func (l *libraryLog) retryAfter() time.Duration {
	l.tracker.mu.Lock()
	defer l.tracker.mu.Unlock()
	return l.tracker.retryAfter
}

// Enabled always returns true, because CA responses are logged at debug level.
func (l *libraryLog) Enabled(zapcore.Level) bool { return true }

func (l *libraryLog) With(fields []zapcore.Field) zapcore.Core {
	clone := *l
	clone.fields = append(l.fields[:len(l.fields):len(l.fields)], fields...)
	return &clone
}

func (l *libraryLog) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return ce.AddCore(e, l)
}

func (l *libraryLog) Sync() error { return nil }

func (l *libraryLog) Write(e zapcore.Entry, fields []zapcore.Field) error {
	l.tracker.inspect(fields)
	level, ok := levelOf(e.Level)
	if !ok || !l.log.Enabled(context.Background(), level) {
		return nil
	}
	encoder := zapcore.NewMapObjectEncoder()
	for _, f := range append(l.fields[:len(l.fields):len(l.fields)], fields...) {
		if !isPersonalData(f.Key) {
			f.AddTo(encoder)
		}
	}
	attrs := make([]slog.Attr, 0, len(encoder.Fields))
	for key, value := range encoder.Fields {
		attrs = append(attrs, slog.Any(key, value))
	}
	l.log.LogAttrs(context.Background(), level, "certmagic: "+e.Message, attrs...)
	return nil
}

// levelOf maps a zap level to a slog level, or returns false to drop the message.
// Errors become debug messages: they are failed attempts, which the scheduler logs.
func levelOf(l zapcore.Level) (slog.Level, bool) {
	switch {
	case l == zapcore.DebugLevel:
		return 0, false
	case l <= zapcore.ErrorLevel:
		return slog.LevelDebug, true
	}
	return slog.LevelError, true // a panic or worse
}

// isPersonalData reports whether a field can identify the account owner or a client.
func isPersonalData(key string) bool {
	for _, part := range []string{"contact", "email", "account", "remote", "user_agent", "headers", "key_location"} {
		if strings.Contains(key, part) {
			return true
		}
	}
	return false
}

// inspect extracts status and headers of a CA response from the fields of a log entry.
func (t *retryAfterTracker) inspect(fields []zapcore.Field) {
	status, header := 0, http.Header(nil)
	for _, f := range fields {
		switch f.Key {
		case "status_code":
			status = int(f.Integer)
		case "response_headers":
			header, _ = f.Interface.(http.Header)
		}
	}
	if header == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.retryAfter = 0
	if status >= http.StatusBadRequest {
		t.retryAfter = acme.ParseRetryAfter(header, time.Now())
	}
}
