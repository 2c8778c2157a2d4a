"""The image and the manifests, run for real."""
