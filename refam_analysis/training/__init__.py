"""How the embedded models were made: tokenizers, autoencoder, diffusion transformer, segmenter; and a video model.

Every stage is a module that runs by itself (``python -m refam_analysis.training.dit --help``), is seeded, writes
checkpoints into a working folder, and goes on from the newest one when it is started again.
"""
