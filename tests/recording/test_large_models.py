"""The page on large models: its own code, run on small models of the same classes, and its arithmetic.

The blocks of code are taken from the page; only what this machine does not have is replaced: the released weights by
random ones in a folder, the GPU by the CPU, the picture by one that is drawn here. Where several GPUs are needed,
tensors take part that know their device and hold no numbers. Offloading as such is tested in `test_environments`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from inspect import cleandoc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload, dispatch_model, infer_auto_device_map
from accelerate.utils import compute_module_sizes
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
from families.flux import build
from PIL import Image
from references.recordings import check_recording
from references.watch import Watch
from torch import nn
from torch._subclasses import FakeTensorMode
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

import refam_analysis as ra
from refam_analysis.models import DiffusionModel, TokenLayout
from refam_analysis.recording.attention_calls import AttentionCall
from refam_analysis.recording.sizes import held_bytes, working_bytes

PAGE = (Path(__file__).parents[2] / "book" / "large-models.md").read_text(encoding="utf-8")
PROSE = " ".join(PAGE.split())
MODEL, PICTURE = '"black-forest-labs/FLUX.1-dev"', '"photo.jpg"'
WHOLE_PARTS = "One GPU: offloading whole parts"
BY_LAYER = "One GPU: offloading layer by layer"
QUANTISED = "One GPU: a quantised transformer"
SEVERAL = "Several GPUs"
NOT_INSTALLED = "needs the extra `quantised`, which `make` does not install"
Plain = Callable[..., torch.Tensor]

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens where there is no GPU")


def blocks_below(heading: str) -> list[str]:
    """The blocks of code in a section of the page."""
    (section,) = [part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE) if part.startswith(f"{heading}\n")]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What stands on the page, and what stands for it here: a small FLUX with random weights, a picture, the CPU."""
    folder = tmp_path_factory.mktemp("large")
    build().save_pretrained(folder / "flux")
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    return {
        MODEL: repr(str(folder / "flux")),
        PICTURE: repr(str(folder / "photo.png")),
        "size=(512, 512)": "size=(32, 40)",
        "_cpu_offload()": '_cpu_offload(device="cpu")',
        '"cuda"': '"cpu"',
    }


def run(heading: str, here: Mapping[str, str], number: int = 0, **given: Any) -> dict[str, Any]:
    """Run a block of code of the page, and give what it has defined."""
    code, defined = blocks_below(heading)[number], dict(given)
    for there, replacement in here.items():
        code = code.replace(there, replacement)
    exec(compile(code, f"large-models.md: {heading}", "exec"), defined)
    return defined


@pytest.fixture(scope="module")
def plain(here: dict[str, str]) -> ra.Recording:
    """The page's recording of the model as it is, in bfloat16."""
    model = ra.load_model(here[MODEL].strip("'"), dtype=torch.bfloat16)
    return ra.record(model, here[PICTURE].strip("'"), "the dog on the left", size=(32, 40), heads="mean")


def largest_difference(one: ra.Recording, other: ra.Recording) -> float:
    assert one.kept == other.kept
    return max(float(np.abs(one[name].values - other[name].values).max()) for name in one)


def check_against_softmax(model: DiffusionModel, plain_attention: Plain) -> None:
    """Every block's record is the softmax of the queries and keys that this very model had."""
    latents = model.encode_images([np.full((32, 40, 3), 90, np.uint8)], size=(32, 40))
    inputs = model.forward_inputs(latents, model.encode_prompts([ra.make_prompt("a dog")]), noise_level=0.6, seeds=[0])
    with torch.no_grad():
        check_recording(model.transformer, model.transformer, inputs.layout, dict(inputs.kwargs), plain_attention)


# --- one GPU -------------------------------------------------------------------------------------------------------


def test_whole_parts_are_offloaded(here: dict[str, str], plain: ra.Recording, plain_attention: Plain) -> None:
    ran = run(WHOLE_PARTS, here)
    assert all(hasattr(part, "_hf_hook") for part in ran["pipeline"].components.values() if isinstance(part, nn.Module))
    assert largest_difference(ran["recording"], plain) == 0.0
    check_against_softmax(ran["model"], plain_attention)
    ran["pipeline"].maybe_free_model_hooks()
    assert largest_difference(ra.record(ran["model"], here[PICTURE].strip("'"), "the dog on the left", size=(32, 40),
                                        heads="mean"), plain) == 0.0  # fmt: skip


def offload_by_layer(pipeline: FluxPipeline) -> None:
    """As ``enable_sequential_cpu_offload`` does it, but for the index of the GPU, which a CPU cannot have."""
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            cpu_offload(part, torch.device("cpu"), offload_buffers=len(part._parameters) > 0)


def test_layers_are_offloaded(here: dict[str, str], plain: ra.Recording, plain_attention: Plain) -> None:
    by_layer = {"pipeline.enable_sequential_cpu_offload()": "offload_by_layer(pipeline)"}
    ran = run(BY_LAYER, by_layer | here, offload_by_layer=offload_by_layer)
    assert {weights.device.type for weights in ran["pipeline"].transformer.parameters()} == {"meta"}
    assert largest_difference(ran["recording"], plain) == 0.0
    check_against_softmax(ran["model"], plain_attention)


