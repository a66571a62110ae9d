"""Faults: real small jobs that are killed, starved or damaged on purpose, gone on with, and compared with undisturbed.

``places`` are the jobs, ``kinds`` what is done to them, ``running`` the processes, ``table`` all pairs of the two, and
``server`` the program that carries them out. Nothing here is a mock: signals, full disks and limits are the system's.
"""
