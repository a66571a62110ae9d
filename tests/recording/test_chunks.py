"""Chunks cover every row of every head of every item once, whole heads where asked, and stay within their size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from refam_analysis.recording import chunks
from refam_analysis.recording.chunks import Workspace, plan_chunks


@given(
    items=st.integers(1, 5),
    heads=st.integers(1, 5),
    first=st.integers(0, 3),
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    budget=st.integers(1, 3000),
    whole_heads=st.booleans(),
)
def test_chunks_tile_the_attention(
    items: int, heads: int, first: int, height: int, width: int, budget: int, whole_heads: bool
) -> None:
    visited = torch.zeros(items, heads, first + height, dtype=torch.int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(chunks.CHUNK_BYTES, "cpu", 4 * budget)
        plan = plan_chunks(
            items, heads, slice(first, first + height), slice(2, 2 + width),
            device=torch.device("cpu"), whole_heads=whole_heads,
        )  # fmt: skip
        for chunk in plan:
            visited[chunk.index] += 1
            item_count, head_count, rows, columns = chunk.shape
            assert item_count * head_count * rows * columns <= max(budget, (heads if whole_heads else 1) * width)
            assert columns == width
            assert head_count == heads or (item_count == 1 and not whole_heads)
    assert (visited[..., first:] == 1).all() and (visited[..., :first] == 0).all()


def test_a_workspace_gives_the_same_memory_again() -> None:
    workspace, like = Workspace(), torch.zeros(1)
    first = workspace.take("scores", (4, 5), like)
    second = workspace.take("scores", (2, 3), like)
    assert second.data_ptr() == first.data_ptr() and second.shape == (2, 3)
    assert workspace.take("other", (2, 3), like).data_ptr() != first.data_ptr()
    assert workspace.take("scores", (2, 3), like.double()).dtype == torch.float64
