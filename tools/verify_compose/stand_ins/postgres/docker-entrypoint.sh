#!/bin/sh
# What postgres' own does as a user who is not root: the database is made at the first start, for the user and with the
# password of POSTGRES_…; then the server, on all addresses.
set -eu
if [ "$1" = postgres ]; then
  : "${POSTGRES_PASSWORD:?is missing}"
  user=${POSTGRES_USER:-postgres}
  if [ ! -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA"
    password=$(mktemp)
    printf %s "$POSTGRES_PASSWORD" > "$password"
    initdb -D "$PGDATA" -U "$user" --pwfile="$password" --auth-host=scram-sha-256 --auth-local=trust --encoding=UTF8 --locale=C.UTF-8
    rm "$password"
    printf 'host all all all scram-sha-256\n' >> "$PGDATA/pg_hba.conf"
    database=${POSTGRES_DB:-$user}
    [ "$database" = postgres ] || printf 'CREATE DATABASE "%s"\n' "$database" | postgres --single -D "$PGDATA" postgres >/dev/null
  fi
  exec "$@" -h '*' -k /run/postgresql
fi
exec "$@"
