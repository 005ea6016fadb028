package operator

import (
	"context"
	"log/slog"
	"time"
)

// summaryInterval is the time between two summaries.
const summaryInterval = time.Hour

// LogSummaries logs once per hour what has happened in it, until ctx is done. It logs nothing
// for an hour in which nothing happened.
func LogSummaries(ctx context.Context, s Sources, log *slog.Logger) {
	ticker := time.NewTicker(summaryInterval)
	defer ticker.Stop()
	last := s.count()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			now := s.count()
			logSummary(last, now, log)
			last = now
		}
	}
}

func logSummary(from, to counts, log *slog.Logger) {
	claimed, delivered := to.claimed-from.claimed, to.delivered-from.delivered
	relays, refused := to.relays-from.relays, to.refusedTotal()-from.refusedTotal()
	if claimed+delivered+relays+refused > 0 {
		log.Info("last hour", "mailboxesClaimed", claimed, "messagesDelivered", delivered, "relaysOpened", relays, "refusals", refused)
	}
}
