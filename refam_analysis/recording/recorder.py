"""The Recorder: what listens while a transformer runs, and turns its attention into recordings.

Hooks on a transformer and its blocks say which block is running; a function mode of this thread sees the attention
calls. Both are there between entering and leaving the ``with`` statement, and only there: nothing of a class or a
module is replaced. It knows no model family and no pipeline; `record` composes it with those.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, get_args

import torch
from torch import nn

from refam_analysis.errors import RefamError
from refam_analysis.models.blocks import MAIN, Block, Stack, find_blocks
from refam_analysis.models.layout import Role, TokenLayout
from refam_analysis.models.registry import family_of
from refam_analysis.prompts.tokens import Token
from refam_analysis.recording.assembly import arrange, assemble
from refam_analysis.recording.attention_calls import OUTSIDE_GRAPHS, AttentionCall, AttentionMode, Plain
from refam_analysis.recording.interventions import Intervention
from refam_analysis.recording.kernels import choose_kernel
from refam_analysis.recording.passes import BatchChangedError, Pass
from refam_analysis.recording.plans import BranchOrder, Heads, Plan, StepSink, batch_size, make_plan
from refam_analysis.recording.recording import Recording

_ENTERING = threading.Lock()
"""Held while a recorder looks whether its model has another one, and puts its hooks there."""


class _Running(threading.local):
    """The recorders whose transformers are running in this thread, the innermost last: only that one listens."""

    def __init__(self) -> None:
        self.recorders: list[Recorder] = []

    def drop(self, recorder: Recorder) -> None:
        self.recorders = [other for other in self.recorders if other is not recorder]


_RUNNING = _Running()


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
    """A hook of the transformer, by which a second recorder finds the first."""

    def __init__(self, recorder: Recorder, method: Callable[..., None]) -> None:
        self.recorder = recorder
        self._method = method

    @torch.compiler.disable(reason=OUTSIDE_GRAPHS)
    def __call__(self, module: nn.Module, *given: Any) -> None:
        self._method(*given)


class _BlockHook:
    """A hook of a block."""

    def __init__(self, method: Callable[[Block], None], block: Block) -> None:
        self._method, self._block = method, block

    @torch.compiler.disable(reason=OUTSIDE_GRAPHS)
    def __call__(self, module: nn.Module, *_: Any) -> None:
        self._method(self._block)


class Recorder:
    """Record the attention of a diffusers transformer while a ``with`` statement lasts.

    Every forward pass of the transformer in it becomes one step. The transformer's output is what it is without a
    recorder, bit for bit.

    Args:
        transformer: the bare transformer; its blocks are found by the rule in `models.blocks`. Several of one build
            where they take turns in forward passes, as the two of Wan 2.2 A14B do.
        layout: where text and image tokens stand in the sequence: one for all items of a batch, or a list of one an
            item where they differ (Mochi drops the padding of each prompt).
        keep: names of quantities, see :class:`Recording`; by default the text-image directions, entropy, and received
            mass, as far as the model has them.
        blocks: numbers of the blocks to keep; all by default.
        heads: "each", "mean" for the mean of each quantity over heads, or the numbers of some heads.
        queries: positions in the sequence of the queries to keep; all by default. Received mass and evenness are then
            those over these queries.
        dtype: of what is kept, torch.float32 or torch.float16. Sums are always taken in float32.
        branches: what the batch consists of, in order, where guidance runs several branches.
        branch_order: "batch" where each pass has all branches in one batch, one behind the other; "passes" where they
            take turns in passes of their own.
        calls: the attention calls of every block, in order, for a model of a family that is not known here and that
            makes others than its layout's attention says: of "joint", "image", "text" and "other".
        stack: "main", or a refiner that runs before it over one side alone, with the layout of the main stack all the
            same: "context_refiner" over the text (Z-Image, Lumina 2, HunyuanVideo), "noise_refiner" over the image
            (the first two).
        intervention: what is done to chosen keys, see :class:`Intervention`; then the output is what that makes of it.
        sink: where finished blocks go instead of staying in memory, such as a :class:`RecordingStore`.
        before: called with the plan and the first attention call that is kept, before anything of it is; what it raises
            ends the pass.

    Raises:
        UnknownQuantityError, QuantityMissingError, UnknownBlockError, UnknownStackError, NoBlocksError,
            BlockCountError, LayoutError: the arguments do not fit, or the model lacks what `keep` names; the message
            says why.
        RefamError: any other argument means nothing, such as an unknown ``heads``, ``dtype`` or ``branch_order``.
        InterventionError: the intervention does not fit the layout, or not how the model runs.

    Not thread-safe: one model is recorded by one recorder, in the thread that entered it. Recorders of several models
    do not see each other, also where one model runs inside a block of another.
    """

    def __init__(
        self,
        transformer: nn.Module | Sequence[nn.Module],
        layout: TokenLayout | Sequence[TokenLayout],
        keep: Iterable[str] | None = None,
        *,
        blocks: Iterable[int] | None = None,
        heads: Heads = "each",
        queries: Iterable[int] | None = None,
        dtype: torch.dtype = torch.float32,
        branches: Sequence[str] = ("conditional",),
        branch_order: BranchOrder = "batch",
        calls: Sequence[Role] | None = None,
        stack: Stack = MAIN,
        intervention: Intervention | None = None,
        sink: StepSink | None = None,
        before: Callable[[Plan, AttentionCall], None] | None = None,
    ) -> None:
        if dtype not in (torch.float32, torch.float16):
            raise RefamError(f"Attention cannot be kept in {dtype}. Choose torch.float32 or torch.float16.")
        self._transformers = (transformer,) if isinstance(transformer, nn.Module) else tuple(transformer)
        self._family = family_of(self._transformers[0])
        layouts = (layout,) if isinstance(layout, TokenLayout) else tuple(layout)
        self._plan, self._absent = make_plan(
            self._transformers[0], self._family, layouts, keep,
            blocks=blocks, heads=heads, queries=queries, dtype=dtype, calls=calls, stack=stack,
        )  # fmt: skip
        self._stack = stack
        self._blocks = [find_blocks(transformer, stack) for transformer in self._transformers]
        if len({tuple(block.path for block in blocks) for blocks in self._blocks}) > 1:
            raise RefamError("The transformers differ in their blocks, so they cannot take turns in one recording.")
        if not branches or branch_order not in get_args(BranchOrder):
            raise RefamError(
                f"branches={tuple(branches)}, branch_order={branch_order!r}: name at least one branch, and choose the "
                f"order from {', '.join(map(repr, get_args(BranchOrder)))}."
            )
        self._branches, self._branch_order = tuple(branches), branch_order
        if intervention is not None:
            intervention.check(self._plan.layouts, self._plan.blocks, one_call_an_item=self._plan.one_call_an_item)
        self._intervention = intervention
        self._sink, self._before = sink, before
        self._thread = 0
        self._exit = ExitStack()
        self._pass: Pass | None = None
        self._done: list[Pass] = []
        self._kernels: set[str] = set()

    def __enter__(self) -> Recorder:
        """Start to listen.

        Raises:
            RecorderBusyError: the model has a recorder already.
            OtherRunError, StoreSpaceError and others: what the sink says.
        """
        self._thread = threading.get_ident()
        self._done, self._pass, self._kernels = [], None, set()
        if self._sink is not None:
            self._sink.begin(self._plan, self._branches, self._branch_order, {"model": self._name, **self.description})
        with ExitStack() as stack:
            with _ENTERING:
                for transformer, blocks in zip(self._transformers, self._blocks, strict=True):
                    if any(isinstance(hook, _Hook) for hook in transformer._forward_pre_hooks.values()):
                        raise RecorderBusyError(self._name)
                    self._put_hooks(stack, transformer, blocks)
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
        _RUNNING.drop(self)
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
            noise_levels: one a step; unknown (nan) by default.
            tokens: for each item the tokens of its text segment; unknown by default.
            attributes: for each item what else describes it, plain enough for JSON.

        Raises:
            NothingRecordedError: no forward pass was complete.
            BranchesError: the batch, or the number of passes, does not divide into the branches.
            RefamError: not as many entries as steps or items; or any at all, where a sink keeps the recording.
        """
        if not self._done:
            raise NothingRecordedError(
                f"No forward pass of this {self._name} was recorded. Call the model itself, not its forward method, "
                "inside the with statement and in the same thread."
            )
        if self._sink is not None:
            if noise_levels is not None or tokens is not None or attributes is not None:
                raise RefamError("What describes a recording on disk is given to its store, before it is made.")
            return [self._sink.recording(sorted(self._kernels))]
        arranged = arrange(self._done, self._branches, self._branch_order)
        items, steps = len(arranged), len(arranged[0])
        levels = [float("nan")] * steps if noise_levels is None else list(noise_levels)
        tokens = [()] * items if tokens is None else tokens
        attributes = [{}] * items if attributes is None else attributes
        each: tuple[tuple[str, Sequence[object], int], ...] = (
            ("noise_levels", levels, steps), ("tokens", tokens, items), ("attributes", attributes, items),
        )  # fmt: skip
        for name, given, expected in each:
            if len(given) != expected:
                raise RefamError(f"{name} has {len(given)} entries, but {expected} are needed.")
        described = {"model": self._name, **self.description, "kernels": sorted(self._kernels)}
        heads = self._plan.kept_heads(self._done[0].batch[1])
        return [
            assemble(
                self._plan, places, tokens[item], {**described, **attributes[item]},
                branches=self._branches, levels=levels, heads=heads,
            )
            for item, places in enumerate(arranged)
        ]  # fmt: skip

    @property
    def description(self) -> dict[str, Any]:
        """What is true of every recording: the stack, what it lacks and why, remarks on it, the intervention."""
        described: dict[str, Any] = {"stack": self._stack, "absent": self._absent}
        if self._family is not None and self._family.remarks:
            described["remarks"] = list(self._family.remarks)
        if self._intervention is not None:
            fields = dataclasses.asdict(self._intervention)
            described["intervention"] = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
        return described

    @property
    def plan(self) -> Plan:
        """What is kept of every pass, and what is expected of it."""
        return self._plan

    @property
    def _name(self) -> str:
        return type(self._transformers[0]).__name__

    def _put_hooks(self, stack: ExitStack, transformer: nn.Module, blocks: Sequence[Block]) -> None:
        before, after = transformer.register_forward_pre_hook, transformer.register_forward_hook
        stack.callback(before(_Hook(self, self._start), with_kwargs=True).remove)
        stack.callback(after(_Hook(self, self._finish)).remove)
        for block, planned in zip(blocks, self._plan.blocks, strict=True):
            stack.callback(block.module.register_forward_pre_hook(_BlockHook(self._enter, planned)).remove)
            stack.callback(block.module.register_forward_hook(_BlockHook(self._leave, planned)).remove)

    def _start(self, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        if threading.get_ident() != self._thread:
            raise OtherThreadError(self._name)
        if self._intervention is not None:
            for transformer in self._transformers:
                self._intervention.check_gradient(transformer)
        batch = batch_size(arguments, named) if self._family is not None else None
        sink = None if self._sink is None else self._sink.step(len(self._done))
        self._pass = Pass(self._plan, batch, sink)
        _RUNNING.drop(self)
        _RUNNING.recorders.append(self)

    def _finish(self, *_: Any) -> None:
        done, self._pass = self._pass, None
        _RUNNING.drop(self)
        if done is None:
            return
        done.close()
        if self._done and done.batch != self._done[0].batch:
            raise BatchChangedError(self._plan.blocks[0], done.batch, self._done[0].batch)
        self._done.append(done)

    def _enter(self, block: Block) -> None:
        if self._pass is not None:
            self._pass.enter_block(block)

    def _leave(self, block: Block) -> None:
        if self._pass is not None:
            self._pass.leave_block(block)

    def _is_listening(self) -> bool:
        return self._pass is not None and self._pass.running is not None and _RUNNING.recorders[-1:] == [self]

    def _answer(self, call: AttentionCall, plain: Plain) -> torch.Tensor:
        """Decide the output of an attention call of a running block: the model's own, or the intervention's."""
        assert self._pass is not None and self._pass.running is not None
        block = self._pass.running
        role, layout = self._pass.count(block, call)
        intervened = self._intervention is not None and role != "other" and self._intervention.changes(block.index)
        kept, wanted = self._pass.keeps(block, role), self._pass.wants(block, role)
        if wanted and self._before is not None:
            before, self._before = self._before, None
            before(self._plan, call)
        if self._intervention is not None and intervened:
            call, attended, kernel = self._intervention.attend(call, plain, layout, role)
        elif wanted:
            chosen = choose_kernel(call)
            kernel, attended = chosen.name, chosen.attend(call, plain)
        else:
            if kept:
                self._kernels.add(choose_kernel(call).name)
            return plain()
        if kept:
            self._kernels.add(kernel)
        if wanted:
            self._pass.keep_attention(block, call, attended.lse)
        return attended.output
