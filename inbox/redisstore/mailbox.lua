-- Every step on mailboxes, each atomic. KEYS are buckets, as in "inbox:{37}";
-- all other keys are made of a bucket's, so they share its hash tag and slot:
--
--   :d:TAG  hash    one mailbox: k key, e epoch, x expiry (ms), f and l first and
--                   last ID, c and n who pays for it, w who waits for it,
--                   mID a message, qID what that costs whom
--   :s      hash    sums: n mailboxes, t bytes, i:, b:, I:, B: of each payer;
--                   L the highest ID of mailboxes that ended, v a version
--   :x      zset    mailboxes by when to look whether they have expired
--   :k:TAG  set     nodes where somebody waits for that name to be claimed
--
-- Expiry is compared with the server's clock here, and is not left to a TTL,
-- because what a mailbox held has to be given back to the sums as it goes. TTLs
-- of days stand behind, for a store whose nodes are all gone.
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

-- What the sums changed by, for the node that asked.
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
local function wake(m, waiting)
	if waiting then publish(string.match(waiting, '^%S+'), 'w' .. m.tag) end
end

local worked = 0 -- messages that were refunded: what takes the time of a script

-- refund gives back what the messages from one ID to another cost.
local function refund(m, from, to)
	local costs = {}
	for id = from, to do
		local q = call('HGET', m.data, 'q' .. digits(id))
		worked = worked + 1
		local size, who = string.match(q, '^(%d+) (.*)$')
		costs[who] = (costs[who] or 0) + size
	end
	for who, size in pairs(costs) do
		local client, network = string.match(who, '^(%S*) (%S*)$')
		charge(m.bucket, 't', 'b:', 'B:', client, network, -size)
	end
end

-- settle ends a mailbox. IDs of its successor begin above its own.
local function settle(m)
	local h = call('HMGET', m.data, 'f', 'l', 'c', 'n', 'w')
	local counted = call('ZREM', m.bucket .. ':x', m.tag) == 1
	if not h[1] then return end
	local last = tonumber(call('HGET', m.bucket .. ':s', 'L') or 0)
	if tonumber(h[2]) > last then call('HSET', m.bucket .. ':s', 'L', h[2]) end
	if counted then
		charge(m.bucket, 'n', 'i:', 'I:', h[3], h[4], -1)
		refund(m, tonumber(h[1]), tonumber(h[2]))
	end
	wake(m, h[5])
	call('UNLINK', m.data)
end

-- live returns the mailbox, unless there is none or it has expired just now.
local function live(m)
	local h = call('HMGET', m.data, 'k', 'e', 'x', 'f', 'l', 'w')
	if not h[1] then return nil end
	if tonumber(h[3]) <= ms then settle(m); return nil end
	return {key = h[1], epoch = h[2], expires = tonumber(h[3]), first = tonumber(h[4]), last = tonumber(h[5]), waiting = h[6]}
end
local function touch(m) call('HSET', m.data, 'x', digits(ms + timeout)) end
local function keep(m) call('PEXPIRE', m.data, digits(7 * day + 2 * timeout)) end

local function claim(m, key, client, network)
	local last = tonumber(call('HGET', m.bucket .. ':s', 'L') or 0)
	local epoch = math.max(us, last + 1)
	call('HSET', m.bucket .. ':s', 'L', digits(epoch))
	call('DEL', m.data)
	call('HSET', m.data, 'k', key, 'e', digits(epoch), 'x', digits(ms + timeout), 'f', digits(epoch),
		'l', digits(epoch - 1), 'c', client, 'n', network)
	keep(m)
	call('ZADD', m.bucket .. ':x', digits(ms + timeout), m.tag)
	charge(m.bucket, 'n', 'i:', 'I:', client, network, 1)
	local knocks = m.bucket .. ':k:' .. m.tag
	for _, n in ipairs(call('SMEMBERS', knocks)) do publish(n, 'w' .. m.tag) end
	call('DEL', knocks)
	return digits(epoch)
end

-- open returns what it came to, the epoch, and whether the claim is fresh.
-- What it compares is a keyed hash: how long that takes tells nothing.
local function open(m)
	local key, pays, client, network = arg(), arg(), arg(), arg()
	local h = live(m)
	if h and h.key ~= key then return 'wrong' end
	if h then
		touch(m)
		return 'ok', h.epoch, 0
	end
	if pays ~= '1' then return 'none' end
	return 'ok', claim(m, key, client, network), 1
end

