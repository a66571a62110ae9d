"""Small, fixed tables such as `analysis`, `experiments` and the benchmarks give, for the image comparison to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from refam_analysis.analysis import ChangePoint

BLOCKS = 6
KINDS = ("content", "magnet", "stop", "punctuation", "special", "padding", "image")
MEGABYTE = 1e6


def measured(rows: list[dict] | pd.DataFrame, scenes: int = 40) -> pd.DataFrame:
    """A table with its number of scenes, as `analysis` gives it."""
    table = pd.DataFrame(rows).assign(scenes=scenes)
    table.attrs["confidence"] = 0.95
    return table


def curves(by: str, ends: Mapping[Any, tuple[float, float]], *, reach: float = 0.02, **columns: object) -> pd.DataFrame:
    """A row a (name, block): values from the first end to the second with a ripple, intervals, and ``columns``."""
    rows = []
    for place, (name, (first, last)) in enumerate(ends.items()):
        values = np.linspace(first, last, BLOCKS) + 0.4 * reach * np.sin(2.1 * np.arange(BLOCKS) + place)
        rows += [
            {by: name, "block": block, "value": value, "low": value - reach, "high": value + 1.4 * reach, **columns}
            for block, value in enumerate(values.tolist())
        ]
    return measured(rows)


# Entropy, mass and maps over depth


def directions() -> pd.DataFrame:
    ends = {"text_to_text": (0.9, 0.55), "text_to_image": (0.97, 0.7), "image_to_text": (0.82, 0.38),
            "image_to_image": (0.99, 0.86)}  # fmt: skip
    return curves("direction", ends, measure="normalised")


CHANGE = ChangePoint(
    block=3, low=2, high=4, before=0.9, after=0.5, drop=0.4, drop_low=0.3, drop_high=0.5, p=0.001, explained=0.9,
    explained_by_line=0.7, better_than_line=1.0, scenes=40, blocks=tuple(range(BLOCKS)), confidence=0.95,
)  # fmt: skip


def heads() -> pd.DataFrame:
    ends = {"minimum": (0.85, 0.25), "lower_quartile": (0.9, 0.42), "median": (0.94, 0.56),
            "upper_quartile": (0.97, 0.71), "maximum": (0.99, 0.9)}  # fmt: skip
    return curves("statistic", ends, reach=0.015, from_queries="image")


def mass() -> pd.DataFrame:
    ends = [(0.1, 0.16), (0.04, 0.22), (0.06, 0.09), (0.02, 0.03), (0.05, 0.13), (0.13, 0.07), (0.6, 0.3)]
    return curves("kind", dict(zip(KINDS, ends, strict=True)), reach=0.01, from_queries="image")


def moved() -> pd.DataFrame:
    ends = {"content": (0.0, -0.02), "magnet": (0.03, 0.16), "stop": (-0.01, -0.05), "padding": (-0.02, -0.09)}
    table = curves("kind", ends, reach=0.006, from_queries="text")
    return table.rename(columns={"value": "change"})


def phrases() -> pd.DataFrame:
    table = measured(curves("name", {"": (0.4, 0.62)})[["block", "value"]].rename(columns={"value": "observed"}))
    table["null"] = np.linspace(0.4, 0.36, BLOCKS)
    excess = table["observed"] - table["null"]
    return table.assign(excess_low=excess - 0.03, excess_high=excess + 0.03, q=0.4 / 4.0 ** table["block"], left_out=3)


def frame_shares() -> pd.DataFrame:
    ends = {"text": (0.1, 0.3), "frame 0": (0.5, 0.2), "frame 1": (0.25, 0.3), "frame 2": (0.15, 0.2)}
    uniform = {"text": 0.04, **dict.fromkeys(["frame 0", "frame 1", "frame 2"], 0.32)}
    return measured(
        pd.concat([curves("keys", ends, query_frame=query) for query in range(3)]).assign(
            uniform=lambda table: table["keys"].map(uniform)
        )
    )


def noise_levels() -> pd.DataFrame:
    levels = {0: 0.9, 1: 0.6, 2: 0.3}
    table = curves("step", {0: (0.3, 0.45), 1: (0.32, 0.66), 2: (0.35, 0.8)}, measure="gini")
    return table.assign(noise_level=table["step"].map(levels))


def sinks_and_sharpness() -> pd.DataFrame:
    strength = curves("measure", {"sink_strength": (1.4, 9.0)}, reach=0.4)
    table = measured(pd.concat([strength, curves("measure", {"sharpness": (0.12, 0.55)}, reach=0.03)]))
    table.attrs["sharpness"] = "average precision"
    return table


def rows_by_kind() -> pd.DataFrame:
    ends = {"content": (0.95, 0.7), "magnet": (0.9, 0.55), "padding": (0.8, 0.35), "image": (0.99, 0.85)}
    return curves("kind", ends)


# Sinks


ROLES = {"the": "stop", "red": "content", "ring": "content", "</s>": "special", "padding 0": "padding"}


def sinks() -> pd.DataFrame:
    effects = {"the": (0.8, 1.4), "red": (1.0, 0.7), "ring": (1.0, 1.1), "</s>": (1.2, 9.0), "padding 0": (0.6, 3.5)}
    table = curves("role", effects, reach=0.15).rename(columns={"value": "effect"})
    table["kind"] = table["role"].map(ROLES)
    table["is_sink"] = table["low"] > 2.0
    table["exploratory"] = False
    table.attrs.update(minimum_effect=2.0, confidence=0.95)
    return table


def keys_of_a_block() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    kinds = ["image"] * 90 + ["content"] * 6 + ["stop"] * 3 + ["special"] + ["padding"] * 9
    strength = generator.normal(0.0, 0.5, len(kinds)) - 0.4
    strength[-10:] += 2.4
    noise = generator.normal(0.0, 0.3, (2, len(kinds)))
    text, image = np.exp(strength + noise)
    return measured(
        pd.DataFrame({"block": 5, "kind": kinds, "mass_from_text": text, "mass_from_image": image,
                      "is_sink": (text > 5.0) & (image > 5.0)})
    )  # fmt: skip


def importance() -> pd.DataFrame:
    ratio = np.array([1.5, 2.6, 6.0, 14.0, 55.0, 48.0])
    kinds = ["content", "stop", "special", "padding", "padding", "special"]
    return measured(pd.DataFrame({"block": np.arange(BLOCKS), "ratio": ratio, "low": ratio * 0.8, "high": ratio * 1.3,
                                  "ratio_to_all": ratio * np.linspace(0.9, 3.0, BLOCKS), "kind": kinds}))  # fmt: skip


def over_steps() -> pd.DataFrame:
    rows = [
        {"step": step, "noise_level": level, "block": block, "value": value * grown, "low": 0.85 * value * grown,
         "high": 1.2 * value * grown}
        for step, (level, grown) in enumerate(((0.9, 1.0), (0.7, 1.3), (0.5, 1.5), (0.3, 1.1)))
        for block, value in ((1, 1.2), (4, 4.0), (7, 20.0))
    ]  # fmt: skip
    return measured(rows)


def agreement() -> pd.DataFrame:
    ends = {"seed 1": (0.97, 0.9), "another prompt": (0.7, 0.35)}
    return curves("other", ends, reach=0.03, one="seed 0", measure="rank_correlation")


def calibrated(by: str, shares: Mapping[Any, Sequence[float]]) -> pd.DataFrame:
    rows = [
        {by: name, "kind": "all", "detector": "over scenes", "scenes": scenes, "datasets": 120, "value": value,
         "low": max(0.0, value - 0.06), "high": min(1.0, value + 0.06), "false_share": 0.3 * (1 - value),
         "false_share_low": 0.2 * (1 - value), "false_share_high": 0.4 * (1 - value)}
        for name, values in shares.items()
        for scenes, value in zip((5, 10, 20, 40), values, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows)


LEVEL = {"noise": (0.0, 0.0, 0.0, 0.0), "locality": (0.0, 0.01, 0.02, 0.02), "object": (0.03, 0.02, 0.04, 0.05),
         "key bias": (0.05, 0.04, 0.06, 0.04)}  # fmt: skip
POWER = {2.0: (0.0, 0.05, 0.2, 0.45), 3.0: (0.1, 0.5, 0.85, 1.0), 5.0: (0.6, 0.95, 1.0, 1.0),
         10.0: (0.9, 1.0, 1.0, 1.0)}  # fmt: skip


# Causal tests, claims, costs


def causal() -> pd.DataFrame:
    paths = {"score": 0.05, "value": 0.04, "redirect": 0.03, "redirect_word": 0.012}
    rows = [
        {"path": path, "number": number, "measure": "prediction", "q": 0.01 if number > 1 else 0.3,
         **{f"{name}{end}": share * strength * number + by * strength
            for name, share in (("sink", 1.0), ("random", 0.3), ("difference", 0.7))
            for end, by in (("", 0.0), ("_low", -0.3), ("_high", 0.4))}}
        for path, strength in paths.items()
        for number in ((1,) if path == "redirect_word" else (1, 3, 5))
    ]  # fmt: skip
    return measured(rows)


def ledger() -> pd.DataFrame:
    criteria = {
        "c1_rise": (18.0, 0.2, "supported"), "c2_draws_evenly": (-0.4, np.nan, "not supported"),
        "c3_prediction_score": (1.1, 0.7, "supported"), "c3_point": (np.nan, np.nan, "not testable here"),
        "c5_surplus": (0.1, np.nan, "not supported"), "c6_clusters": (0.5, 0.55, "not supported"),
        "c9_early_even": (1.8, np.nan, "supported"), "c12_magnets": (np.nan, np.nan, "not testable here"),
    }  # fmt: skip
    rows = [
        {"criterion": name, "effect": effect, "low": effect - 0.3, "high": effect + 0.25, "deviation": 1.2,
         "margin": 0.0, "control_effect": control, "verdict": verdict}
        for name, (effect, control, verdict) in criteria.items()
    ]  # fmt: skip
    return measured(rows)


def ledgers() -> dict[str, pd.DataFrame]:
    shifted = ledger()
    shifted[["effect", "low", "high"]] -= 0.9
    return {"seed 0": ledger(), "seed 1": measured(shifted)}


def profiles() -> dict[str, pd.DataFrame]:
    table = curves("measure", {"row_entropy": (0.97, 0.6)})
    table["depth"] = table["block"] / (BLOCKS - 1)
    values = ["value", "low", "high"]
    return {"embedded": table, "FLUX": measured(table.assign(**{name: table[name] ** 1.6 for name in values}))}


WAYS = {"maps": 1.1, "maps, softmax in chunks": 1.2, "maps, whole softmax": 1.6, "summaries": 1.25,
        "summaries, whole softmax": 1.7, "maps and summaries": 1.3}  # fmt: skip


def costs(*tokens: int) -> pd.DataFrame:
    rows = [
        {"name": name, "tokens": size, "rounds": 9, "seconds": ratio * 0.2 * (size / 512) ** 1.3, "ratio": ratio,
         "low": ratio - 0.06, "high": ratio + 0.12, "kept": (30 if "maps" in name else 1) * (size / 512) * MEGABYTE,
         "extra": (18 if "whole" not in name else 60) * ratio * (size / 512) ** 1.6 * MEGABYTE}
        for size in tokens
        for name, ratio in WAYS.items()
    ]  # fmt: skip
    plain = [{"name": "plain", "tokens": size, "rounds": 9, "seconds": 0.2 * (size / 512) ** 1.3, "ratio": 1.0,
              "low": 1.0, "high": 1.0, "kept": 0.0, "extra": 0.0} for size in tokens]  # fmt: skip
    return pd.DataFrame(rows + plain)


# Magnets


def seconds_by_part() -> pd.DataFrame:
    cases = {"512 px, 1 pass": (0.2, 0.02, 0.1, 0.04), "1024 px, 3 passes": (1.8, 0.15, 1.7, 0.04)}
    return pd.DataFrame.from_dict(cases, orient="index", columns=["transformer", "recording", "moving", "text"])


def flow() -> pd.DataFrame:
    moves = {("padding", "magnet"): 0.021, ("padding", "background"): 0.002, ("content", "magnet"): 0.012,
             ("stop", "magnet"): 0.009, ("stop", "background"): 0.003, ("target", "magnet"): 0.006,
             ("distractors", "magnet"): 0.001}  # fmt: skip
    rows = [
        {"block": 5, "queries": "background", "donor": donor, "receiver": receiver, "amount": amount}
        for (donor, receiver), amount in moves.items()
    ]
    return measured(rows)


def taken() -> pd.DataFrame:
    ends = {"gray": (0.002, 0.031), "pink": (0.001, 0.012), "walnut": (0.002, 0.008), ".": (0.004, 0.052)}
    return curves("magnet", ends, reach=0.0004, queries="background")


def doses() -> pd.DataFrame:
    grown = {"magnets": (0.01, 0.03, 0.045, 0.05), "other words": (0.0, 0.01, 0.012, 0.01),
             "padding": (0.0, -0.002, -0.01, -0.02)}  # fmt: skip
    rows = [
        {"series": series, "measure": "average_precision", "number": number, "change": change,
         "change_low": change - 0.01, "change_high": change + 0.012}
        for series, changes in grown.items()
        for number, change in zip((1, 4, 8, 12), changes, strict=True)
    ]  # fmt: skip
    return measured(rows)


def conditions() -> pd.DataFrame:
    changes = {"magnets": 0.05, "stop words read": -0.03, "magnets, all words read": -0.06, "magnets in front": 0.03,
               "other words": 0.008, "padding repeated": -0.002}  # fmt: skip
    rows = [
        {"condition": name, "measure": "average_precision", "change": change, "change_low": change - 0.015,
         "change_high": change + 0.02, "q": 0.01 if abs(change) > 0.02 else 0.4}
        for name, change in changes.items()
    ]  # fmt: skip
    return measured(rows)


# Counts and groups


def groups() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {name: generator.normal(middle, 0.08, 40).clip(0, 1) for name, middle in
            (("small", 0.5), ("medium", 0.65), ("large", 0.8))}  # fmt: skip


def accuracy() -> pd.DataFrame:
    kinds = ["attribute", "location", "relation"]
    return pd.DataFrame({"kind": kinds, "value": [0.72, 0.55, 0.41], "low": [0.66, 0.47, 0.33],
                         "high": [0.78, 0.62, 0.5], "scenes": [200, 150, 150]})  # fmt: skip


def gains() -> pd.DataFrame:
    names = ["all magnets, filtered", "random content words", "no magnets, stop words filtered"]
    return measured(pd.DataFrame({"name": names, "gain": [0.06, 0.01, 0.03], "gain_low": [0.03, -0.02, 0.01],
                                  "gain_high": [0.09, 0.04, 0.05]}))  # fmt: skip


def log() -> pd.DataFrame:
    step = np.arange(0, 110, 10)
    point = np.where(step % 20 == 0, 0.1 + 0.006 * step, np.nan)
    return pd.DataFrame({"step": step, "loss": 1.4 * np.exp(-step / 40) + 0.1, "point_accuracy": point})


PAIRS = pd.DataFrame([[4, 0, 7], [2, 9, 1]], index=["red", "blue"], columns=["ring", "star", "cross"])
COUNTS = pd.Series({"circle": 12, "star": 3, "ring": 8})
SIDES = {"text": (0.86, 0.5), "image": (0.97, 0.7)}
FOUND = {"average_precision": (0.1, 0.5), "point_accuracy": (0.08, 0.7)}


# Heads, and values against a number


def head_indices() -> pd.DataFrame:
    rows = [
        {"block": block, "head": head, "block_type": "double" if block < 2 else "single"}
        | {"far": 1.5 + block + head, "far_low": 1.2 + block + head, "far_high": 1.9 + block + head}
        | {
            "read": 0.1 + 0.03 * block * head,
            "read_low": 0.08 + 0.03 * block * head,
            "read_high": 0.14 + 0.03 * block * head,
        }
        for block in range(4)
        for head in range(2)
    ]
    return measured(rows, scenes=16)


def against() -> pd.DataFrame:
    ends = {"padding": (0.04, 0.09), "content": (0.012, 0.006)}
    return curves("name", ends, reach=0.004).assign(tokens=lambda table: 16 + 8 * table["block"])