def test_torchao_quantises(here: dict[str, str], plain: ra.Recording, plain_attention: Plain) -> None:
    pytest.importorskip("torchao", reason=NOT_INSTALLED)
    ran = run(QUANTISED, here, 0)
    layer = ran["pipeline"].transformer.transformer_blocks[0].attn.to_q
    assert layer.weight.qdata.dtype == torch.int8
    assert 0.0 < largest_difference(ran["recording"], plain)
    check_against_softmax(ran["model"], plain_attention)


@no_gpu
def test_bitsandbytes_needs_a_gpu_to_quantise(here: dict[str, str]) -> None:
    pytest.importorskip("bitsandbytes", reason=NOT_INSTALLED)
    with pytest.raises(RuntimeError, match="A GPU is needed for quantization"):
        run(QUANTISED, here, 1)


@pytest.mark.parametrize(("kind", "dtype"), [("nf4", torch.uint8), ("int8", torch.int8)], ids=["nf4", "int8"])
def test_layers_of_bitsandbytes_are_recorded(
    here: dict[str, str], plain: ra.Recording, plain_attention: Plain, kind: str, dtype: torch.dtype
) -> None:
    layers = pytest.importorskip("bitsandbytes", reason=NOT_INSTALLED).nn
    pipeline = FluxPipeline.from_pretrained(here[MODEL].strip("'"), dtype=torch.bfloat16)
    makers = {
        "nf4": partial(layers.Linear4bit, compute_dtype=torch.bfloat16, quant_type="nf4"),
        "int8": partial(layers.Linear8bitLt, has_fp16_weights=False),
    }
    for path, linear in list(pipeline.transformer.named_modules()):
        if isinstance(linear, nn.Linear):
            quantised = makers[kind](linear.in_features, linear.out_features)
            quantised.load_state_dict(linear.state_dict())
            quantised.bias = linear.bias
            pipeline.transformer.set_submodule(path, quantised.to("cpu"))
    assert pipeline.transformer.transformer_blocks[0].attn.to_q.weight.dtype == dtype
    model = ra.load_model(pipeline)
    assert model.dtype == torch.bfloat16
    recording = ra.record(model, here[PICTURE].strip("'"), "the dog on the left", size=(32, 40), heads="mean")
    assert 0.0 < largest_difference(recording, plain)
    check_against_softmax(model, plain_attention)


# --- several GPUs --------------------------------------------------------------------------------------------------


@no_gpu
def test_balanced_parts_give_the_same_recording(here: dict[str, str], plain: ra.Recording) -> None:
    assert largest_difference(run(SEVERAL, here, 0)["recording"], plain) == 0.0


def test_the_split_of_the_page_is_between_blocks_and_uses_both_gpus() -> None:
    (limits,) = re.findall(r"max_memory=(\{.*?\})", PAGE)
    (whole,) = re.findall(r"no_split_module_classes=(\[.*?\])", PAGE)
    transformer = flux_transformer().to(torch.bfloat16)
    places = infer_auto_device_map(transformer, max_memory=eval(limits), no_split_module_classes=eval(whole))
    assert set(places.values()) == {0, 1}
    assert all(re.fullmatch(r"(single_)?transformer_blocks(\.\d+)?|[a-z_]+", path) for path in places)
    sizes = compute_module_sizes(transformer)
    first, second = (sum(sizes[path] for path, place in places.items() if place == gpu) / 1e9 for gpu in (0, 1))
    assert f"put {first:.1f} GB of the transformer on the first GPU and {second:.1f} GB on the second" in PROSE


SPLIT = {
    "pos_embed": 0, "time_text_embed": 0, "context_embedder": 0, "x_embedder": 0, "transformer_blocks.0": 0,
    "transformer_blocks.1": 1, "single_transformer_blocks": 1, "norm_out": 1, "proj_out": 1,
}  # fmt: skip
BALANCED = {"transformer": 0, "text_encoder_2": 1, "text_encoder": 1, "vae": 1}


def put(module: nn.Module, device_of: Callable[[str], str]) -> None:
    """Give every tensor of a module its device, without numbers."""
    for path, part in module.named_modules():
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device=device_of(f"{path}.{name}"))
                    tensors[name] = nn.Parameter(empty, requires_grad=False) if tensors is part._parameters else empty


def split_over_two(pipeline: FluxPipeline) -> None:
    """As the page's last block: the transformer split between blocks, the other parts on the second GPU."""
    put(pipeline.transformer, lambda path: f"cuda:{next(gpu for part, gpu in SPLIT.items() if path.startswith(part))}")
    for part in (pipeline.text_encoder, pipeline.text_encoder_2, pipeline.vae):
        put(part, lambda path: "cuda:1")
    dispatch_model(pipeline.transformer, SPLIT)


