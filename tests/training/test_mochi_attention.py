"""The batched attention of the video training: what diffusers computes item by item, forwards and backwards."""

from __future__ import annotations

import torch
from torch import Tensor

from refam_analysis.training.mochi_attention import attend_in_batches, rotated
from refam_analysis.training.text import make_t5_tokenizer
from refam_analysis.training.video import VideoConfiguration, VideoParts
from refam_analysis.training.video_autoencoder import LATENT_CHANNELS


def gradients(parts: VideoParts, latents: Tensor, ids: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
    parts.zero_grad()
    predicted = parts(latents, torch.full((len(latents),), 0.5, dtype=latents.dtype), ids, mask)
    predicted.square().sum().backward()
    return predicted.detach(), [p.grad.clone() for p in parts.parameters() if p.grad is not None]


def test_patches_and_gradients_are_those_of_diffusers() -> None:
    torch.manual_seed(0)
    tokenizer = make_t5_tokenizer("plain")
    parts = VideoParts(VideoConfiguration(blocks=2), tokenizer).double()
    for weights in parts.parameters():
        if weights.requires_grad:
            torch.nn.init.normal_(weights, std=0.1)  # the untrained output layer gives zeros
    padded = tokenizer(["the red circle on the left", "a star", ""], padding="max_length", max_length=9,
                       return_tensors="pt")  # fmt: skip
    ids, mask = padded.input_ids, padded.attention_mask.bool()
    latents = torch.randn(3, LATENT_CHANNELS, 2, 4, 4, dtype=torch.float64)
    expected, expected_gradients = gradients(parts, latents, ids, mask)
    attend_in_batches(parts.transformer)
    found, found_gradients = gradients(parts, latents, ids, mask)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)  # rotations are in float32
    assert len(found_gradients) == len(expected_gradients) > 50
    for one, other in zip(found_gradients, expected_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()) + 1e-9)


def test_a_rotation_keeps_lengths_and_turns_by_the_angle() -> None:
    angle = torch.tensor([[[0.5]]])
    turned = rotated(torch.tensor([[[[1.0, 0.0]]]]), angle.cos(), angle.sin())
    torch.testing.assert_close(turned, torch.tensor([[[[angle.cos().item(), angle.sin().item()]]]]))
