"""Runs docker-compose.yml, as compose renders it, with podman: on a machine without Docker's engine."""
