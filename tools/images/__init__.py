"""Builds the container images, proves what docs/images.md says of them, and lists their contents."""
