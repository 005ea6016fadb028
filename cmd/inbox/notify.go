package main

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"
)

// notifyTime bounds one notice: a service manager that does not read must not
// hold the server up.
const notifyTime = time.Second

// notifier tells the service manager how the server is, in systemd's protocol
// (sd_notify). Without one every call does nothing. It may be used by several
// goroutines at once.
type notifier struct {
	socket string // a path, or a name after @; empty for none
	log    *slog.Logger
}

func newNotifier(environ []string, log *slog.Logger) *notifier {
	return &notifier{variable(environ, "NOTIFY_SOCKET"), log}
}

// say sends assignments in one datagram, so that they count together.
func (n *notifier) say(assignments ...string) {
	if n.socket == "" {
		return
	}
	if err := n.send(strings.Join(assignments, "\n")); err != nil {
		n.log.Warn("the service manager could not be told how the server is", "err", err)
	}
}

func (n *notifier) send(text string) error {
	c, err := net.Dial("unixgram", n.socket)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetWriteDeadline(time.Now().Add(notifyTime)); err != nil {
		return err
	}
	_, err = c.Write([]byte(text))
	return err
}

// ready says that everything listens; status is for a person, without names of peers.
func (n *notifier) ready(status string) { n.say("READY=1", "STATUS="+status) }

// reloading begins what the next ready ends. systemd compares the time with
// that of its own request.
func (n *notifier) reloading() {
	n.say("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", monotonic().Microseconds()), "STATUS=Reads certificates again.")
}

// stopping says that the end has begun and takes up to d.
func (n *notifier) stopping(d time.Duration) {
	n.say("STOPPING=1", "STATUS=Stops: answers who waits, lets posts finish.", extension(d))
}

// extend asks for so much time from now on, when a start or an end takes
// longer than usual. It has to be said before the time granted is over.
func (n *notifier) extend(d time.Duration) { n.say(extension(d)) }

func extension(d time.Duration) string {
	return fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", d.Microseconds())
}
