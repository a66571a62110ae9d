"""The Recorder: what listens while a transformer runs, and turns its attention into recordings.

Hooks on one transformer and its blocks say which block is running; a function mode of this thread sees the attention
calls. Both are there between entering and leaving the ``with`` statement, and only there: nothing of a class or a
module is replaced. It knows no model family and no pipeline; `record` composes it with those.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Literal

import torch
import xarray as xr
from torch import nn

from refam_analysis.errors import RefamError
from refam_analysis.models.layout import TokenLayout
from refam_analysis.prompts.tokens import Token
from refam_analysis.recording.attention_calls import AttentionCall, AttentionMode, Plain
from refam_analysis.recording.blocks import Block, choose_blocks, find_blocks
from refam_analysis.recording.kernels import choose_kernel
from refam_analysis.recording.labels import build_dataset, make_axes
from refam_analysis.recording.passes import BatchChangedError, Pass
from refam_analysis.recording.quantities import DEFAULT_KEEP, check_names
from refam_analysis.recording.recording import Recording

Heads = Literal["each", "mean"]

_ENTERING = threading.Lock()
"""Held while a recorder looks whether its model has another one, and puts its hooks there."""


class RecorderBusyError(RefamError, RuntimeError):
    """The model is being recorded already."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"This {name} is being recorded already. Leave the other Recorder's with statement first, or, in a "
            "service, put a lock around the model."
        )


