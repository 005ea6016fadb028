package logging

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of what [Recent] keeps.
const (
	maxRecent           = 20
	maxRecentAttrs      = 12
	maxRecentValueBytes = 400
)

// Recent keeps the last 20 warnings and errors of a log, with masked addresses. A repetition of
// the last one only counts. The zero value is ready to use. All methods can be called
// concurrently.
type Recent struct {
	mu      sync.Mutex
	entries []RecentEntry // oldest first
}

// RecentEntry is a warning or an error.
type RecentEntry struct {
	First, Last time.Time // of Count equal records
	Count       int
	Level       slog.Level
	Message     string
	Attrs       []RecentAttr
}

// RecentAttr is an attribute as text of at most 400 bytes.
type RecentAttr struct{ Key, Value string }

// Entries returns a copy of the entries, newest first.
func (r *Recent) Entries() []RecentEntry {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := slices.Clone(r.entries)
	slices.Reverse(all)
	return all
}

func (r *Recent) add(e RecentEntry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.entries); n > 0 {
		last := &r.entries[n-1]
		if last.Level == e.Level && last.Message == e.Message && slices.Equal(last.Attrs, e.Attrs) {
			last.Last = e.Last
			last.Count++
			return
		}
	}
	if len(r.entries) == maxRecent {
		r.entries = slices.Delete(r.entries, 0, 1)
	}
	r.entries = append(r.entries, e)
}

// recentHandler passes all records on, and the warnings and errors to recent.
type recentHandler struct {
	slog.Handler
	recent *Recent
	attrs  []RecentAttr // of the logger; must not be changed
	prefix string       // of the keys: the groups, with dots
}

// Handle implements [slog.Handler].
func (h recentHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		e := RecentEntry{First: r.Time, Last: r.Time, Count: 1, Level: r.Level, Message: recentText(r.Message), Attrs: slices.Clip(h.attrs)}
		r.Attrs(func(a slog.Attr) bool {
			e.Attrs = appendRecent(e.Attrs, h.prefix, a)
			return true
		})
		h.recent.add(e)
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h recentHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.Handler, h.attrs = h.Handler.WithAttrs(attrs), slices.Clip(h.attrs)
	for _, a := range attrs {
		h.attrs = appendRecent(h.attrs, h.prefix, a)
	}
	return h
}

// WithGroup implements [slog.Handler].
func (h recentHandler) WithGroup(name string) slog.Handler {
	h.Handler, h.prefix = h.Handler.WithGroup(name), h.prefix+name+"."
	return h
}

// appendRecent appends an attribute, up to the limit. Those of a group have its key before their own.
func appendRecent(to []RecentAttr, prefix string, a slog.Attr) []RecentAttr {
	value := a.Value.Resolve()
	switch {
	case len(to) >= maxRecentAttrs || a.Equal(slog.Attr{}):
		return to
	case value.Kind() == slog.KindGroup:
		for _, member := range value.Group() {
			to = appendRecent(to, prefix+a.Key+".", member)
		}
		return to
	case value.Kind() == slog.KindTime:
		return append(to, RecentAttr{prefix + a.Key, value.Time().Format(time.RFC3339)})
	}
	return append(to, RecentAttr{prefix + a.Key, recentText(value.String())})
}

// recentText masks the addresses in a text and shortens it.
func recentText(text string) string {
	if len(text) > maxRecentValueBytes {
		text = strings.ToValidUTF8(text[:maxRecentValueBytes], "") + "…"
	}
	return maskAddresses(text)
}
