package quota

// Payer identifies what mailboxes and queued bytes count against: a client,
// and the network it is one of many in, if any. A network has [NetworkFactor]
// times the quota of a client. Both are opaque. An empty one has no quota.
type Payer struct{ Client, Network string }

// NetworkFactor is how many times the quota of a client a network has.
const NetworkFactor = 16

// Usage is what a payer holds of a store.
type Usage struct {
	Inboxes int
	Bytes   int64
}

func (u *Usage) add(more Usage) {
	u.Inboxes += more.Inboxes
	u.Bytes += more.Bytes
}
