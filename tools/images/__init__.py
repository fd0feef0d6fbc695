"""Builds the container images, proves what docs/images.md says, and lists their contents."""
