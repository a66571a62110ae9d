"""Segmenters: models that turn a point in an image into masks."""
