-- One attempt asks to be made: refused by a block or by the guard, or given a place. One round trip.
--
-- KEYS[1] guard:user:{user}  KEYS[2] guard:ip:{ip}  KEYS[3] known:{user}
-- ARGV[1] blocked:users  ARGV[2] blocked:ips  ARGV[3] block:user:{user}: no KEYS, for those must be writable
-- ARGV[4] user  ARGV[5] ip  ARGV[6] attempt id  ARGV[7] the place, hashed; empty: nobody's places are known
-- ARGV[8] for how many ms a place stays known  ARGV[9] number of the user's limits; those of the address follow
-- ARGV[10...] limits, five each: rule, threshold, within in ms, reset on success (1 or 0), places
-- Returns {outcome, now, until, known}: outcome admitted, blocked or limited; until in ms as text ('' for ever, or
-- for an admitted one); known 1 or 0. The clock is this server's, so all processes have one.
--
-- A guard is a ZSET: 'k:<id>' or 'u:<id>' (from a known place or not) -> when the attempt was admitted. It holds
-- what failed or has not been resolved; settle.lua takes back what was right. Beside them stand marks: 'cleared:
-- <rule>' (failures up to then are consumed, by apply_block.lua) and 'reset:k', 'reset:u' (the last success).

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local LIMIT = 5

local function text(ms)
  return ms == math.huge and '' or string.format('%.0f', ms)
end

local known = 0
if ARGV[7] ~= '' then
  local seen = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[7]) or 0)
  known = seen > now - ARGV[8] and 1 or 0
end
local here = known == 1 and 'known' or 'unknown'

-- Blocks. The list tells quickly that there is none; the entries tell from where a block refuses.
local ends = tonumber(redis.call('ZSCORE', ARGV[2], ARGV[5]) or 0)
local listed = tonumber(redis.call('ZSCORE', ARGV[1], ARGV[4]) or 0)
if listed > now then
  local entries = redis.call('HVALS', ARGV[3])
  if #entries == 0 then
    ends = math.max(ends, listed)
  end
  for i = 1, #entries do
    local entry = cjson.decode(entries[i])
    local places = entry.places or 'any'
    if not entry.unblocked and (places == 'any' or places == here) then
      ends = math.max(ends, entry['until'] == cjson.null and math.huge or entry['until'])
    end
  end
end
if ends > now then
  return {'blocked', now, text(ends), known}
end

-- When one more attempt fits within the limits ARGV[first..last] of a guard; now or earlier if it fits now.
local function free_at(key, first, last)
  if first > last then
    return 0
  end
  local marks, taken = {}, {}
  local members = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 1, #members, 2 do
    local member, score = members[i], tonumber(members[i + 1])
    local kind = string.sub(member, 1, 2)
    if kind ~= 'k:' and kind ~= 'u:' then
      marks[member] = score
    elseif string.sub(member, 3) ~= ARGV[6] then  -- itself, when the answer to its first try was lost
      taken[#taken + 1] = {places = kind == 'k:' and 'known' or 'unknown', at = score}
    end
  end
  local free = 0
  for i = first, last, LIMIT do
    local threshold, within, places = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), ARGV[i + 4]
    if places == 'any' or places == here then
      local after = math.max(now - within, marks['cleared:' .. ARGV[i]] or 0)
      if ARGV[i + 3] == '1' then
        if places ~= 'known' then after = math.max(after, marks['reset:u'] or 0) end
        if places ~= 'unknown' then after = math.max(after, marks['reset:k'] or 0) end
      end
      local counted = {}
      for j = 1, #taken do
        if taken[j].at > after and (places == 'any' or places == taken[j].places) then
          counted[#counted + 1] = taken[j].at
        end
      end
      if #counted >= threshold then
        free = math.max(free, counted[#counted - threshold + 1] + within)
      end
    end
  end
  return free
end

local user_first, user_last = 10, 9 + ARGV[9] * LIMIT
local free = math.max(free_at(KEYS[1], user_first, user_last), free_at(KEYS[2], user_last + 1, #ARGV))
if free > now then
  return {'limited', now, text(free), known}
end

local function take(key, first, last)
  if first > last then
    return
  end
  local longest = 0
  for i = first, last, LIMIT do
    longest = math.max(longest, tonumber(ARGV[i + 2]))
  end
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - longest)
  redis.call('ZADD', key, now, (known == 1 and 'k:' or 'u:') .. ARGV[6])
  redis.call('PEXPIRE', key, longest)
end
take(KEYS[1], user_first, user_last)
take(KEYS[2], user_last + 1, #ARGV)
return {'admitted', now, '', known}
