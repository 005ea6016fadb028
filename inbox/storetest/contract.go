package storetest

import "inbox/inbox"

// shortTimeout stands for a timeout of twenty ticks, for mailboxes that expire during
// the test.
const shortTimeout = -1

var contract = []struct {
	name   string
	limits inbox.Limits
	test   func(*rig)
}{
	{"KeyIsChecked", inbox.Limits{}, keyIsChecked},
	{"ClaimIsOneOfItsName", inbox.Limits{}, claimIsOneOfItsName},
	{"OpenWithoutPayerClaimsNothing", inbox.Limits{}, openWithoutPayerClaimsNothing},
	{"Order", inbox.Limits{}, order},
	{"NextDoesNotRemove", inbox.Limits{}, nextDoesNotRemove},
	{"NextReadsAboveAnID", inbox.Limits{}, nextReadsAboveAnID},
	{"UnknownIDReadsFromTheOldest", inbox.Limits{}, unknownIDReadsFromTheOldest},
	{"DiscardRemoves", inbox.Limits{}, discardRemoves},
	{"MessageIsWhole", inbox.Limits{}, messageIsWhole},
	{"PutReturnsTheID", inbox.Limits{}, putReturnsTheID},
	{"OpenPut", inbox.Limits{MaxQueuedBytesPerPayer: 4000}, openPut},
	{"OpenNext", inbox.Limits{}, openNext},
	{"ResumeAfterAnotherReceiver", inbox.Limits{}, resumeAfterAnotherReceiver},
	{"RefusedResumeChangesNothing", inbox.Limits{}, refusedResumeChangesNothing},
	{"RefusedResumeDoesNotKeepAlive", inbox.Limits{Timeout: shortTimeout}, refusedResumeDoesNotKeepAlive},
	{"LastReceiverEndsWithTheClaim", inbox.Limits{}, lastReceiverEndsWithTheClaim},
	{"ConcurrentResumes", inbox.Limits{}, concurrentResumes},
	{"WatchOfAnEarlierReceiver", inbox.Limits{}, watchOfAnEarlierReceiver},
	{"WatchEndsForAnotherProcess", inbox.Limits{}, watchEndsForAnotherProcess},
	{"EmptyAtOnce", inbox.Limits{}, emptyAtOnce},
	{"WaitNextWaits", inbox.Limits{}, waitNextWaits},
	{"WaitNextTimesOut", inbox.Limits{}, waitNextTimesOut},
	{"CancelledWaitLosesNothing", inbox.Limits{}, cancelledWaitLosesNothing},
	{"NoInbox", inbox.Limits{}, noInbox},
	{"PutWaitsForClaim", inbox.Limits{}, putWaitsForClaim},
	{"PutWaitTimesOut", inbox.Limits{}, putWaitTimesOut},
	{"CancelledPutStoresNothing", inbox.Limits{}, cancelledPutStoresNothing},
	{"CloseEndsTheClaim", inbox.Limits{}, closeEndsTheClaim},
	{"CloseEndsAWait", inbox.Limits{}, closeEndsAWait},
	{"SuccessorIsNotRead", inbox.Limits{}, successorIsNotRead},
	{"IDsAreNeverReused", inbox.Limits{}, idsAreNeverReused},
	{"IDsFollowTheClock", inbox.Limits{}, idsFollowTheClock},
	{"Expires", inbox.Limits{Timeout: shortTimeout}, expires},
	{"OpenKeepsAlive", inbox.Limits{Timeout: shortTimeout}, openKeepsAlive},
	{"EndOfAWaitKeepsAlive", inbox.Limits{Timeout: shortTimeout}, endOfAWaitKeepsAlive},
	{"CancelledWaitKeepsAlive", inbox.Limits{Timeout: shortTimeout}, cancelledWaitKeepsAlive},
	{"WaitOutlivesTheTimeout", inbox.Limits{Timeout: shortTimeout}, waitOutlivesTheTimeout},
	{"WatchTellsOfMessages", inbox.Limits{}, watchTellsOfMessages},
	{"WatchTellsOfAnOldMessage", inbox.Limits{}, watchTellsOfAnOldMessage},
	{"WatchEndsWithTheClaim", inbox.Limits{}, watchEndsWithTheClaim},
	{"WatchOfAnEndedClaim", inbox.Limits{}, watchOfAnEndedClaim},
	{"WatchesOfOneProcess", inbox.Limits{}, watchesOfOneProcess},
	{"StoppedWatchIsSilent", inbox.Limits{}, stoppedWatchIsSilent},
	{"WatchKeepsAlive", inbox.Limits{Timeout: shortTimeout, MaxInboxes: 2}, watchKeepsAlive},
	{"LaterWatchSupersedes", inbox.Limits{Timeout: shortTimeout}, laterWatchSupersedes},
	{"InboxFull", inbox.Limits{Capacity: 2}, inboxFull},
	{"TooManyInboxes", inbox.Limits{Timeout: shortTimeout, MaxInboxes: 2}, tooManyInboxes},
	{"StoreFull", inbox.Limits{Timeout: shortTimeout, MaxQueuedBytes: 4000}, storeFull},
	{"RefusedPutCostsNothing", inbox.Limits{MaxQueuedBytes: 4000, MaxQueuedBytesPerPayer: 2500}, refusedPutCostsNothing},
	{"PendingPutsAreCounted", inbox.Limits{MaxQueuedBytes: 4000}, pendingPutsAreCounted},
	{"PayerFull", inbox.Limits{MaxQueuedBytesPerPayer: 4000}, payerFull},
	{"NetworkHasSixteenBudgets", inbox.Limits{MaxQueuedBytesPerPayer: 4000, MaxInboxesPerPayer: 1}, networkHasSixteenBudgets},
	{"FullPayersLeaveCapacity", inbox.Limits{MaxQueuedBytes: 256 << 20, MaxQueuedBytesPerPayer: 32 << 20}, fullPayersLeaveCapacity},
	{"FullPayersLeaveCapacityInLess", inbox.Limits{MaxQueuedBytes: 128 << 20, MaxQueuedBytesPerPayer: 32 << 20}, fullPayersLeaveCapacity},
	{"FullPayersLeaveNames", inbox.Limits{MaxInboxes: 1000, MaxInboxesPerPayer: 100}, fullPayersLeaveNames},
	{"ExpiredInboxIsReplaced", inbox.Limits{Timeout: shortTimeout, MaxInboxes: 1, MaxInboxesPerPayer: 1}, expiredInboxIsReplaced},
	{"PayerHasTooManyInboxes", inbox.Limits{Timeout: shortTimeout, MaxInboxesPerPayer: 2}, payerHasTooManyInboxes},
	{"SendersShareAnInbox", inbox.Limits{}, sendersShareAnInbox},
	{"ReceiversShareMessages", inbox.Limits{}, receiversShareMessages},
	{"ManyAtOnce", inbox.Limits{Capacity: 10, MaxInboxes: 30}, manyAtOnce},
}
