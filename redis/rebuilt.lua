-- Redis is filled from block events (tools/rebuild_redis.py): called before they are read, and when all is written.
--
-- KEYS[1] HASH blocked:state (heartbeat.lua)
-- ARGV[1] run_id of this server (INFO server)  ARGV[2] empty before; then the generation that the first call returned
-- Returns the generation; nothing when it was another one by the end: then what was written may be lost again.

local time = redis.call('TIME')
local state = redis.call('HMGET', KEYS[1], 'generation', 'run_id')
local generation, same_server = state[1], state[2] == ARGV[1]

if ARGV[2] == '' then
  if not generation or not same_server then
    -- As a heartbeat does, so that the next one finds nothing to renew; but nobody refills by saying so.
    generation = time[1] .. string.format('%06d', time[2])
    redis.call('HSET', KEYS[1], 'generation', generation, 'run_id', ARGV[1])
    redis.call('HDEL', KEYS[1], 'complete_at')
  end
  return generation
end
if generation ~= ARGV[2] or not same_server then
  return false
end
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'complete_at', string.format('%.0f', now))
return generation
