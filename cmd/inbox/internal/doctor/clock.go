package doctor

import (
	"context"
	"fmt"
	"time"
)

const (
	// No machine that runs this program lives before firstYear; lastYear is
	// when somebody may doubt that.
	firstYear, lastYear = 2026, 2100
	// Certificates begin an hour early at most CAs, and some rules of theirs count in seconds.
	clockWarning, clockFailure = 30 * time.Second, 5 * time.Minute
)

// checkClock compares the clock with the calendar and with the CA's.
func (e *examination) checkClock(context.Context) []Finding {
	const fix = "Set it, and keep it right: timedatectl set-ntp true."
	now := e.now().UTC()
	if now.Year() < firstYear || now.Year() > lastYear {
		return []Finding{failure("", fmt.Sprintf("The clock says %s, which cannot be.", now.Format(time.DateTime)), fix)}
	}
	for _, ca := range e.cas {
		if !ca.clockKnown {
			continue
		}
		off := ca.clockAhead.Abs().Round(time.Second)
		text := fmt.Sprintf("The clock is %v %s that of the CA.", off, direction(ca.clockAhead))
		switch {
		case off > clockFailure:
			return []Finding{failure("", text, fix)}
		case off > clockWarning:
			return []Finding{warning("", text, fix)}
		}
		return []Finding{good("", "The clock agrees with that of the CA.")}
	}
	return []Finding{good("", fmt.Sprintf("The clock says %s UTC; nothing else was asked for the time.", now.Format(time.DateTime)))}
}

func direction(ahead time.Duration) string {
	if ahead > 0 {
		return "behind"
	}
	return "ahead of"
}
