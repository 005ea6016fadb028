package doctor

import (
	"context"
	"fmt"
	"time"
)

const (
	// The clock is certainly wrong outside of these years.
	firstYear, lastYear = 2026, 2100
	// Most CAs date certificates back by an hour, but some of their rules count in seconds.
	clockWarning, clockFailure = 30 * time.Second, 5 * time.Minute
)

// checkClock checks that the clock is plausible and agrees with that of a CA.
func (e *examination) checkClock(context.Context) []Finding {
	const fix = "Set the clock and enable time synchronization: timedatectl set-ntp true."
	now := e.now().UTC()
	if now.Year() < firstYear || now.Year() > lastYear {
		return []Finding{failure("", fmt.Sprintf("The clock shows %s, which is implausible.", now.Format(time.DateTime)), fix)}
	}
	for _, ca := range e.cas {
		if !ca.clockKnown {
			continue
		}
		off := ca.clockAhead.Abs().Round(time.Second)
		text := fmt.Sprintf("The clock is %v %s the clock of the CA.", off, direction(ca.clockAhead))
		switch {
		case off > clockFailure:
			return []Finding{failure("", text, fix)}
		case off > clockWarning:
			return []Finding{warning("", text, fix)}
		}
		return []Finding{good("", "The clock agrees with the clock of the CA.")}
	}
	return []Finding{good("", fmt.Sprintf("The clock shows %s UTC. It was not compared with another clock.", now.Format(time.DateTime)))}
}

// direction describes our clock relative to one that is ahead of it by ahead.
func direction(ahead time.Duration) string {
	if ahead > 0 {
		return "behind"
	}
	return "ahead of"
}