local function put()
	local m, capacity, size, client, network = nextBox(), tonumber(arg()), arg(), arg(), arg()
	local knock, record = tonumber(arg()), arg()
	local h = live(m)
	if not h then
		if knock > 0 then
			local knocks = m.bucket .. ':k:' .. m.tag
			call('SADD', knocks, node)
			if call('PTTL', knocks) < knock then call('PEXPIRE', knocks, digits(knock)) end
		end
		return 'none'
	end
	if h.last - h.first + 1 >= capacity then return 'full' end
	local id = digits(h.last + 1)
	call('HSET', m.data, 'l', id, 'm' .. id, record, 'q' .. id, size .. ' ' .. client .. ' ' .. network)
	charge(m.bucket, 't', 'b:', 'B:', client, network, tonumber(size))
	if h.waiting then
		wake(m, h.waiting)
		call('HDEL', m.data, 'w')
	end
	return 'ok'
end

local function forget(m, h, upTo)
	if upTo < h.first or upTo > h.last then return end
	refund(m, h.first, upTo)
	for id = h.first, upTo do call('HDEL', m.data, 'm' .. digits(id), 'q' .. digits(id)) end
	h.first = upTo + 1
	call('HSET', m.data, 'f', digits(h.first))
end

-- look returns the oldest message, or how long the claim still lives. In the
-- midst of a wait ("again") finding nothing keeps nothing alive.
local function look(m, h, mode, seq, most)
	if h.first <= h.last and mode ~= 'touch' then
		local id = digits(h.first)
		if call('HSTRLEN', m.data, 'm' .. id) > most then return 'damaged' end
		touch(m)
		return 'ok', id, call('HGET', m.data, 'm' .. id)
	end
	if mode ~= 'again' then
		touch(m)
		h.expires = ms + timeout
	end
	if seq ~= '0' then
		local other, its = string.match(h.waiting or '', '^(%S+) (%d+)$')
		if other and other ~= node then publish(other, 's' .. its .. ' ' .. m.tag) end
		call('HSET', m.data, 'w', node .. ' ' .. seq)
	end
	return 'empty', h.expires - ms
end

local function own()
	local m, epoch = nextBox(), arg()
	local h = live(m)
	if h and h.epoch ~= epoch then h = nil end
	return m, h
end
local function nextMessage()
	local m, h = own()
	local ack, mode, seq, most = tonumber(arg()), arg(), arg(), tonumber(arg())
	if not h then return 'over' end
	forget(m, h, ack)
	return look(m, h, mode, seq, most)
end
local function discard()
	local m, h = own()
	if not h then return 'over' end
	forget(m, h, tonumber(arg()))
	return 'ok'
end
local function close()
	local m, h = own()
	if not h then return 'over' end
	settle(m)
	return 'ok'
end

-- sweep ends some of what has expired, and returns how many it looked at and
-- the sums.
local function sweep()
	local bucket, most = KEYS[1], arg()
	local sums, due = bucket .. ':s', bucket .. ':x'
	local tags = call('ZRANGEBYSCORE', due, '-inf', ms, 'LIMIT', 0, most)
	for _, tag in ipairs(tags) do
		if worked > 2000 then break end -- the rest at the next look, which is soon
		local m = box(bucket, tag)
		local expires = tonumber(call('HGET', m.data, 'x') or 0)
		if expires > ms then
			call('ZADD', due, digits(expires), tag)
			keep(m)
		else
			settle(m)
		end
	end
	local version = call('HINCRBY', sums, 'v', next(changed) and 1 or 0)
	if call('EXISTS', due) == 0 and call('HLEN', sums) > 2 then
		-- No mailbox: whatever is still counted was deleted behind our back.
		local last = call('HGET', sums, 'L') or 0
		call('DEL', sums)
		call('HSET', sums, 'L', last, 'v', version + 1)
	end
	call('PEXPIRE', sums, 6 * day)
	call('PEXPIRE', due, 6 * day)
	return {#tags, call('HGETALL', sums)}
end

if op == 'sweep' then return sweep() end
if op == 'open' then return reply(open(nextBox())) end
if op == 'put' then return reply(put()) end
if op == 'next' then return reply(nextMessage()) end
if op == 'discard' then return reply(discard()) end
if op == 'close' then return reply(close()) end
if op == 'open put' then
	local opened, epoch, fresh = open(nextBox())
	if opened ~= 'ok' then return reply(opened) end
	return reply(opened, epoch, fresh, (put()))
end
if op == 'open next' then
	local m = nextBox()
	local opened, epoch, fresh = open(m)
	if opened ~= 'ok' then return reply(opened) end
	local h = live(m)
	forget(m, h, tonumber(arg()))
	return reply(opened, epoch, fresh, look(m, h, 'first', '0', tonumber(arg())))
end
return redis.error_reply('unknown step')
