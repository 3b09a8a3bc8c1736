#!/bin/sh
# Replaces the data of Valkey by a snapshot. It runs in the container of Valkey, in the folder of the
# data, while no Valkey runs; docs/install-container.md has the command.
set -eu
snapshot=$1

# Waits for a command to succeed, for ten minutes at most.
wait_for() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 1200 ] || { echo "restore: gave up waiting for: $*" >&2; exit 1; }
        sleep 0.5
    done
}
cli() { valkey-cli -s restore.sock -e "$@"; }
rewritten() { cli INFO persistence | grep -q "aof_rewrite_in_progress:0" && ! cli INFO persistence | grep -q "aof_rewrite_scheduled:1"; }

rm -rf appendonlydir
cp "$snapshot" dump.rdb
# With an append-only file, Valkey would ignore the snapshot. So it loads the snapshot without one, and
# then writes the file.
valkey-server --daemonize yes --port 0 --unixsocket restore.sock --requirepass "$REDISCLI_AUTH" \
    --appendonly no --save "" --maxmemory-policy noeviction
wait_for cli PING
cli CONFIG SET appendonly yes
wait_for rewritten
cli SHUTDOWN
rm -f dump.rdb
