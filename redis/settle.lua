-- An admitted attempt has ended without counting against anybody: it gives its places back.
--
-- KEYS[1] guard:user:{user}  KEYS[2] guard:ip:{ip}  KEYS[3] known:{user}
-- ARGV[1] attempt id  ARGV[2] 1 for a right password, 0 for one that was never looked at
-- ARGV[3] of a right one: 1 if it came from a known place  ARGV[4] the place, hashed; empty: remember none
-- ARGV[5] for how many ms a place stays known  ARGV[6] how many places of a user are remembered

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local kind = ARGV[3] == '1' and 'k' or 'u'

for i = 1, 2 do
  -- Of one whose answer was lost nobody knows from where it came.
  redis.call('ZREM', KEYS[i], 'k:' .. ARGV[1], 'u:' .. ARGV[1])
  -- Without a guard there is nothing to forget.
  if ARGV[2] == '1' and redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('ZADD', KEYS[i], now, 'reset:' .. kind)
  end
end
if ARGV[2] == '1' and ARGV[4] ~= '' then
  redis.call('ZADD', KEYS[3], now, ARGV[4])
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - ARGV[5])
  redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -(ARGV[6] + 1))
  redis.call('PEXPIRE', KEYS[3], ARGV[5])
end
return 1
