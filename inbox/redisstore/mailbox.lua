-- The steps on mailboxes, each atomic. KEYS are buckets, as in "inbox:{37}". All other
-- keys extend the key of a bucket, so they share its hash tag and slot:
--
--   :d:TAG  hash    one mailbox: k key, a token of the claim (empty without a key of the
--                   nodes), e epoch, x expiry (ms), f and l first and
--                   last ID, c and n client and network that pay for it,
--                   w node and seq of the latest watch, r last receiver,
--                   mID a message, qID its size and payer
--   :s      hash    sums: n mailboxes, t bytes; of each client i: mailboxes and
--                   b: bytes, of each network I: and B:; L the highest ID of
--                   mailboxes that ended, v a version
--   :x      zset    mailboxes by the time of their next expiry check
--   :k:TAG  set     nodes where a Put waits for that name to be claimed
--
-- The scripts compare expiry with the server's clock. A TTL alone is not enough,
-- because the end of a mailbox must be subtracted from the sums. TTLs of days remove
-- the keys when no node runs any more.
local call = redis.call
local op, timeout, node = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local day = 86400000
local argAt, keyAt = 3, 0
local function arg() argAt = argAt + 1; return ARGV[argAt] end
local clock = call('TIME')
local us = clock[1] * 1000000 + clock[2]
local ms = math.floor(us / 1000)
local function digits(n) return string.format('%.0f', n) end

local function box(bucket, tag)
	return {bucket = bucket, tag = tag, data = bucket .. ':d:' .. tag}
end
local function nextBox() keyAt = keyAt + 1; return box(KEYS[keyAt], arg()) end

-- The changes of sums, returned to the calling node.
local changed = {}
local function add(bucket, field, n)
	if n == 0 then return end
	if call('HINCRBY', bucket .. ':s', field, n) <= 0 then call('HDEL', bucket .. ':s', field) end
	local c = changed[bucket]
	if not c then c = {}; changed[bucket] = c end
	c[field] = (c[field] or 0) + n
end
local function charge(bucket, total, prefix, network, client, of, n)
	add(bucket, total, n)
	if client ~= '' then add(bucket, prefix .. client, n) end
	if of ~= '' then add(bucket, network .. of, n) end
