package turn

import (
	"sync/atomic"

	"github.com/pion/logging"
)

// logCounter is the log of pion. It counts errors and drops all text: clients can cause any
// message, and messages contain their addresses.
type logCounter struct{ errors *atomic.Int64 }

func (l logCounter) NewLogger(string) logging.LeveledLogger { return l }

func (l logCounter) Trace(string)          {}
func (l logCounter) Tracef(string, ...any) {}
func (l logCounter) Debug(string)          {}
func (l logCounter) Debugf(string, ...any) {}
func (l logCounter) Info(string)           {}
func (l logCounter) Infof(string, ...any)  {}
func (l logCounter) Warn(string)           {}
func (l logCounter) Warnf(string, ...any)  {}
func (l logCounter) Error(string)          { l.errors.Add(1) }
func (l logCounter) Errorf(string, ...any) { l.errors.Add(1) }
