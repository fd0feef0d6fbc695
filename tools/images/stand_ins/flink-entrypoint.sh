#!/bin/bash
# Understands what the public image's entrypoint is asked for: a role, or any other command.
# It has no FLINK_PROPERTIES: our settings are one config.yaml, mounted.
allocator=/usr/lib/$(uname -m)-linux-gnu/libjemalloc.so
[ "${DISABLE_JEMALLOC:-false}" = true ] || [ ! -f "$allocator" ] || export LD_PRELOAD="${LD_PRELOAD:-}:$allocator"
role=${1:-help}
case $role in
  jobmanager | taskmanager | standalone-job)
    shift
    exec "$FLINK_HOME/bin/$role.sh" start-foreground "$@"
    ;;
  help)
    echo "Arguments: jobmanager, taskmanager, standalone-job, help, or a command"
    ;;
  *)
    exec "$@"
    ;;
esac
