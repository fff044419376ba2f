"""Detectors of similar pages that the study compares, each with the publication it is from."""
