"""From a network to the bytes of an ONNX graph: the same bytes for the same weights, as small as they go.

Weights that half precision holds exactly are stored in it and made float32 when the graph is loaded, which loses
nothing: the package's own files are in half precision. What the exporter writes down about its own run (places in
source files, times) is taken out.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

OPSET = 18
_LEAST = 64
"""Numbers. A smaller tensor is not worth a node that casts it."""


def onnx_graph(module: nn.Module, inputs: Sequence[Tensor], *, takes: Sequence[str], gives: Sequence[str]) -> bytes:
    """Write a network as an ONNX graph for pictures and sentences of one size.

    Args:
        module: with tensors alone as arguments and results.
        inputs: an example of each argument; its shape is fixed in the graph.
        takes: names of the arguments.
        gives: names of the results.

    Returns:
        The file's bytes.
    """
    with torch.no_grad(), _quiet():
        program: Any = torch.onnx.export(
            module.eval(), tuple(inputs), dynamo=True, opset_version=OPSET, verbose=False, optimize=True,
            input_names=list(takes), output_names=list(gives),
        )  # fmt: skip
    model = program.model_proto
    _forget_the_run(model)
    _merge_equal(model.graph)
    _halve(model.graph)
    written: bytes = model.SerializeToString(deterministic=True)
    return written


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks about its progress, and about operators that it does without."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _forget_the_run(model: Any) -> None:
    """Take out documentation and metadata, which name files of this machine."""
    graph = model.graph
    for holder in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        holder.ClearField("doc_string")
        holder.ClearField("metadata_props")
    for function in model.functions:
        for holder in (function, *function.node, *function.value_info):
            holder.ClearField("doc_string")
            holder.ClearField("metadata_props")
    del graph.value_info[:]


def _merge_equal(graph: Any) -> None:
    """Keep one of several equal weights: the positions stand in every block."""
    first: dict[tuple[Any, ...], str] = {}
    stands_for: dict[str, str] = {}
    kept = []
    for weight in graph.initializer:
        content = (weight.data_type, tuple(weight.dims), weight.raw_data or weight.SerializeToString())
        stands_for[weight.name] = first.setdefault(content, weight.name)
        if stands_for[weight.name] == weight.name:
            kept.append(weight)
    results = {result.name for result in graph.output}
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = stands_for.get(name, name)
    if constant := results & set(stands_for):
        raise ValueError(f"The results {sorted(constant)} of the graph are constants: export it from inputs they need.")
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _halve(graph: Any) -> None:
    """Store float32 weights in half precision where it holds every number of them exactly."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weight in graph.initializer:
        if weight.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size < _LEAST or not np.array_equal(half.astype(np.float32), values):
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
