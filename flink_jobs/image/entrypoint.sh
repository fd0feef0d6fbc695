#!/bin/sh
# Flink's own entrypoint, after one thing: a session's JobManager lists our jar in its web UI.
# The UI lists DIR/flink-web-upload/ID_NAME.jar, DIR being web.upload.dir; the id is the same after each start.
set -eu
if [ "${1:-}" = jobmanager ]; then
  listed=/opt/flink/upload/flink-web-upload
  mkdir -p "$listed" && cp /opt/flink/usrlib/block-detector.jar "$listed/image_block-detector.jar" \
    || echo "/opt/flink/upload cannot be written: the web UI will not list block-detector.jar" >&2
fi
exec /docker-entrypoint.sh "$@"
