"""Builds Debian guests, lets them work and keeps images of their memory (``collect-images``)."""
