package inbox

// AllowInbox returns nil if a payer who holds so many mailboxes may have one
// more, else a [PayerError]. It is the rule that [Memory] keeps, for other
// engines. Factor is 1 for a client, [NetworkFactor] for a network.
func (l Limits) AllowInbox(held int64, factor int) error {
	return l.allow(usage{inboxes: int(held)}, usage{inboxes: 1}, factor, 0)
}

// AllowBytes returns nil if a payer who holds so many queued bytes may have
// more of them in a store that holds queued bytes in all, else a [PayerError].
func (l Limits) AllowBytes(held, more int64, factor int, queued int64) error {
	return l.allow(usage{bytes: held}, usage{bytes: more}, factor, queued)
}
