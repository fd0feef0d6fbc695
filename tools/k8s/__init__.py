"""Kubernetes: copies that kustomize needs, and proofs that the manifests hold."""