def balanced_over_two(pipeline: FluxPipeline) -> None:
    """As diffusers loads a pipeline by ``device_map="balanced"`` where there are two GPUs."""
    for name, gpu in BALANCED.items():
        part = getattr(pipeline, name)
        put(part, lambda path, gpu=gpu: f"cuda:{gpu}")
        dispatch_model(part, {"": gpu}, force_hooks=True)


class AllThere:
    """A sink that has every block already, so that nothing is computed from numbers that are not there."""

    def begin(self, *_: object) -> None:
        """Nothing to prepare."""

    def step(self, number: int) -> AllThere:
        return self

    def has(self, place: int) -> bool:
        return True


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize(
    ("place", "expected"),
    [(split_over_two, [0, 1, 1, 1]), (balanced_over_two, [0, 0, 0, 0])],
    ids=["split", "balanced"],
)
@torch.no_grad()
def test_every_block_attends_on_its_own_gpu(place: Callable[[FluxPipeline], None], expected: list[int]) -> None:
    """The tensors know their device and hold no numbers; an operation on two devices at once is refused."""
    pipeline = build()
    with FakeTensorMode(allow_non_fake_inputs=True):
        place(pipeline)
        model = ra.load_model(pipeline)
        latents = model.encode_images([np.zeros((32, 40, 3), np.uint8)], size=(32, 40))
        prompts = model.encode_prompts([ra.make_prompt("a dog")])
        inputs = model.forward_inputs(latents, prompts, noise_level=0.6, seeds=[0])
        with ra.Recorder(model.transformer, inputs.layout, sink=AllThere()), Watch() as watch:
            output = model.transformer(**inputs.kwargs)[0]
    assert [operands["query"].device.index for operands, _ in watch.calls] == expected
    assert latents.device == output.device == model.device


# --- arithmetic ----------------------------------------------------------------------------------------------------


def flux_transformer() -> FluxTransformer2DModel:
    """FLUX.1-dev's, whose sizes are the class's defaults; without weights."""
    with torch.device("meta"):
        return FluxTransformer2DModel(guidance_embeds=True)


def t5_xxl() -> T5EncoderModel:
    config = T5Config(vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
                      feed_forward_proj="gated-gelu")  # fmt: skip
    with torch.device("meta"):
        return T5EncoderModel(config)


def clip_large() -> CLIPTextModel:
    config = CLIPTextConfig(vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                            num_attention_heads=12)  # fmt: skip
    with torch.device("meta"):
        return CLIPTextModel(config)


def autoencoder() -> AutoencoderKL:
    with torch.device("meta"):
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=16,
            use_quant_conv=False, use_post_quant_conv=False,
        )  # fmt: skip


def parameters(module: nn.Module) -> int:
    return sum(weights.numel() for weights in module.parameters())


@pytest.mark.parametrize("make", [flux_transformer, t5_xxl, clip_large, autoencoder], ids=lambda make: make.__name__)
def test_parts_have_the_parameters_that_the_page_says(make: Callable[[], nn.Module]) -> None:
    number = parameters(make())
    assert f"| {number:,} | {2 * number / 1e9:.2f} GB |" in PAGE


def test_weights_of_fewer_bits_take_what_the_page_says() -> None:
    number, others = parameters(flux_transformer()), sum(map(parameters, (t5_xxl(), clip_large(), autoencoder())))
    for name, bits in (("8 bits", 8), ("NF4", 4.5)):
        size = number * bits / 8
        assert f"| {name} | {size / 1e9:.1f} GB | {(size + 2 * others) / 1e9:.1f} GB |" in PAGE
    assert f"need {2 * others / 1e9:.1f} GB" in PROSE
    linear = max(part.weight.numel() for part in flux_transformer().modules() if isinstance(part, nn.Linear))
    assert f"at most {2 * linear / 1e9:.2f} GB in the transformer" in PROSE


@pytest.mark.parametrize("heads", ["each", "mean"])
@pytest.mark.parametrize("side", [512, 1024])
def test_recording_takes_what_the_page_says(side: int, heads: str) -> None:
    grid = side // 16
    layout = TokenLayout(text=slice(0, 512), image=slice(512, 512 + grid**2), grid=(grid, grid))
    plan = ra.Recorder(flux_transformer(), layout, heads=heads).plan
    with FakeTensorMode():
        operand = torch.empty(1, 24, layout.length, 128, dtype=torch.bfloat16, device="cuda")
        call = AttentionCall(operand, operand, operand)
    held = held_bytes(plan, 24, batch=1, passes=1, branches=1)
    row = f"| {side} x {side} | {heads} | {working_bytes(plan, call) / 1e9:.2f} GB | {held / 1e9:.2f} GB |"
    assert row in PAGE


def test_the_formula_is_quoted_as_it_is_computed() -> None:
    formula = re.findall(r"^    \S.*(?:\n    \S.*)*", cleandoc(working_bytes.__doc__ or ""), re.MULTILINE)[0]
    assert cleandoc(formula) in PAGE
