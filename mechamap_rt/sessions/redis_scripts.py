"""What Redis does for the session store in one step each, in Lua.

A count is a hash ``{owner: number}``: what each process has. It is the sum over the owners whose lease lives; the
fields of the others are removed as they are met. Needs Redis 5 or later; not for a Redis Cluster, whose scripts may
touch only the keys they are given.

All but :data:`TAKE` have the same beginning: the first key is the caller's own lease, the first arguments are what the
keys of leases begin with, the owner, and the milliseconds after which a hash that nobody writes to is gone. They return
:data:`LOST` instead of anything else when the caller's own lease, or what it had under it, is not there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from mechamap_rt.redis.protocols import Argument, encode

#: The reply when Redis does not know the caller, or not all that it has.
LOST: Final = -1
#: The replies of :data:`ENTER` and :data:`ADMIT`.
GRANTED, TOTAL_REACHED, ADDRESS_REACHED, USER_REACHED, ATTEMPTS_REACHED = range(5)


class Script:
    """A script by its digest.

    :ivar load: the command that makes Redis know it.
    """

    __slots__ = ("_sha", "load")

    def __init__(self, *parts: str) -> None:
        source = "\n".join(parts).encode()
        self._sha = hashlib.sha1(source, usedforsecurity=False).hexdigest().encode()
        self.load = encode(b"SCRIPT", b"LOAD", source)

    def call(self, keys: Sequence[bytes], *arguments: Argument) -> bytes:
        """The command that runs it."""
        return encode(b"EVALSHA", self._sha, len(keys), *keys, *arguments)


_COUNTS: Final = """
local function living(key)
  local fields = redis.call('HGETALL', key)
  local leases = {KEYS[1]}
  for i = 1, #fields, 2 do leases[#leases + 1] = ARGV[1] .. fields[i] end
  local alive = redis.call('MGET', unpack(leases))
  if not alive[1] then return nil end
  local sum = 0
  for i = 2, #leases do
    if alive[i] then sum = sum + fields[2 * i - 2] else redis.call('HDEL', key, fields[2 * i - 3]) end
  end
  return sum
end

local function add(key, number)
  redis.call('HINCRBY', key, ARGV[2], number)
  redis.call('PEXPIRE', key, ARGV[3])
end
"""

# The bucket is kept as the moment at which it will be full again, in microseconds of Redis's own clock, and is gone
# from Redis when that has come. A clock that is set back costs at most a minute.
_BUCKETS: Final = """
local function take(key, capacity)
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  local interval = math.floor(60000000 / capacity)
  local missing = (tonumber(redis.call('GET', key)) or now) - now
  missing = math.max(0, math.min(missing, capacity * interval))
  local wait = missing - (capacity - 1) * interval
  if wait > 0 then return wait end
  missing = missing + interval
  redis.call('SET', key, string.format('%.0f', now + missing), 'PX', math.max(1, math.ceil(missing / 1000)))
  return 0
end
"""

#: Counts a transport in, over a limit or not. Keys: lease, transports, the address; then the two limits, 0 for none.
ENTER: Final = Script(
    _COUNTS,
    f"""
local total, at = tonumber(ARGV[4]), tonumber(ARGV[5])
local reply = {GRANTED}
for i, limit in ipairs({{total, at}}) do
  if limit > 0 then
    local count = living(KEYS[i + 1])
    if not count then return {LOST} end
    if count >= limit and reply == {GRANTED} then reply = i end
  end
end
if total > 0 then add(KEYS[2], 1) end
if at > 0 then add(KEYS[3], 1) end
return reply
""",
)

#: Counts a connection in unless it is one too many. Keys: lease, the user, the bucket of attempts; then the two limits.
ADMIT: Final = Script(
    _COUNTS,
    _BUCKETS,
    f"""
local connections, attempts = tonumber(ARGV[4]), tonumber(ARGV[5])
local count = 0
if connections > 0 then
  count = living(KEYS[2])
  if not count then return {LOST} end
end
if attempts > 0 and take(KEYS[3], attempts) > 0 then return {ATTEMPTS_REACHED} end
if connections > 0 then
  if count >= connections then return {USER_REACHED} end
  add(KEYS[2], 1)
end
return {GRANTED}
""",
)

#: Counts one out of each of the keys behind the lease.
LESS: Final = Script("""
for i = 2, #KEYS do
  local count = tonumber(redis.call('HGET', KEYS[i], ARGV[2]))
  if count and count > 1 then
    redis.call('HINCRBY', KEYS[i], ARGV[2], -1)
  elseif count then
    redis.call('HDEL', KEYS[i], ARGV[2])
  end
end
return 0
""")

#: Counts in, whatever the limits: a number for each key behind the lease. The fourth argument is the name under which
#: the process had it before.
STATE: Final = Script(
    _COUNTS,
    """
for i = 2, #KEYS do
  redis.call('HDEL', KEYS[i], ARGV[4])
  add(KEYS[i], ARGV[i + 3])
end
return 0
""",
)

#: Makes the keys behind the lease last, and sees whether they are there.
RENEW: Final = Script(
    _COUNTS,
    f"""
for i = 2, #KEYS do
  if not living(KEYS[i]) or redis.call('HEXISTS', KEYS[i], ARGV[2]) == 0 then return {LOST} end
  redis.call('PEXPIRE', KEYS[i], ARGV[3])
end
return 0
""",
)

#: Takes a token. Key: the bucket; argument: its capacity, which is also what it gets a minute. Returns 0, or the
#: microseconds to wait.
TAKE: Final = Script(_BUCKETS, "return take(KEYS[1], tonumber(ARGV[1]))")

ALL: Final = (ENTER, ADMIT, LESS, STATE, RENEW, TAKE)
