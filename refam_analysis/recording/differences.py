"""In what two runs differ, by what their recordings say of them: whether a store may be completed by this run."""

from __future__ import annotations

import json
from typing import Any

import xarray as xr

_MAY_DIFFER = ("kernels", "complete_blocks")
"""Attributes that are known only when a run is over."""

_MAY_BE_UNKNOWN = {"weights_fingerprint": "the weights of the model"}
"""Attributes that tell runs apart only where both have them, and what they are called."""


def differences(expected: xr.Dataset, found: xr.Dataset) -> list[str]:
    """In what a stored run is another one, each with what is there and what would be written."""
    there, now = _facts(found), _facts(expected)
    unknown = {name for name in _MAY_BE_UNKNOWN if found.attrs.get(name) is None or expected.attrs.get(name) is None}
    names = sorted(name for name in {*there, *now} - unknown if there.get(name) != now.get(name))
    return [_MAY_BE_UNKNOWN.get(name) or compared(name, there.get(name), now.get(name)) for name in names]


def compared(name: str, there: object, now: object) -> str:
    """One difference for a reader; of what is long, the name alone.

    >>> compared("seed", 0, 1)
    'seed (0 there, 1 now)'
    """
    shown = f"{there} there, {now} now"
    return f"{name} ({shown})" if len(shown) <= 120 else name


def _facts(dataset: xr.Dataset) -> dict[str, str]:
    """Attributes, quantities and axes as JSON, where nan is like nan."""
    facts: dict[str, Any] = {name: value for name, value in dataset.attrs.items() if name not in _MAY_DIFFER}
    facts |= {
        name: dataset[name].values.tolist() for name in ("noise_level", "block", "head") if name in dataset.coords
    }
    facts["keep"] = sorted(str(name) for name in dataset.data_vars)
    facts["dtype"] = sorted({str(array.dtype) for array in dataset.data_vars.values()})
    facts["shape"] = {str(name): array.shape for name, array in dataset.data_vars.items()}
    return {name: json.dumps(value, sort_keys=True) for name, value in facts.items()}