class OtherThreadError(RefamError, RuntimeError):
    """The model ran in another thread than its recorder."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"This {name} is being recorded in another thread, which cannot see the attention of a forward pass of "
            "this one. Enter the Recorder in the thread that runs the model."
        )


class NothingRecordedError(RefamError, RuntimeError):
    """No forward pass was recorded."""


class NotOneRecordingError(RefamError, ValueError):
    """One recording was asked for, and there are several."""


class _Hook:
    """A hook that knows its recorder, by which a second recorder finds the first."""

    def __init__(self, recorder: Recorder, method: Any, *context: Any) -> None:
        self.recorder = recorder
        self._method, self._context = method, context

    def __call__(self, module: nn.Module, *_: Any) -> None:
        self._method(*self._context)


class Recorder:
    """Record the attention of a diffusers transformer while a ``with`` statement lasts.

    Every forward pass of the transformer in it becomes one step. The transformer's output is what it is without a
    recorder, bit for bit.

    Args:
        transformer: the bare transformer; its blocks are found by the rule in `recording.blocks`.
        layout: where text and image tokens stand in the sequence.
        keep: names of quantities, see :class:`Recording`; by default the two text-image directions, entropy, and
            received mass.
        blocks: numbers of the blocks to keep; all by default.
        heads: "each", or "mean" for the mean of each quantity over heads.
        dtype: of what is kept, torch.float32 or torch.float16. Sums are always taken in float32.

    Raises:
        UnknownQuantityError, UnknownBlockError, NoBlocksError, BlockCountError: the arguments do not fit.

    Not thread-safe: one model is recorded by one recorder, in the thread that entered it.
    """

    def __init__(
        self,
        transformer: nn.Module,
        layout: TokenLayout,
        keep: Iterable[str] | None = None,
        *,
        blocks: Iterable[int] | None = None,
        heads: Heads = "each",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if heads not in ("each", "mean"):
            raise RefamError(f"heads is {heads!r}. Choose 'each' or 'mean'.")
        if dtype not in (torch.float32, torch.float16):
            raise RefamError(f"Attention cannot be kept in {dtype}. Choose torch.float32 or torch.float16.")
        self._transformer = transformer
        self._layout = layout
        self._keep = check_names(DEFAULT_KEEP if keep is None else keep)
        self._blocks = find_blocks(transformer)
        self._recorded = choose_blocks(self._blocks, blocks)
        self._heads: Heads = heads
        self._dtype = dtype
        self._thread = 0
        self._exit = ExitStack()
        self._pass: Pass | None = None
        self._done: list[Pass] = []
        self._kernels: set[str] = set()

    def __enter__(self) -> Recorder:
        """Start to listen.

        Raises:
            RecorderBusyError: the model has a recorder already.
        """
        self._thread = threading.get_ident()
        self._done, self._pass, self._kernels = [], None, set()
        with ExitStack() as stack:
            with _ENTERING:
                if any(isinstance(hook, _Hook) for hook in self._transformer._forward_pre_hooks.values()):
                    raise RecorderBusyError(self._name)
                self._put_hooks(stack)
            stack.enter_context(AttentionMode(self._answer, self._is_listening))
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pass = None
        self._exit.close()

    def recording(self, **described: Any) -> Recording:
        """The recording of a batch of one. Arguments as for :meth:`recordings`.

        Raises:
            NothingRecordedError: no forward pass was complete.
            NotOneRecordingError: the batch had several items.
        """
        recordings = self.recordings(**described)
        if len(recordings) != 1:
            raise NotOneRecordingError(f"The batch had {len(recordings)} items. Use recorder.recordings().")
        return recordings[0]

    def recordings(
        self,
        *,
        noise_levels: Sequence[float] | None = None,
        tokens: Sequence[Sequence[Token]] | None = None,
        attributes: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Recording]:
        """One recording an item of the batch, with a step for every forward pass.

        Args:
            noise_levels: one a forward pass; unknown (nan) by default.
            tokens: for each item the tokens of its text segment; unknown by default.
            attributes: for each item what else describes it, plain enough for JSON.

        Raises:
            NothingRecordedError: no forward pass was complete.
        """
        if not self._done:
            raise NothingRecordedError(
                f"No forward pass of this {self._name} was recorded. Call the model itself, not its forward method, "
                "inside the with statement and in the same thread."
            )
        items, steps = self._done[0].batch[0], len(self._done)
        levels = [float("nan")] * steps if noise_levels is None else list(noise_levels)
        tokens = [()] * items if tokens is None else tokens
        attributes = [{}] * items if attributes is None else attributes
        for name, given, expected in (("noise_levels", levels, steps), ("tokens", tokens, items)):
            if len(given) != expected:
                raise RefamError(f"{name} has {len(given)} entries, but {expected} are needed.")
        axes = make_axes(
            self._keep,
            self._layout,
            blocks=[block.index for block in self._recorded],
            branches=("conditional",),
            noise_levels=levels,
            heads=range(self._done[0].batch[1]) if self._heads == "each" else None,
        )
        return [
            self._recording(item, axes, tokens[item], {"model": self._name, **attributes[item]})
            for item in range(items)
        ]

    def _recording(
        self, item: int, axes: xr.Coordinates, tokens: Sequence[Token], attributes: Mapping[str, Any]
    ) -> Recording:
        parts = {name: [done.results[name][item] for done in self._done] for name in self._keep}
        arrays = {name: (steps[0][None] if len(steps) == 1 else torch.stack(steps)) for name, steps in parts.items()}
        dataset = build_dataset(
            {name: values.numpy() for name, values in arrays.items()},
            axes,
            self._layout,
            tokens=tokens,
            block_types={block.index: block.type for block in self._recorded},
            attributes={**attributes, "kernels": sorted(self._kernels)},
        )
        return Recording(dataset)

    @property
    def _name(self) -> str:
        return type(self._transformer).__name__

    def _put_hooks(self, stack: ExitStack) -> None:
        before, after = self._transformer.register_forward_pre_hook, self._transformer.register_forward_hook
        stack.callback(before(_Hook(self, self._start)).remove)
        stack.callback(after(_Hook(self, self._finish)).remove)
        for block in self._blocks:
            stack.callback(block.module.register_forward_pre_hook(_Hook(self, self._enter, block)).remove)
            stack.callback(block.module.register_forward_hook(_Hook(self, self._leave, block)).remove)

    def _start(self) -> None:
        if threading.get_ident() != self._thread:
            raise OtherThreadError(self._name)
        sides = {"text": self._layout.text, "image": self._layout.image, "all": slice(0, self._layout.length)}
        self._pass = Pass(
            self._blocks,
            self._recorded,
            keep=self._keep,
            queries=sides,
            keys=sides,
            mean_over_heads=self._heads == "mean",
            dtype=self._dtype,
        )

    def _finish(self) -> None:
        done, self._pass = self._pass, None
        if done is None:
            return
        done.close()
        if self._done and done.batch != self._done[0].batch:
            raise BatchChangedError(self._blocks[0], done.batch, self._done[0].batch)
        self._done.append(done)

    def _enter(self, block: Block) -> None:
        if self._pass is not None:
            self._pass.enter_block(block)

    def _leave(self, block: Block) -> None:
        if self._pass is not None:
            self._pass.leave_block(block)

    def _is_listening(self) -> bool:
        return self._pass is not None and self._pass.running is not None

    def _answer(self, call: AttentionCall, plain: Plain) -> torch.Tensor:
        """Decide the output of an attention call of a running block: always the model's own."""
        assert self._pass is not None and self._pass.running is not None
        block = self._pass.running
        self._pass.count(block, call)
        if not self._pass.wants(block):
            return plain()
        kernel = choose_kernel(call)
        self._kernels.add(kernel.name)
        attended = kernel.attend(call, plain)
        self._pass.keep_attention(block, call, attended.lse)
        return attended.output
