#!/bin/sh
# Starts Redis (Valkey) as a container's command: fills in the users' file from the passwords in the environment, with
# SHA-256 in their place, and becomes the server. Arguments go to the server. Wants REDIS_<USER>_PASSWORD of each user.
set -eu

for user in ADMIN DETECTOR LOGIN_API BLOCKED_API; do
  eval "given=\${REDIS_${user}_PASSWORD:-}"
  [ -n "$given" ] || { printf 'REDIS_%s_PASSWORD is missing or empty\n' "$user" >&2; exit 2; }
done

# Built into the shell, printf hands the password over through a pipe: no process list shows it.
sha256() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }
admin=$(sha256 "$REDIS_ADMIN_PASSWORD")
detector=$(sha256 "$REDIS_DETECTOR_PASSWORD")
login_api=$(sha256 "$REDIS_LOGIN_API_PASSWORD")
blocked_api=$(sha256 "$REDIS_BLOCKED_API_PASSWORD")
unset given REDIS_ADMIN_PASSWORD REDIS_DETECTOR_PASSWORD REDIS_LOGIN_API_PASSWORD REDIS_BLOCKED_API_PASSWORD

here=$(cd "$(dirname "$0")" && pwd)
users=$(mktemp "${TMPDIR:-/tmp}/users.acl.XXXXXX")  # for its owner only; in a container /tmp is memory
sed -e "s/\${ADMIN_PASSWORD_SHA256}/$admin/" \
    -e "s/\${DETECTOR_PASSWORD_SHA256}/$detector/" \
    -e "s/\${LOGIN_API_PASSWORD_SHA256}/$login_api/" \
    -e "s/\${BLOCKED_API_PASSWORD_SHA256}/$blocked_api/" "$here/users.acl" > "$users"

for server in valkey-server redis-server; do
  if command -v "$server" >/dev/null 2>&1; then
    # All addresses, IPv6 where there is one: who may come is the network's business, who may do what the users' file's.
    exec "$server" "$here/redis.conf" --bind '*' '-::*' --dir "${REDIS_DATA:-/data}" --aclfile "$users" "$@"
  fi
done
printf 'neither valkey-server nor redis-server is here\n' >&2
exit 127
