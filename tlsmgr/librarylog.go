package tlsmgr

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// libraryLog hands what certmagic logs to slog. The supervisor tells a person
// what matters, so all of it is one step less important than the library
// believes. On the way it looks at the authority's answers, which certmagic
// shows nowhere else.
type libraryLog struct {
	log    *slog.Logger
	fields []zapcore.Field

	tracker *retryAfterTracker // shared by all loggers made from this one
}

type retryAfterTracker struct {
	mu         sync.Mutex
	retryAfter time.Duration
}

func newLibraryLog(log *slog.Logger) *libraryLog {
	return &libraryLog{log: log, tracker: new(retryAfterTracker)}
}

func (l *libraryLog) zap() *zap.Logger { return zap.New(l) }

// retryAfter is what the last answer asked for, if that was a refusal.
func (l *libraryLog) retryAfter() time.Duration {
	l.tracker.mu.Lock()
	defer l.tracker.mu.Unlock()
	return l.tracker.retryAfter
}

// Enabled is always true: answers are shown at debug.
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

// levelOf: what certmagic calls an error is one attempt that failed, of which
// the supervisor speaks itself.
func levelOf(l zapcore.Level) (slog.Level, bool) {
	switch {
	case l == zapcore.DebugLevel:
		return 0, false
	case l <= zapcore.ErrorLevel:
		return slog.LevelDebug, true
	}
	return slog.LevelError, true // a panic or worse
}

// isPersonalData fields tell who owns the account or who connects.
func isPersonalData(key string) bool {
	for _, part := range []string{"contact", "email", "account", "remote", "user_agent", "headers", "key_location"} {
		if strings.Contains(key, part) {
			return true
		}
	}
	return false
}

// inspect reads status and header of an answer from the fields of its line.
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
		t.retryAfter = parseRetryAfter(header, time.Now())
	}
}

// StdLog is for log.SetOutput: the libraries write a few lines to the standard
// log, about ports that are taken and strangers that hang up. They go to Log
// at debug.
type StdLog struct{ Log *slog.Logger }

func (s StdLog) Write(line []byte) (int, error) {
	s.Log.Debug("library", "line", strings.TrimSpace(string(line)))
	return len(line), nil
}
