"""What the video families with one T5 have in common: Mochi, CogVideoX and Wan.

Their pipelines hold the same parts and are called alike; what each gives its transformer is in a file of its own.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence

import torch

from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import Prompt, Token, align_tokens


class T5VideoModel(DiffusionModel, ABC):
    """A text-to-video pipeline of a transformer, a T5, and an autoencoder for clips."""

    def tokens(self, prompt: Prompt) -> tuple[Token, ...]:
        """T5's tokens, padding included."""
        return align_tokens(prompt, self.pipeline.tokenizer, length=self.text_length, encoder="t5")


def per_channel(values: Sequence[float], latents: torch.Tensor) -> torch.Tensor:
    """One number a channel, to compute with latents of axes (batch, channel, frame, y, x).

    >>> per_channel([0.5, 2.0], torch.ones(1, 2, 1, 1, 1)).flatten().tolist()
    [0.5, 2.0]
    """
    return torch.tensor(values).view(1, -1, 1, 1, 1).to(latents)
