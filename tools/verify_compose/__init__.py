"""Runs docker-compose.yml, as compose renders it, with podman: where there is no Docker engine."""
