"""What the model cards say in words; the numbers are put in by `card`."""

from __future__ import annotations

from refam_analysis.scenes.sampling import Style

DIT_INTRODUCTION = {
    "embedded": """
# The embedded diffusion transformer

A small FLUX that draws scenes of coloured shapes from sentences, made to look into: it trains in hours on a CPU, runs
everywhere, and its attention can be compared with an exact truth.
""",
    "embedded-rich": """
# The embedded diffusion transformer of rich scenes

A small FLUX of twelve blocks that draws shaded, textured scenes from sentences. It is wider than the other model of
this package and its scenes are harder, so that materials and occlusion can be looked at.
""",
}
DIT_FOLDER = """
It is a folder that diffusers' `FluxPipeline.from_pretrained` reads; `refam_analysis.load_model("{model}")` adds its own
picture size (96 x 96) and prompt length (32 tokens), which a bare call of the pipeline would miss.
"""

DIT_DATA: dict[Style, str] = {
    "plain": """
## Data

The diagnostic scenes of this repository (`refam_analysis.scenes`), drawn by a seeded program: one to four objects of
8 colours, 6 shapes and 2 sizes on 4 backgrounds, with captions of one, some or all objects, with and without place.
Six pairs of colour and shape never occur in training. No pictures or texts from elsewhere were used, except that the
tokenizers learnt their word pieces from Python's own language reference.
""",
    "rich": """
## Data

The rich diagnostic scenes of this repository (`refam_analysis.scenes`), drawn by a seeded program: one to six objects
of 8 colours, 12 shapes, 2 sizes and 4 materials on 10 textures, some partly hidden; with captions of one, some or all
objects, with and without place, in synonyms too, with relations and superlatives. Twelve pairs of colour and shape and
one synonym of every word never occur in training. No pictures or texts from elsewhere were used, except that the
tokenizers learnt their word pieces from Python's own language reference.
""",
}
"""By the style of the scenes that the model was measured on, which are those that it says it knows."""

DIT_TRAINING = """
Flow matching with a velocity target, and nothing else: no mask, no expression's target and no attention map was seen.
The autoencoder was trained first, then transformer and text encoders together. The weights are a running average,
stored in half precision and computed in float32.
"""

DIT_GROWN: dict[Style, str] = {
    "plain": """
A shallow transformer of {shallow} blocks came first. From it the {deep} blocks were grown, by copies behind its blocks
that begin by adding nothing, and trained on scenes of one to three objects with captions that name most of them, each
with its colour and its shape; then on all scenes. Steps and samples are counted on from run to run. Where a command
starts from `embedded-dit`, that was the model of {shallow} blocks, which shipped before.
""",
    "rich": """
A shallow transformer of {shallow} blocks was taught an easy lesson first: one to three whole objects on faint textures,
with captions that name nearly all of them. From it the {deep} blocks were grown, by copies behind its blocks that begin
by adding nothing, and trained on whole scenes. Steps and samples are counted on from run to run.
""",
}

DIT_LIMITS = """
## Limits

It knows its scenes and their words, not photographs. Words beyond them fall into pieces that mean nothing to it. It has
{blocks} blocks; what its attention does need not hold for a large model. Grounding was measured with one way of reading
heatmaps, chosen on validation scenes; other ways give other numbers.
"""

VIDEO_INTRODUCTION = """
# The embedded video diffusion transformer

A small Mochi that draws clips of moving, coloured shapes from sentences, made to look into: its attention between
frames and words can be compared with an exact truth.

It is a folder that diffusers' `MochiPipeline.from_pretrained` reads; `refam_analysis.load_model("embedded-video")`
adds its own size ({frames} frames of {size} x {size} pixels) and prompt length (32 tokens), which a bare call of the
pipeline would miss.

## Data

Clips of the diagnostic scenes of this repository (`refam_analysis.scenes`), drawn by a seeded program: one to four
objects of 8 colours, 6 shapes and 2 sizes that drift and turn back at the border, some behind others; with captions of
one, some or all objects, half of them with the directions in which these move. Six pairs of colour and shape never
occur in training. No pictures or texts from elsewhere were used, except that the tokenizer learnt its word pieces from
Python's own language reference.
"""

VIDEO_TRAINING = """
Flow matching, and nothing else: no mask, no expression's target and no attention map was seen. The autoencoder was
trained first, then transformer and text encoder together, first on first frames alone and then on clips. The vector
that Mochi pools from the text is silent here, so that all that the text says passes through attention. The weights are
a running average, stored in half precision and computed in float32.
"""

VIDEO_LIMITS = """
## Limits

It knows its scenes and their words, not films. It has {blocks} blocks and sees {frames} frames, which are {latents}
latent ones; what its attention does need not hold for a large model. Points were measured with one way of reading
heatmaps, chosen on validation clips by sentences that do not speak of motion; other ways give other numbers.
"""

SAM_INTRODUCTION: dict[Style, str] = {
    "plain": """
# The embedded segmenter

A small SAM: segment-anything's own `Sam` class, trained from scratch on scenes of coloured shapes, for use through
segment-anything's own `SamPredictor`. `refam_analysis.segmentation.load_segmenter("embedded")` loads it.
""",
    "rich": """
# The embedded segmenter of rich scenes

A small SAM: segment-anything's own `Sam` class, begun with the weights of the other segmenter of this package and
trained on shaded, textured scenes, for use through segment-anything's own `SamPredictor`.
`refam_analysis.segmentation.load_segmenter("embedded-rich")` loads it.
""",
}

SAM_DRAWN = """
## Data

The {scenes} of this repository (`refam_analysis.scenes`), drawn by a seeded program: {objects} objects,
some partly hidden, with exact masks. Each object is asked for by one point drawn uniformly inside its visible part.
"""
SAM_DATA: dict[Style, dict[str, str]] = {
    "plain": {"scenes": "diagnostic scenes", "objects": "one to four"},
    "rich": {"scenes": "rich diagnostic scenes", "objects": "two to six"},
}

SAM_TRAINING = """
SAM's own loss: focal and dice on the best of three candidate masks, squared error of the predicted IoU. The weights are
a running average, stored in half precision and computed in float32.
"""

SAM_LIMITS = """
## Limits

It knows the scenes, not photographs, and answers to a single point; boxes and mask prompts were not trained. Its masks
are drawn on a grid of 64 x 64 and enlarged to 96 x 96.
"""
