-- One atomic, idempotent, versioned write of one subject's blocks.
--
-- KEYS[1]  ZSET  blocked:users or blocked:ips: subject -> latest end of its live blocks (ms, +inf for ever)
-- KEYS[2]  HASH  block:{type}:{subject}: rule -> entry
-- ARGV[1]  subject
-- ARGV[2], ARGV[3], ...  pairs of rule and entry; an entry is JSON as Python wrote it, kept verbatim:
--   {"version","since","until","level","reason","attempt_id","unblocked","keep_until"}
--
-- An entry replaces the stored one of its rule only if its version is higher. So a replay, a late zombie
-- writer or a second copy changes nothing, and a Redis that was emptied fills again.
-- Returns 1 if what a reader sees has changed, else 0.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stored_changed = false

for i = 2, #ARGV, 2 do
  local stored = redis.call('HGET', KEYS[2], ARGV[i])
  if not stored or cjson.decode(stored).version < cjson.decode(ARGV[i + 1]).version then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
    stored_changed = true
  end
end

local latest_end = nil
local keep_until = 0
local entries = redis.call('HGETALL', KEYS[2])
for i = 2, #entries, 2 do
  local entry = cjson.decode(entries[i])
  local ends = entry['until'] == cjson.null and math.huge or entry['until']
  local kept = entry.keep_until == cjson.null and math.huge or entry.keep_until
  if not entry.unblocked and ends > now and (latest_end == nil or ends > latest_end) then
    latest_end = ends
  end
  keep_until = math.max(keep_until, kept)
end

local before = redis.call('ZSCORE', KEYS[1], ARGV[1])
if latest_end == nil then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  -- tostring() of a number this long would round it.
  local score = latest_end == math.huge and '+inf' or string.format('%.0f', latest_end)
  redis.call('ZADD', KEYS[1], score, ARGV[1])
end

if keep_until == math.huge then
  redis.call('PERSIST', KEYS[2])
elseif keep_until <= now then
  redis.call('UNLINK', KEYS[2])
else
  redis.call('PEXPIREAT', KEYS[2], string.format('%.0f', keep_until))
end

if stored_changed and (latest_end ~= nil or before) then
  return 1
end
if before and latest_end == nil then
  return 1
end
return 0