end
local function reply(...)
	local changes = {}
	for bucket, c in pairs(changed) do
		local one = {bucket, call('HINCRBY', bucket .. ':s', 'v', 1)}
		for field, n in pairs(c) do
			one[#one + 1] = field
			one[#one + 1] = n
		end
		changes[#changes + 1] = one
	end
	return {changes, ...}
end

local function publish(to, text) call('PUBLISH', 'inbox:n:' .. to, text) end
local function watcher(h) return string.match(h or '', '^(%S+) (%d+)$') end

-- allowWritesWhenFull lets the rest of this script write to a store whose memory is
-- exhausted: Redis checks memory only until the first write of a script. Steps that
-- free memory must never fail, or the store would stay full. Any deletion has the same
-- effect, so scripts that delete do not need it.
local function allowWritesWhenFull(bucket) call('DEL', bucket .. ':') end

local refundedMessages = 0 -- number of refunded messages; determines the run time of a script
local batch = 500 -- fields per command; unpack is limited by Lua's stack of 8000 slots

local function fields(prefix, from, to)
	local names = {}
	for id = from, to do names[#names + 1] = prefix .. digits(id) end
	return names
end

-- refund subtracts the cost of messages from the sums, for a range of IDs. A missing or
-- malformed cost, changed by another user of the store, is skipped.
local function refund(m, from, to, delete)
	local costs = {}
	for first = from, to, batch do
		local names = fields('q', first, math.min(first + batch - 1, to))
		for _, q in ipairs(call('HMGET', m.data, unpack(names))) do
			local size, who = string.match(q or '', '^(%d+) (%S* %S*)$')
			if size then costs[who] = (costs[who] or 0) + size end
		end
		if delete then call('HDEL', m.data, unpack(names)) end
	end
	refundedMessages = refundedMessages + to - from + 1
	for who, size in pairs(costs) do
		local client, network = string.match(who, '^(%S*) (%S*)$')
		charge(m.bucket, 't', 'b:', 'B:', client, network, -size)
	end
end

-- sane reports whether first and last ID and expiry are plausible.
local function sane(first, last, expires)
	return first and last and expires and first > 0 and last < 2^53 and last - first < 20000
end

-- endMailbox deletes a mailbox. L makes the IDs of its successor higher than its own.
local function endMailbox(m)
	local h = call('HMGET', m.data, 'f', 'l', 'x', 'c', 'n', 'w', 'e')
	local counted = call('ZREM', m.bucket .. ':x', m.tag) == 1
	local first, last = tonumber(h[1]), tonumber(h[2])
	if sane(first, last, tonumber(h[3])) then
		if last > tonumber(call('HGET', m.bucket .. ':s', 'L') or 0) then call('HSET', m.bucket .. ':s', 'L', h[2]) end
		if counted then refund(m, first, last) end
	end
	if counted and h[4] and h[5] then charge(m.bucket, 'n', 'i:', 'I:', h[4], h[5], -1) end
	local other = watcher(h[6])
	if other then publish(other, 'e' .. (h[7] or '') .. ' ' .. m.tag) end
	call('UNLINK', m.data)
end

-- live returns the mailbox unless it does not exist or has expired. It deletes an
-- expired mailbox and one that another user of the store corrupted.
local function live(m)
	local h = call('HMGET', m.data, 'k', 'e', 'x', 'f', 'l', 'w', 'a', 'r')
	if not h[1] then return nil end
	local first, last, expires = tonumber(h[4]), tonumber(h[5]), tonumber(h[3])
	if not sane(first, last, expires) or expires <= ms then endMailbox(m); return nil end
	return {key = h[1], epoch = h[2], expires = expires, first = first, last = last, waiting = h[6],
		token = h[7] or '', receiver = h[8] or ''}
end
local function touch(m) call('HSET', m.data, 'x', digits(ms + timeout)) end
local function touchEvenWhenFull(m)
	local done = redis.pcall('HSET', m.data, 'x', digits(ms + timeout))
	if type(done) == 'table' and done.err then
		allowWritesWhenFull(m.bucket)
		touch(m)
	end
end
local function extendTTL(m) call('PEXPIRE', m.data, digits(7 * day + 2 * timeout)) end

local function claim(m, key, client, network, token)
	local last = tonumber(call('HGET', m.bucket .. ':s', 'L') or 0)
	local epoch = math.max(us, last + 1)
	call('HSET', m.bucket .. ':s', 'L', digits(epoch))
	call('DEL', m.data)
	call('HSET', m.data, 'k', key, 'a', token, 'e', digits(epoch), 'x', digits(ms + timeout), 'f', digits(epoch),
		'l', digits(epoch - 1), 'c', client, 'n', network)
	extendTTL(m)
	call('ZADD', m.bucket .. ':x', digits(ms + timeout), m.tag)
	charge(m.bucket, 'n', 'i:', 'I:', client, network, 1)
	local claimWaiters = m.bucket .. ':k:' .. m.tag
	for _, n in ipairs(call('SMEMBERS', claimWaiters)) do publish(n, 'w' .. m.tag) end
	call('DEL', claimWaiters)
	return digits(epoch)
end

-- open returns the status, the epoch, whether the claim is new, its token, and an
-- existing mailbox, which the caller must touch. It compares keyed hashes, so the time of
-- the comparison reveals nothing. With a token that the caller expects, another one is
-- 'stale'.
local function open(m)
	local key, mayCreate, client, network, token, expected = arg(), arg(), arg(), arg(), arg(), arg()
	local h = live(m)
	if h and h.key ~= key then return 'wrong' end
	if h and expected ~= '' and h.token ~= expected then return 'stale' end
	if h then return 'ok', h.epoch, 0, h.token, h end
	if mayCreate ~= '1' then return 'none' end
	return 'ok', claim(m, key, client, network, token), 1, token
end

-- put appends a record that is sealed for the claim with that token. For any other claim
-- it returns what that is. '-' is for every claim.
local function put()
	local m, capacity, size, client, network = nextBox(), tonumber(arg()), arg(), arg(), arg()
	local wait, token, record = tonumber(arg()), arg(), arg()
	local h = live(m)
	if not h then
		if wait > 0 then
			local claimWaiters = m.bucket .. ':k:' .. m.tag
			call('SADD', claimWaiters, node)
			if call('PTTL', claimWaiters) < wait then call('PEXPIRE', claimWaiters, digits(wait)) end
		end
		return 'none'
	end
	if token ~= '-' and token ~= h.token then return 'claim', h.token, h.key end
	if h.last - h.first + 1 >= capacity then return 'full' end
	local id = digits(h.last + 1)
	call('HSET', m.data, 'l', id, 'm' .. id, record, 'q' .. id, size .. ' ' .. client .. ' ' .. network)
	charge(m.bucket, 't', 'b:', 'B:', client, network, tonumber(size))
	local other = watcher(h.waiting)
	if other then publish(other, 'w' .. m.tag) end
	return 'ok', id
end

local function removeThrough(m, h, upTo)
	if upTo < h.first or upTo > h.last then return end
	for first = h.first, upTo, batch do -- deletions come first: they succeed in a full store
		local last = math.min(first + batch - 1, upTo)
		call('HDEL', m.data, unpack(fields('m', first, last)))
	end
	refund(m, h.first, upTo, true)
	h.first = upTo + 1
	call('HSET', m.data, 'f', digits(h.first))
end

-- oldest returns ID and record of the oldest message above after. It skips a message
-- that another program deleted.
local function oldest(m, h, after)
	if after > h.last then after = 0 end
	for n = math.max(h.first, after + 1), h.last do
		local id = digits(n)
		local record = call('HGET', m.data, 'm' .. id)
		if record then return id, record end
		if n == h.first then removeThrough(m, h, n) end
	end
end

-- take returns the oldest message above after, without removing it. It first deletes
-- the record of drop, which a node could not read.
local function take(m, h, after, drop, most)
	if drop ~= '0' then call('HDEL', m.data, 'm' .. drop) end
	local id, record = oldest(m, h, after)
	touchEvenWhenFull(m)
	if not id then return 'empty' end
	if #record > most then return 'ok', id, '' end -- larger than any record of this program
	return 'ok', id, record
end

-- admit makes a receiver the last one of the mailbox. It returns false if the receiver
-- resumes and another one is. '0' is no receiver.
local function admit(m, h, receiver, resume)
	if receiver == '0' or receiver == h.receiver then return true end
	if resume == '1' and h.receiver ~= '' then return false end
	allowWritesWhenFull(m.bucket)
	call('HSET', m.data, 'r', receiver)
	return true
end

-- supersede ends the watch of another node for a receiver that opens the mailbox here.
local function supersede(m, h, receiver)
	local other, its = watcher(h.waiting)
	if receiver == '0' or not other or other == node then return end
	call('HDEL', m.data, 'w')
	publish(other, 's' .. its .. ' ' .. m.tag)
end

local function findClaim()
	local m, epoch = nextBox(), arg()
	local h = live(m)
	if h and h.epoch ~= epoch then h = nil end
	return m, h
end
local function nextMessage()
	local m, h = findClaim()
	local after, drop, most = tonumber(arg()), arg(), tonumber(arg())
	if not h then return 'over' end
	return take(m, h, after, drop, most)
end

-- keep renews one watch of this node, or ends it ("stop"). A new watch supersedes that
-- of another node, unless the mailbox has another last receiver since. One that another
-- node has superseded does not come back, nor does an older one of this node replace a
-- later one.
local function keep(m, h, mode, seq, receiver)
	local other, its = watcher(h.waiting)
	if mode == 'stop' then
		if h.waiting == node .. ' ' .. seq then call('HDEL', m.data, 'w') end
		touch(m)
		return 'ok'
	end
	if receiver ~= '0' and receiver ~= h.receiver and h.receiver ~= '' then return 'superseded' end
	if other and other ~= node then
		if mode ~= 'new' then return 'superseded' end
		publish(other, 's' .. its .. ' ' .. m.tag)
	end
	if mode == 'new' or not other then call('HSET', m.data, 'w', node .. ' ' .. seq) end
	touch(m)
	return h.first <= h.last and 'message' or 'ok'
end

-- watch renews watches of this node in one bucket.
local function watch()
	local statuses = {}
	allowWritesWhenFull(KEYS[1])
	while argAt < #ARGV do
		local m = box(KEYS[1], arg())
		local epoch, mode, seq, receiver = arg(), arg(), arg(), arg()
		local h = live(m)
		if h and h.epoch == epoch then
			statuses[#statuses + 1] = keep(m, h, mode, seq, receiver)
		else
			statuses[#statuses + 1] = 'over'
		end
	end
	return statuses
end

local function discard()
	local m, h = findClaim()
	if not h then return 'over' end
	removeThrough(m, h, tonumber(arg()))
	return 'ok'
end
local function close()
	local m, h = findClaim()
	if not h then return 'over' end
	endMailbox(m)
	return 'ok'
end

-- replicateFromHere propagates all later writes to replicas and the append-only file.
local function replicateFromHere() redis.set_repl(redis.REPL_ALL) end

-- sweep ends expired mailboxes of a bucket, as many as the argument allows. It returns
-- how many it checked, and the sums.
local function sweep()
	local bucket, most = KEYS[1], arg()
	local sums, due = bucket .. ':s', bucket .. ':x'
	-- A write detects a store that refuses writes. Redis 6 propagates even the deletion
	-- of a missing key, and the rest of the script, unless propagation is disabled.
	redis.set_repl(redis.REPL_NONE)
	allowWritesWhenFull(bucket)
	local tags = call('ZRANGEBYSCORE', due, '-inf', ms, 'LIMIT', 0, most)
	if #tags > 0 then replicateFromHere() end
	for _, tag in ipairs(tags) do
		if refundedMessages > 2000 then break end -- the rest is left to the next sweep
		local m = box(bucket, tag)
		local expires = tonumber(call('HGET', m.data, 'x') or 0)
		if expires > ms then
			call('ZADD', due, digits(expires), tag)
			extendTTL(m)
		else
			endMailbox(m)
		end
	end
	local version -- no write without a change: this runs every second
	if next(changed) then version = call('HINCRBY', sums, 'v', 1) else version = tonumber(call('HGET', sums, 'v') or 0) end
	if call('EXISTS', due) == 0 and call('HLEN', sums) > 2 then
		-- No mailbox is left: another user of the store deleted what is still counted.
		local last = call('HGET', sums, 'L') or 0
		replicateFromHere()
		call('DEL', sums)
		call('HSET', sums, 'L', last, 'v', version + 1)
	end
	for _, key in ipairs({sums, due}) do
		local left = call('PTTL', key)
		if left ~= -2 and left < 5 * day then
			replicateFromHere()
			call('PEXPIRE', key, 6 * day)
		end
	end
	return {#tags, call('HGETALL', sums)}
end

if op == 'sweep' then return sweep() end
if op == 'open' then
	local m = nextBox()
	local opened, epoch, created, token, h = open(m)
	if h then touchEvenWhenFull(m) end
	return reply(opened, epoch, created, token)
end
if op == 'check' then
	local opened, epoch, created, token = open(nextBox())
	return reply(opened, epoch, created, token)
end
if op == 'put' then return reply(put()) end
if op == 'next' then return reply(nextMessage()) end
if op == 'discard' then return reply(discard()) end
if op == 'close' then return reply(close()) end
if op == 'open put' then
	local m = nextBox()
	local opened, epoch, created, token, h = open(m)
	if h then touch(m) end
	if opened ~= 'ok' then return reply(opened) end
	return reply(opened, epoch, created, token, put())
end
if op == 'open next' then
	local m = nextBox()
	local opened, epoch, created, token, h = open(m)
	if opened ~= 'ok' then return reply(opened) end
	local ack, most, receiver, resume = tonumber(arg()), tonumber(arg()), arg(), arg()
	if not admit(m, h, receiver, resume) then return reply(opened, epoch, created, token, 'other') end
	supersede(m, h, receiver)
	removeThrough(m, h, ack)
	return reply(opened, epoch, created, token, take(m, h, ack, '0', most))
end
if op == 'watch' then return reply(watch()) end
return redis.error_reply('unknown step')
