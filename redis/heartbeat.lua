-- The detector says that it judges, once a second. From this a reader knows whether the list is complete.
--
-- KEYS[1] HASH blocked:state, all decimal text but run_id, times in ms by this server's clock:
--   generation   names a run of versions; another one: take everything anew. Made by whichever script misses it
--   version      id of the newest change (apply_block.lua); a new generation keeps it
--   run_id       of the server, as the last heartbeat found it
--   complete_at  from then on the list is complete; missing: it is not
--   heartbeat    the last one
--   lag_ms       how far the detector's event time was behind then; missing: not known
-- ARGV[1] run_id of this server (INFO server)  ARGV[2] lag_ms, or empty
-- Returns the generation.

local REFILLED_AFTER_MS = 65000  -- every live block is reasserted once a minute
local LONGEST_GAP_MS = 10000

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local state = redis.call('HMGET', KEYS[1], 'generation', 'run_id', 'complete_at', 'heartbeat')
local generation, run_id = state[1], state[2]
local complete_at, heartbeat = tonumber(state[3] or nil), tonumber(state[4] or 0)

-- A server that was restarted may have lost its last second: its versions may come a second time.
local renewed = not generation or run_id ~= ARGV[1]
if renewed then
  generation = time[1] .. string.format('%06d', time[2])
  redis.call('HSET', KEYS[1], 'generation', generation, 'run_id', ARGV[1])
end
-- While it fills, only a minute without a gap has brought every block.
if renewed or not complete_at or (now < complete_at and now - heartbeat > LONGEST_GAP_MS) then
  redis.call('HSET', KEYS[1], 'complete_at', string.format('%.0f', now + REFILLED_AFTER_MS))
end
redis.call('HSET', KEYS[1], 'heartbeat', string.format('%.0f', now))
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], 'lag_ms')
else
  redis.call('HSET', KEYS[1], 'lag_ms', ARGV[2])
end
return generation
