"""A scene that runs again and again, each time with something else done to some of its tokens.

Text and picture are encoded and noised once; every run has the same noise, so runs differ in the intervention alone.
Here are what comes out (prediction, recordings, a drawn picture) and how far two of them are apart. Which tokens are
acted on is the business of :mod:`refam_analysis.experiments.sink_choice`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from refam_analysis.models.base import DiffusionModel, ForwardInputs
from refam_analysis.models.images import ImageSource
from refam_analysis.models.layout import TokenLayout
from refam_analysis.models.schedules import denoising_levels
from refam_analysis.prompts import Prompt, Token
from refam_analysis.recording import Intervention, Recorder, Recording


@dataclass(frozen=True)
class Outcome:
    """What one run gave.

    Attributes:
        predictions: one a noise level, (draw, channel, (frame,) y, x): what the transformer predicts, the velocity
            noise - image in flow matching.
        recordings: one a draw, with a step a noise level.
    """

    predictions: list[torch.Tensor]
    recordings: list[Recording]


@dataclass(frozen=True)
class PreparedScene:
    """One picture and sentence, ready to run. Make one with :func:`prepare_scene`.

    Attributes:
        model: that runs.
        prompt: the sentence with its magnets.
        inputs: of each forward pass, one a noise level, a batch of noise draws.
        tokens: of the text segment.
    """

    model: DiffusionModel
    prompt: Prompt
    inputs: tuple[ForwardInputs, ...]
    tokens: tuple[Token, ...]

    @property
    def layout(self) -> TokenLayout:
        """Where text and image stand."""
        return self.inputs[0].layout

    @property
    def magnets(self) -> tuple[int, ...]:
        """Positions of the magnets in the sequence."""
        return tuple(self.layout.text.start + token.index for token in self.tokens if token.kind == "magnet")

    @torch.no_grad()
    def run(
        self,
        intervention: Intervention | None = None,
        *,
        keep: Iterable[str],
        blocks: Collection[int] | None = None,
    ) -> Outcome:
        """Run every pass.

        Args:
            intervention: what is done to some tokens; None for the undisturbed run.
            keep: quantities to record.
            blocks: to record; None for all.
        """
        transformers = [self.model.transformer_at(one.noise_level) for one in self.inputs]
        recorder = Recorder(
            list(dict.fromkeys(transformers)), self.inputs[0].layouts, keep, blocks=blocks, intervention=intervention
        )
        with recorder:
            outputs = [transformer(**one.kwargs) for transformer, one in zip(transformers, self.inputs, strict=True)]
        recordings = recorder.recordings(
            noise_levels=[one.noise_level for one in self.inputs],
            tokens=[self.tokens] * len(self.inputs[0].mixture),
        )
        samples = [output[0] if isinstance(output, tuple) else output for output in outputs]
        predictions = [
            self.model.predicted(sample, one.mixture) for sample, one in zip(samples, self.inputs, strict=True)
        ]
        return Outcome(predictions, recordings)

    def draw(
        self,
        intervention: Intervention | None = None,
        *,
        keep: Iterable[str] = ("received_from_image",),
        blocks: Collection[int] | None = (0,),
        seed: int = 0,
        steps: int | None = None,
    ) -> tuple[NDArray[np.uint8], list[Recording]]:
        """Draw a picture of the prompt from noise by ``model.generate``, with the intervention in every pass.

        With guidance, the passes of the empty prompt are among them: there the same positions of the sequence are
        acted on.

        Args:
            intervention: None for the undisturbed picture.
            keep: quantities to record; by default one that costs little.
            blocks: to record; None for all.
            seed: of the noise that it starts from.
            steps: of denoising; the model's own by default.

        Returns:
            uint8 (height, width, 3), of a clip (frame, height, width, 3); and the recordings of all passes, each a
            step, means over heads, with the tokens of the prompt.
        """
        recorder = Recorder(
            _transformers(self.model), self.layout, keep, blocks=blocks, heads="mean", intervention=intervention
        )
        with recorder:
            drawn = self.model.generate(self.prompt.text, seed=seed, steps=steps)
        items = len(recorder.recordings())  # two, where both branches of guidance share a batch
        frames = [np.asarray(frame.convert("RGB")) for frame in (drawn if isinstance(drawn, list) else [drawn])]
        picture = np.stack(frames) if isinstance(drawn, list) else frames[0]
        return picture, recorder.recordings(tokens=[self.tokens] * items)


@torch.no_grad()
def prepare_scene(
    model: DiffusionModel,
    image: ImageSource,
    prompt: Prompt,
    *,
    noise_levels: Sequence[float] = (0.6,),
    seeds: Sequence[int] = (0,),
) -> PreparedScene:
    """Encode a picture and its sentence, and add noise.

    Args:
        model: from ``load_model``.
        image: anything that ``load_image`` reads.
        prompt: from ``make_prompt``.
        noise_levels: a pass each.
        seeds: of the noise, a draw each; the draws are a batch.
    """
    latents = torch.cat([model.encode_images([image])] * len(seeds))
    conditioning = model.encode_prompts([prompt] * len(seeds))
    inputs = [model.forward_inputs(latents, conditioning, noise_level=level, seeds=seeds) for level in noise_levels]
    return PreparedScene(model, prompt, tuple(inputs), conditioning.tokens[0])


def relative_change(before: Outcome, after: Outcome) -> float:
    """How far the prediction moved: the L2 norm of the difference over that of the undisturbed prediction.

    Args:
        before: of the undisturbed run.
        after: of a run of the same scene.

    Returns:
        The mean over noise levels and draws; 0 when nothing changed, 1 when the change is as large as the prediction.
    """
    ratios = []
    for one, other in zip(before.predictions, after.predictions, strict=True):
        difference, own = (values.float().flatten(1).norm(dim=1) for values in (other - one, one))
        ratios.append(difference / own)
    return float(torch.stack(ratios).mean())


def _transformers(model: DiffusionModel) -> list[nn.Module]:
    """Those that take turns while a picture is drawn; one, but in Wan 2.2 A14B."""
    return list(dict.fromkeys(model.transformer_at(level) for level in denoising_levels(1.0, 20)))
