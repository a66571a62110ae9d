"""Where the mass moves when magnets are appended: who loses, who gains, and a flow from the ones to the others.

The account is of one group of queries at a time (a side, a region of the picture, a kind of token) and balances: its
shares sum to 1 without magnets and with them, so the changes sum to 0. Where prompts are padded to a fixed length,
magnets take the places of padding and move the end token on. What of a change is a change of name, is seen by putting
up the account in another way: by kind, by role, by position, or by what stands at a position without and with magnets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from refam_analysis.analysis.magnets import KINDS
from refam_analysis.analysis.paired import paired_changes
from refam_analysis.analysis.positions import roles
from refam_analysis.analysis.query_shares import QueryShares, query_shares
from refam_analysis.analysis.regions import REGIONS
from refam_analysis.analysis.statistics import bootstrap_interval, scene_mean
from refam_analysis.analysis.units import RecordingsDifferError, each_recording, query_sides, same_blocks
from refam_analysis.errors import RefamError

if TYPE_CHECKING:
    from refam_analysis.recording.recording import Recording

Floats = NDArray[np.float64]
By = Literal["kind", "role", "position", "place"]


def redistribution_of(
    without: Recording,
    with_magnets: Recording,
    *,
    queries: Sequence[str] | None = None,
    regions: xr.DataArray | None = None,
    by: By = "kind",
) -> pd.DataFrame:
    """What each account of one scene holds without magnets and with them.

    Args:
        without: the scene without magnets.
        with_magnets: the same with magnets appended, with the same noise.
        queries: whose attention: "text", "image", "target", "distractors", "background", or a token kind. None for
            the sides that the model has, and the regions where they are given. With magnets the text side has magnets
            among its queries; the kind "content" is the same words in both.
        regions: of the picture, from :func:`~refam_analysis.analysis.regions.region_shares`: then image keys have an
            account a region, otherwise one together. Needed for queries of a region.
        by: how text keys are put together. "kind": of token. "role": ``the``, ``magnet .``, ``padding 3``. "position":
            ``text 7``, whatever stands there. "place": by what stands at a position without and with magnets, such as
            ``padding → magnet``: what the position gains by the change of its token.

    Returns:
        A row a (block, query group, account): ``block``, ``queries``, ``account``, ``without``, ``with_magnets``
        (shares of the attention, which sum to 1 within a block and group), ``change``. An account that one of the two
        prompts lacks holds 0 there; a group without queries is NaN.

    Raises:
        QuantityMissingError, MissingSideError, MaskError: see
            :func:`~refam_analysis.analysis.query_shares.query_shares`.
        RecordingsDifferError: other blocks, or by position or place with prompts of two lengths.
        RefamError: text keys cannot be put together in this way.

    >>> import refam_analysis as ra
    >>> model, sample = ra.load_model("embedded"), ra.Scenes("test")[0]
    >>> sentence = sample.expressions[0].text
    >>> without = ra.record(model, sample.image, sentence)
    >>> with_magnets = ra.record(model, sample.image, sentence, magnets=ra.DEFAULT_MAGNETS)
    >>> table = redistribution_of(without, with_magnets, by="kind")
    >>> bool((table.groupby(["block", "queries"])["change"].sum().abs() < 1e-5).all())  # what one gains, others lose
    True
    """
    before, after, rows = _stacked(without, with_magnets, regions, queries, by)
    columns = {"without": before.ravel(), "with_magnets": after.ravel(), "change": (after - before).ravel()}
    return rows.assign(**columns)


def redistribution(
    without: Recording | Iterable[Recording],
    with_magnets: Recording | Iterable[Recording],
    regions: xr.DataArray | Iterable[xr.DataArray] | None = None,
    *,
    queries: Sequence[str] | None = None,
    by: By = "kind",
    confidence: float = 0.95,
    resamples: int = 2000,
    flips: int = 20_000,
    seed: int = 0,
) -> pd.DataFrame:
    """What each account gains or loses when magnets are appended, paired over scenes.

    Args:
        without: one a scene.
        with_magnets: the same scenes in the same order, with magnets appended.
        regions: of each scene; None leaves the picture in one account.
        queries: see :func:`redistribution_of`.
        by: see :func:`redistribution_of`.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        flips: random sign flips over scenes.
        seed: of draws and flips.

    Returns:
        A row a (block, query group, account): ``block``, ``queries``, ``account``, and the columns of
        :func:`~refam_analysis.analysis.paired.paired_changes`. The mean changes of a block and group sum to 0, since a
        scene whose prompts lack an account counts with 0.

    Raises:
        NoRecordingsError: no recording was given.
        RecordingsDifferError: not the same scenes or blocks; see also :func:`redistribution_of`.
        ValueError: not as many regions as recordings.
    """
    before, after, rows = _stacked(without, with_magnets, regions, queries, by)
    options: dict[str, Any] = {"confidence": confidence, "resamples": resamples, "flips": flips, "seed": seed}
    return paired_changes(before.reshape(len(before), -1), after.reshape(len(after), -1), rows, **options)


def proportional_flow(change: Floats) -> Floats:
    """From an account of changes to a flow: each donor's loss goes to the receivers in proportion to their gains.

    Changes do not say who gave to whom. Any flow that explains them moves at least

        T = sum of all gains = sum of all losses

    and the flows that move no more than that differ only in how donors and receivers are matched. Of these the one
    here assumes nothing about the matching: with loss l_i and gain g_j,

        flow_ij = l_i g_j / T

    Args:
        change: (..., accounts), summing to 0 over the last axis.

    Returns:
        (..., donor, receiver), not negative: rows sum to the losses, columns to the gains. 0 where nothing moves, NaN
        where a change is NaN.

    Source: the transport between two marginals of the largest entropy; T is the total variation distance.

    >>> proportional_flow(np.array([-3.0, -1.0, 4.0])).tolist()
    [[0.0, 0.0, 3.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    loss, gain = np.maximum(-change, 0.0), np.maximum(change, 0.0)
    total = gain.sum(axis=-1)[..., None, None]
    product = loss[..., :, None] * gain[..., None, :]
    flow: Floats = np.divide(product, total, out=product * 0.0, where=total > 0)
    return flow


def flow_of(changes: pd.DataFrame) -> pd.DataFrame:
    """Who gives how much to whom, in one scene; the rule is that of :func:`proportional_flow`.

    Args:
        changes: from :func:`redistribution_of`.

    Returns:
        A row a (block, query group, donor, receiver): ``block``, ``queries``, ``donor``, ``receiver``, ``amount``,
        the share of the attention; every pair of accounts has one.

    >>> accounts, change = ["special", "padding", "magnet"], [-0.3, -0.1, 0.4]
    >>> changes = pd.DataFrame({"block": 0, "queries": "image", "account": accounts, "change": change})
    >>> flow_of(changes).query("amount > 0")[["donor", "receiver"]].values.tolist()
    [['special', 'magnet'], ['padding', 'magnet']]
    """
    accounts = list(dict.fromkeys(changes["account"]))
    groups = changes[["block", "queries"]].drop_duplicates().itertuples(index=False, name=None)
    flows = proportional_flow(changes["change"].to_numpy(dtype=np.float64).reshape(-1, len(accounts)))
    return _pairs(list(groups), accounts).assign(amount=flows.ravel())


def flow(
    without: Recording | Iterable[Recording],
    with_magnets: Recording | Iterable[Recording],
    regions: xr.DataArray | Iterable[xr.DataArray] | None = None,
    *,
    queries: Sequence[str] | None = None,
    by: By = "kind",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Who gives how much to whom when magnets are appended, over scenes.

    Each scene has its own flow, by the rule of :func:`proportional_flow`; here are their means. So an account can give
    in some scenes and take in others, and what it takes minus what it gives is its mean change.

    Args:
        without, with_magnets, regions, queries, by: as for :func:`redistribution`.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        seed: of the draws.

    Returns:
        A row a (block, query group, donor, receiver): ``block``, ``queries``, ``donor``, ``receiver``, ``amount``
        (share of the attention, mean over scenes), ``low``, ``high``, ``scenes``. Pairs between which nothing moves
        in any scene are left out.

    The errors are those of :func:`redistribution`.
    """
    before, after, rows = _stacked(without, with_magnets, regions, queries, by)
    accounts = list(dict.fromkeys(rows["account"]))
    pairs = list(rows[["block", "queries"]].drop_duplicates().itertuples(index=False, name=None))
    flows = proportional_flow(after - before).reshape(len(before), -1)
    moved = np.nansum(flows, axis=0) > 0
    flows, table = flows[:, moved], _pairs(pairs, accounts)[moved].reset_index(drop=True)
    low, high = bootstrap_interval(flows, confidence=confidence, resamples=resamples, seed=seed)
    table["amount"], table["low"], table["high"] = scene_mean(flows), low, high
    table["scenes"] = np.isfinite(flows).sum(axis=0)
    table.attrs["confidence"] = confidence
    return table


def places_of(without: Recording, with_magnets: Recording) -> pd.DataFrame:
    """What stands at each position of the text without magnets and with them.

    Args:
        without, with_magnets: as for :func:`redistribution_of`.

    Returns:
        A row a position: ``position`` (in the text), ``role``, ``kind``, ``role_with_magnets``, ``kind_with_magnets``.

    Raises:
        RecordingsDifferError: the prompts have two lengths.
    """
    columns: dict[str, list[str]] = {}
    for recording, ending in ((without, ""), (with_magnets, "_with_magnets")):
        labels = pd.DataFrame([{"position": token.index, "side": "text", "text": token.text, "word": token.word,
                                "kind": token.kind} for token in recording.tokens])  # fmt: skip
        columns[f"role{ending}"] = roles(labels, recording.layout)
        columns[f"kind{ending}"] = labels["kind"].tolist()
    if len(columns["role"]) != len(columns["role_with_magnets"]):
        raise _two_lengths(len(columns["role"]), len(columns["role_with_magnets"]))
    return pd.DataFrame({"position": range(len(columns["role"])), **columns})


def _labels(blocks: Sequence[int], queries: Sequence[str], accounts: Sequence[str]) -> pd.DataFrame:
    index = pd.MultiIndex.from_product([blocks, queries, accounts], names=["block", "queries", "account"])
    return index.to_frame(index=False)


def _pairs(groups: Sequence[tuple[int, str]], accounts: Sequence[str]) -> pd.DataFrame:
    """Labels of every donor and receiver in every block and query group."""
    rows = [(*group, donor, receiver) for group in groups for donor in accounts for receiver in accounts]
    return pd.DataFrame(rows, columns=["block", "queries", "donor", "receiver"])


def _stacked(
    without: Recording | Iterable[Recording],
    with_magnets: Recording | Iterable[Recording],
    regions: xr.DataArray | Iterable[xr.DataArray] | None,
    queries: Sequence[str] | None,
    by: By,
) -> tuple[Floats, Floats, pd.DataFrame]:
    """Shares (scene, block and query group, account) without and with magnets, and the labels of the flat rows."""
    if by not in get_args(By):
        raise RefamError(f"by is {by!r}. Choose one of {', '.join(map(repr, get_args(By)))}.")
    blocks: list[int] | None = None
    scenes: list[dict[str, Floats]] = []
    groups: Sequence[str] | None = queries
    for first, second, region in _scenes(without, with_magnets, regions):
        groups = groups or [*query_sides(first), *(() if region is None else REGIONS)]
        found, accounts = _accounts_of(first, second, groups, region, by)
        blocks = same_blocks(blocks, found)
        scenes.append(accounts)
    names = _order(scenes)
    empty = [next(iter(accounts.values())) * 0.0 for accounts in scenes]  # 0, and NaN for a group without queries
    values = np.stack([
        np.stack([accounts.get(name, zero) for name in names], axis=-1)
        for accounts, zero in zip(scenes, empty, strict=True)
    ])  # fmt: skip
    before, after = (values[:, index].reshape(len(scenes), -1, len(names)) for index in (0, 1))
    return before, after, _labels(blocks or [], groups or [], names)


def _scenes(
    without: Recording | Iterable[Recording],
    with_magnets: Recording | Iterable[Recording],
    regions: xr.DataArray | Iterable[xr.DataArray] | None,
) -> Iterator[tuple[Recording, Recording, xr.DataArray | None]]:
    of_each: Iterable[xr.DataArray] | None = [regions] if isinstance(regions, xr.DataArray) else regions
    pairs = _pairs_of_recordings(each_recording(without), each_recording(with_magnets))
    if of_each is None:
        yield from ((first, second, None) for first, second in pairs)
    else:
        yield from ((first, second, region) for (first, second), region in zip(pairs, of_each, strict=True))


def _pairs_of_recordings(
    without: Iterator[Recording], with_magnets: Iterator[Recording]
) -> Iterator[tuple[Recording, Recording]]:
    for first, second in zip_longest(without, with_magnets):
        if first is None or second is None:
            raise RecordingsDifferError(
                "There are not as many recordings with magnets as without: give the same scenes in the same order."
            )
        yield first, second


def _order(scenes: Sequence[dict[str, Floats]]) -> list[str]:
    """All accounts: kinds and regions in their order, whatever else in that of its first scene."""
    seen = dict.fromkeys(name for accounts in scenes for name in accounts)
    last = [name for name in ("image", *REGIONS, "other") if name in seen]
    first = [kind for kind in KINDS if kind in seen and kind not in last]
    return [*first, *(name for name in seen if name not in (*first, *last)), *last]


def _accounts_of(
    without: Recording, with_magnets: Recording, queries: Sequence[str], regions: xr.DataArray | None, by: By
) -> tuple[list[int], dict[str, Floats]]:
    """Blocks, and account -> shares (without or with, block, query group) of one scene."""
    pair = [[query_shares(recording, name, regions) for name in queries] for recording in (without, with_magnets)]
    blocks = same_blocks(pair[0][0].blocks, pair[1][0].blocks)
    keys = _names_of_keys(without, with_magnets, (pair[0][0], pair[1][0]), by)
    accounts: dict[str, Floats] = {}

    def add(name: str, index: int, group: int, amount: Floats) -> None:
        accounts.setdefault(name, np.zeros((2, len(blocks), len(queries))))[index, :, group] += amount

    for index, groups in enumerate(pair):
        for group, shares in enumerate(groups):
            for place, name in enumerate(keys[index]):
                add(name, index, group, shares.text[:, place])
            for name, amount in _image_accounts(shares, regions).items():
                add(name, index, group, amount)
    return blocks, accounts


def _names_of_keys(
    without: Recording, with_magnets: Recording, shares: tuple[QueryShares, QueryShares], by: By
) -> tuple[list[str], list[str]]:
    """The account of each text key, without magnets and with them."""
    first, second = (of.labels["kind"].tolist() for of in shares)
    if by == "kind":
        return first, second
    if by == "role":
        named = [roles(of.labels, r.layout) for of, r in zip(shares, (without, with_magnets), strict=True)]
        return named[0], named[1]
    if len(first) != len(second):
        raise _two_lengths(len(first), len(second))
    if by == "position":
        names = [f"text {place}" for place in range(len(first))]
    else:
        names = [one if one == other else f"{one} → {other}" for one, other in zip(first, second, strict=True)]
    return names, names


def _image_accounts(shares: QueryShares, regions: xr.DataArray | None) -> dict[str, Floats]:
    accounts: dict[str, Floats] = {}
    if shares.image.shape[1] and regions is None:
        accounts["image"] = shares.image.sum(axis=1)
    elif shares.image.shape[1] and regions is not None:
        parts = shares.image @ regions.values.reshape(len(REGIONS), -1).T
        accounts |= {name: parts[:, index] for index, name in enumerate(REGIONS)}
    if np.nansum(shares.other) > 0:
        accounts["other"] = shares.other
    return accounts


def _two_lengths(one: int, other: int) -> RecordingsDifferError:
    return RecordingsDifferError(
        f"The text has {one} tokens without magnets and {other} with them, so its positions do not correspond: put the "
        "account up by 'kind' or by 'role'."
    )
