"""What the image comparison draws: every exported figure with its data and the Axes that it needs.

Names are those of the functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from figures import ablation_tables, benchmark_tables, tables

from refam_analysis import figures
from refam_analysis.models.layout import TokenLayout

PHRASES = [["the", "red", "ring"], ["on", "the", "left"]]
LAYOUT = TokenLayout(text=slice(0, 32), image=slice(32, 176), grid=(12, 12))


@dataclass(frozen=True)
class Sample:
    """One drawing: what to call with the Axes, how large the figure is in inches, and how many Axes it has."""

    draw: Callable[[Any], object]
    size: tuple[float, float] = (5.0, 3.4)
    rows: int = 1
    columns: int = 1


def picture() -> np.ndarray:
    """A dark square and a light disc on a ramp, uint8 (32, 48, 3)."""
    y, x = np.mgrid[:32, :48]
    image = np.stack([90 + 2 * x, 120 + y, 150 - y], axis=-1)
    image[4:14, 6:18] = (40, 60, 150)
    image[(x - 34) ** 2 + (y - 20) ** 2 < 64] = (230, 200, 80)
    return image.astype(np.uint8)


def disc() -> np.ndarray:
    y, x = np.mgrid[:32, :48]
    return (x - 34) ** 2 + (y - 20) ** 2 < 64


def found() -> np.ndarray:
    """The disc as a segmenter might give it: a little to the left."""
    return np.roll(disc(), -3, axis=1)


def heat(*places: tuple[float, float]) -> np.ndarray:
    """Maps with a hill each at (x, y), in tokens: (place, 8, 12)."""
    y, x = np.mgrid[:8, :12]
    return np.stack([np.exp(-((x - right) ** 2 + (y - down) ** 2) / 6) for right, down in places])


def moving_frames() -> np.ndarray:
    """The picture, shifted to the left frame by frame."""
    return np.stack([np.roll(picture(), -4 * frame, axis=1) for frame in range(4)])


def moving_truth() -> np.ndarray:
    return np.stack([np.roll(disc(), -4 * frame, axis=1) for frame in range(4)])


def moving_masks() -> np.ndarray:
    """The disc a little to the left, and lost in the last frame."""
    masks = np.stack([np.roll(found(), -4 * frame, axis=1) for frame in range(4)])
    masks[3] = False
    return masks


MAPS = heat((2.5, 2.0), (8.0, 4.5))
POINT = (34.0, 20.0)


def pipeline(axes: Sequence[Any]) -> object:
    return figures.pipeline_figure(
        axes, image=picture(), expression="the yellow disc on the right", maps=MAPS, words=["yellow", "disc"],
        kinds=["content", "content"], heatmap=MAPS[1], point=POINT, mask=found(), truth=disc(),
    )  # fmt: skip


def emergence(axes: np.ndarray) -> object:
    blocks = [0, 3, 7]
    maps = xr.DataArray(heat((2.0, 2.0), (5.0, 3.0), (8.0, 4.5)), {"block": blocks}, ("block", "y", "x"))
    return figures.emergence_panel(axes, words(blocks), PHRASES, picture(), maps)


def word_maps() -> xr.DataArray:
    values = np.stack([heat((2.0, 2.0), (4.0, 3.0), (8.0, 4.5)), heat((9.0, 6.0), (8.0, 5.0), (8.0, 4.5))])
    return xr.DataArray(
        values, {"text": ("token", ["▁the", "▁disc"]), "block": [0, 4, 7]}, ("token", "block", "y", "x")
    )


def words(blocks: Sequence[int]) -> xr.DataArray:
    near = np.kron(np.eye(2), np.ones((3, 3)))
    values = np.random.default_rng(0).random((len(blocks), 6, 6)) * 0.2
    values += near * np.linspace(0.0, 0.3, len(blocks))[:, None, None]
    return xr.DataArray(values * (1 - np.eye(6)), {"block": list(blocks)}, ("block", "query", "key"))


def joint() -> xr.DataArray:
    """Attention over eight pieces, eight of padding and a picture of 4 by 6, labelled as a Recording does."""
    pieces = ["the", "small", "red", "ring", "on", "the", "left", "</s>"] + ["<pad>"] * 8 + [""] * 24
    kinds = ["content"] * 7 + ["special"] + ["padding"] * 8 + [""] * 24
    sides = ["text"] * 16 + ["image"] * 24
    values = np.random.default_rng(0).gamma(0.4, size=(40, 40))
    labels = {"side": sides, "text": pieces, "kind": kinds}
    coordinates: dict[str, Any] = {name: ("query", values) for name, values in labels.items()}
    coordinates |= {f"key_{name}": ("key", values) for name, values in labels.items()}
    places = {"query": np.arange(40), "key": np.arange(40)}
    return xr.DataArray(values / values.sum(1, keepdims=True), {**coordinates, **places}, ("query", "key"))


def blocks_and_heads() -> xr.DataArray:
    values = np.random.default_rng(0).gamma(0.4, size=(3, 2, 8, 8))
    coordinates = {"block": [0, 4, 7], "head": [0, 1], "side": ("query", ["text"] * 2 + ["image"] * 6)}
    return xr.DataArray(values / values.sum(-1, keepdims=True), coordinates, ("block", "head", "query", "key"))


def head_values() -> xr.DataArray:
    values = np.array([[0.11, 0.27, 0.92], [0.48, 0.63, 0.34]]).T
    return xr.DataArray(values, {"block": [0, 4, 7], "head": [0, 1]}, ("block", "head"))


def small() -> np.ndarray:
    """Six tokens, two of text: rows sum to 1, and the fifth key draws most."""
    values = np.random.default_rng(0).gamma(0.8, size=(6, 6)) + np.eye(6)
    values[:, 4] += 1.5
    return values / values.sum(1, keepdims=True)


def forest(axes: Any) -> object:
    return figures.one_legend([figures.claims_forest(axes, tables.ledger())])


def trainings(axes: Any) -> object:
    return figures.one_legend([figures.claims_by_training(axes, tables.ledgers())])


def legend_of_two(axes: Sequence[Any]) -> object:
    for ax in axes:
        figures.entropy_by_block(ax, tables.curves("from_queries", tables.SIDES, measure="normalised"))
    return figures.one_legend(axes)


SAMPLES: dict[str, Sample] = {
    "attention_matrix": Sample(lambda ax: figures.attention_matrix(ax, joint()), (4.6, 3.8)),
    "benchmark_scores": Sample(
        lambda ax: figures.benchmark_scores(ax, benchmark_tables.scores(), metric="oIoU"), (6.0, 2.4)
    ),
    "block_head_grid": Sample(lambda axes: figures.block_head_grid(axes, blocks_and_heads()), (4.2, 3.4), 2, 3),
    "block_head_values": Sample(lambda ax: figures.block_head_values(ax, head_values(), unit="mass on text (share)")),
    "by_block_and_noise_level": Sample(
        lambda ax: figures.by_block_and_noise_level(ax, tables.noise_levels(), label="Gini coefficient of the map")
    ),
    "calibration_level": Sample(lambda ax: figures.calibration_level(ax, tables.calibrated("pattern", tables.LEVEL))),
    "calibration_power": Sample(lambda ax: figures.calibration_power(ax, tables.calibrated("factor", tables.POWER))),
    "claims_by_training": Sample(trainings),
    "claims_forest": Sample(forest),
    "cost_scaling": Sample(lambda ax: figures.cost_scaling(ax, tables.costs(512, 1024, 2048)), (5.0, 3.8)),
    "cost_shares": Sample(lambda ax: figures.cost_shares(ax, tables.seconds_by_part()), (5.6, 2.6)),
    "clip_strip": Sample(
        lambda axes: figures.clip_strip(
            axes, moving_frames(), moving_masks(), [0, 2, 3], truth=moving_truth(), point=POINT
        ),
        (5.4, 1.8),
        1,
        3,
    ),
    "conditions_forest": Sample(lambda ax: figures.conditions_forest(ax, tables.conditions())),
    "count_bars": Sample(
        lambda ax: figures.count_bars(ax, tables.COUNTS, colours={"ring": (0.8, 0.1, 0.1)}), (3.4, 2.0)
    ),
    "directions": Sample(lambda ax: figures.directions(ax, LAYOUT), (4.0, 4.0)),
    "dose_response": Sample(lambda ax: figures.dose_response(ax, tables.doses())),
    "emergence_panel": Sample(emergence, (7.0, 4.4), 2, 3),
    "entropy_by_block": Sample(
        lambda ax: figures.entropy_by_block(ax, tables.curves("from_queries", tables.SIDES, measure="normalised"))
    ),
    "entropy_by_direction": Sample(
        lambda ax: figures.entropy_by_direction(ax, tables.directions(), change=tables.CHANGE)
    ),
    "entropy_by_kind": Sample(lambda ax: figures.entropy_by_kind(ax, tables.rows_by_kind())),
    "following_over_time": Sample(
        lambda ax: figures.following_over_time(
            ax, [1.0, 0.9, 0.8, np.nan, 0.7], [1.0, 0.8, 0.7, 0.1, 0.6], in_sight=[1, 1, 1, 0, 1], said=[1, 1, 0, 0, 1]
        ),
        (5.0, 2.6),
    ),
    "failure_shares": Sample(lambda ax: figures.failure_shares(ax, ablation_tables.failure_groups()), (7.0, 3.0)),
    "frame_heatmaps": Sample(
        lambda axes: figures.frame_heatmaps(axes, moving_frames(), MAPS, [0, 2]), (4.6, 2.0), 1, 2
    ),
    "head_spread": Sample(lambda ax: figures.head_spread(ax, tables.heads())),
    "heads_plane": Sample(
        lambda ax: figures.heads_plane(ax, tables.head_indices(), "far", "read", labels=("distance (patches)", "mass"))
    ),
    "heat_over": Sample(lambda ax: figures.heat_over(ax, picture(), MAPS[1]), (2.4, 1.7)),
    "key_importance": Sample(lambda ax: figures.key_importance(ax, tables.importance())),
    "learning_curve": Sample(
        lambda ax: figures.learning_curve(
            ax, tables.log(), columns=["loss", "point_accuracy"], unit="loss, point accuracy", log_scale=True
        )
    ),
    "localisation_by_block": Sample(
        lambda ax: figures.localisation_by_block(ax, tables.curves("measure", tables.FOUND))
    ),
    "magnet_grid": Sample(lambda ax: figures.magnet_grid(ax, tables.taken()), (6.0, 2.8)),
    "mark_point": Sample(lambda ax: figures.mark_point(figures.heat_over(ax, picture(), MAPS[1]), POINT), (2.4, 1.7)),
    "mask_overlay": Sample(
        lambda ax: figures.mask_overlay(ax, picture(), found(), point=POINT, truth=disc()), (2.8, 2.0)
    ),
    "mass_by_kind": Sample(lambda ax: figures.mass_by_kind(ax, tables.mass())),
    "mass_flow": Sample(lambda ax: figures.mass_flow(ax, tables.flow()), (5.0, 3.8)),
    "mass_change_by_kind": Sample(lambda ax: figures.mass_change_by_kind(ax, tables.moved()), (5.0, 4.2)),
    "memory_costs": Sample(lambda ax: figures.memory_costs(ax, tables.costs(1536)), (5.4, 3.0)),
    "one_legend": Sample(legend_of_two, (6.8, 3.2), 1, 2),
    "pair_counts": Sample(lambda ax: figures.pair_counts(ax, tables.PAIRS, marked={("red", "star")}), (3.4, 2.0)),
    "phrase_matrix": Sample(lambda ax: figures.phrase_matrix(ax, words([0, 7])[1], PHRASES), (3.0, 3.0)),
    "phrases_by_block": Sample(lambda ax: figures.phrases_by_block(ax, tables.phrases())),
    "pipeline_figure": Sample(pipeline, (8.0, 1.8), 1, 5),
    "point_accuracy_by": Sample(lambda ax: figures.point_accuracy_by(ax, tables.accuracy(), by="kind", chance=0.07)),
    "points_moved": Sample(lambda ax: figures.points_moved(ax, ablation_tables.moved()), (6.0, 2.6)),
    "profiles_over_depth": Sample(
        lambda ax: figures.profiles_over_depth(
            ax, tables.profiles(), "row_entropy", label="row entropy (share of log N)"
        )
    ),
    "published_scores": Sample(lambda ax: figures.published_scores(ax, benchmark_tables.published()), (6.5, 2.6)),
    "received_from_both_sides": Sample(
        lambda ax: figures.received_from_both_sides(ax, tables.keys_of_a_block()).legend(), (4.0, 3.8)
    ),
    "recording_costs": Sample(lambda ax: figures.recording_costs(ax, tables.costs(1536)), (5.4, 3.0)),
    "row_and_column": Sample(
        lambda axes: figures.row_and_column(axes, picture(), joint().assign_attrs(grid=(4, 6)), 2), (6.0, 3.6), 2, 2
    ),
    "run_differences": Sample(lambda ax: figures.run_differences(ax, benchmark_tables.differences()), (6.0, 2.0)),
    "scene_samples": Sample(
        lambda axes: figures.scene_samples(
            axes, [picture()], ["the yellow disc on the right of the small blue square"], [disc()]
        ),
        (4.6, 2.2),
        1,
        2,
    ),
    "shares_between_frames": Sample(lambda ax: figures.shares_between_frames(ax, tables.frame_shares(), query_frame=0)),
    "sink_agreement": Sample(lambda ax: figures.sink_agreement(ax, tables.agreement())),
    "sink_effects": Sample(lambda ax: figures.sink_effects(ax, tables.sinks(), ["</s>", "padding 0", "ring", "the"])),
    "sink_map": Sample(lambda ax: figures.sink_map(ax, tables.sinks())),
    "sink_minus_random": Sample(lambda ax: figures.sink_minus_random(ax, tables.causal()), (6.0, 3.8)),
    "sinks_against_random": Sample(lambda ax: figures.sinks_against_random(ax, tables.causal()), (6.0, 3.8)),
    "sinks_against_semantics": Sample(lambda ax: figures.sinks_against_semantics(ax, tables.sinks_and_sharpness())),
    "sinks_over_steps": Sample(lambda ax: figures.sinks_over_steps(ax, tables.over_steps())),
    "slice_scores": Sample(lambda ax: figures.slice_scores(ax, benchmark_tables.slices(), metric="mIoU"), (6.0, 2.6)),
    "small_matrix": Sample(
        lambda ax: figures.small_matrix(ax, small(), ["red", "ball", *"abcd"], ["text"] * 2 + ["image"] * 4), (3.6, 3.4)
    ),
    "switch_effects": Sample(lambda ax: figures.switch_effects(ax, ablation_tables.effects()), (6.0, 3.0)),
    "switch_effects_by_kind": Sample(
        lambda ax: figures.switch_effects_by_kind(ax, ablation_tables.effects_by_kind()), (6.0, 4.0)
    ),
    "token_maps": Sample(
        lambda axes: figures.token_maps(axes, picture(), MAPS, ["yellow", "and"], kinds=["content", "stop"]),
        (4.6, 2.0),
        1,
        2,
    ),
    "transformer_diagram": Sample(
        lambda ax: figures.transformer_diagram(ax, figures.TransformerSizes(32, (8, 12), 16, (64, 96), 2, 4, 3, 32)),
        (9.5, 5.9),
    ),
    "value_intervals": Sample(
        lambda ax: figures.value_intervals(
            ax, tables.gains(), by="name", value="gain", label="gain (IoU)", reference=0.0
        ),
        (6.0, 2.2),
    ),
    "values_against": Sample(
        lambda ax: figures.values_against(
            ax, tables.against(), "tokens", "name", labels=("text tokens", "share of attention")
        )
    ),
    "values_by_group": Sample(lambda ax: figures.values_by_group(ax, tables.groups(), unit="IoU")),
    "word_block_grid": Sample(lambda axes: figures.word_block_grid(axes, picture(), word_maps()), (5.0, 2.6), 2, 3),
}
