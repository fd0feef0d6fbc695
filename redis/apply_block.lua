-- One atomic, idempotent, versioned write of one subject's blocks.
--
-- KEYS[1]  ZSET  blocked:users or blocked:ips: subject -> latest end of its live blocks (ms, +inf for ever)
-- KEYS[2]  HASH  block:{type}:{subject}: rule -> entry
-- KEYS[3]  ZSET  guard:{type}:{subject} (admit.lua): what a block has consumed counts there no longer either
-- KEYS[4]  STREAM blocked:changes: what readers see differently, one entry a change, the newest 50,000 or a few more:
--   list (KEYS[1]), subject, entries (JSON: rule -> entry, of the live blocks after the change; {} when lifted) and
--   previous (the id before, so that a reader knows when it has missed one)
-- KEYS[5]  HASH  blocked:state: generation (names this Redis' run of changes), version (the newest id)
-- ARGV[1]  subject
-- ARGV[2], ARGV[3], ...  pairs of rule and entry; none is allowed: then only what has ended is lifted.
--   An entry is JSON as Python wrote it (login_blocking.blocks.RedisEntry), kept verbatim: numbers that went
--   through Lua would come back rounded to 14 digits, and a null `until` would vanish.
--
-- An entry replaces the stored one of its rule only if its version is higher. So a replay, a late zombie
-- writer or a second copy changes nothing, and a Redis that was emptied fills again.
-- A block is live while it is not unblocked and its `until` is later than this server's clock; an entry is
-- kept, live or not, until its `keep_until` has come.
-- Blocks that began less than an hour ago are counted by rule in blocked:begun:{minute}, when they are first seen here.
-- Returns 1 if the live blocks or the end on the list have changed, else 0.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function decode(text)
  local entry = cjson.decode(text)
  entry.text = text
  assert(type(entry.version) == 'number', 'an entry without a version')
  entry.ends = entry['until'] == cjson.null and math.huge or entry['until']
  entry.kept = entry.keep_until == cjson.null and math.huge or entry.keep_until
  entry.live = not entry.unblocked and math.min(entry.ends, entry.kept) > now
  return entry
end

-- A script that fails is not rolled back: all is read before anything is written.
local entries = {}
local stored = redis.call('HGETALL', KEYS[2])
for i = 1, #stored, 2 do
  entries[stored[i]] = decode(stored[i + 1])
end
local changed = false
for i = 2, #ARGV, 2 do
  local previous, entry = entries[ARGV[i]], decode(ARGV[i + 1])
  if not previous or previous.version < entry.version then
    entry.replaces = true
    entry.begins = entry.live and not (previous and previous.since == entry.since)
    entries[ARGV[i]] = entry
    changed = changed or entry.live or (previous ~= nil and previous.live)
  end
end

local function count_begun(rule, since)
  if since > now - 3600000 then
    -- A detector's clock may be a little ahead.
    local key = string.format('blocked:begun:%d', math.floor(math.min(since, now) / 60000))
    redis.call('HINCRBY', key, rule, 1)
    redis.call('PEXPIRE', key, 7200000)
  end
end

local function tell_readers()
  local live = {}
  for rule, entry in pairs(entries) do
    if entry.live then
      live[#live + 1] = cjson.encode(rule) .. ':' .. entry.text
    end
  end
  if redis.call('HEXISTS', KEYS[5], 'generation') == 0 then
    redis.call('HSET', KEYS[5], 'generation', string.format('%d%06d', time[1], time[2]))
  end
  local previous = redis.call('HGET', KEYS[5], 'version') or ''
  local id = redis.call('XADD', KEYS[4], 'MAXLEN', '~', 50000, '*', 'list', KEYS[1], 'subject', ARGV[1],
    'entries', '{' .. table.concat(live, ',') .. '}', 'previous', previous)
  redis.call('HSET', KEYS[5], 'version', id)
  return 1
end

local guarded = redis.call('EXISTS', KEYS[3]) == 1
local latest_end, keep_until = 0, 0
for rule, entry in pairs(entries) do
  if entry.kept <= now then
    redis.call('HDEL', KEYS[2], rule)
  else
    keep_until = math.max(keep_until, entry.kept)
    if entry.live then
      latest_end = math.max(latest_end, entry.ends)
    end
    if entry.replaces then
      redis.call('HSET', KEYS[2], rule, entry.text)
      if entry.begins then
        count_begun(rule, entry.since)
      end
      if guarded then
        -- Never later than now: nobody is admitted from where it blocks, and a clock ahead must not open the guard.
        redis.call('ZADD', KEYS[3], string.format('%.0f', math.min(entry.ends, now)), 'cleared:' .. rule)
      end
    end
  end
end
if keep_until == math.huge then
  redis.call('PERSIST', KEYS[2])
elseif keep_until > 0 then
  -- As text: Lua itself would write 14 digits.
  redis.call('PEXPIREAT', KEYS[2], string.format('%.0f', keep_until))
end

local listed = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0)
if latest_end == 0 then
  redis.call('ZREM', KEYS[1], ARGV[1])
  return (changed or listed > now) and tell_readers() or 0
end
local score = latest_end == math.huge and '+inf' or string.format('%.0f', latest_end)
redis.call('ZADD', KEYS[1], score, ARGV[1])
return (changed or listed ~= latest_end) and tell_readers() or 0
