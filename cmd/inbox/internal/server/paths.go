package server

import (
	"inbox/cmd/inbox/internal/access"
	"inbox/cmd/inbox/internal/metrics"
	"inbox/inbox"
)

// The paths that are not pages.
const (
	mailboxPath = "/inbox"
	ackPath     = mailboxPath + inbox.AckPath
	icePath     = "/ice"
	healthPath  = "/healthz"
	readyPath   = "/readyz"

	addressesPath = "/addresses"
)

// routes maps them to the routes of the metrics.
var routes = metrics.Routes{Mailbox: mailboxPath, Ack: ackPath, ICE: icePath, Health: healthPath, Ready: readyPath, Addresses: addressesPath, GuestPass: access.PassPath}
