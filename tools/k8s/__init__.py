"""Kubernetes: secrets for the overlays, copies that kustomize needs, and proofs that the manifests hold."""
