"""Measurements of time and memory: side by side in one run, as ratios, written to results/ with their provenance.

Nothing here is a test: numbers of one machine are compared with each other, never with a limit.
"""
