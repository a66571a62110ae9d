"""Mochi's attention for training: all items of a batch in one call, where diffusers has a call an item.

diffusers drops the padding of each prompt, so that items have different lengths and are attended to one after the
other. Here padding stays and is masked as a key. What patches and words become is the same; what padding becomes is
not, and nothing reads it.
"""

from __future__ import annotations

from diffusers import MochiTransformer3DModel
from diffusers.models.attention_processor import MochiAttention
from torch import Tensor, cat, stack
from torch.nn import functional


class BatchedMochiAttention:
    """A processor for ``MochiAttention``, with the arguments that Mochi's blocks give it."""

    def __call__(
        self,
        attn: MochiAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Patches (item, patch, channel) and text (item, token, channel) after attention to both.

        Args:
            attn: the layer.
            hidden_states: of patches.
            encoder_hidden_states: of text tokens.
            attention_mask: bool (item, token): which tokens are no padding.
            image_rotary_emb: cosines and sines (patch, head, half of a head's width).
        """

        def heads(states: Tensor) -> Tensor:
            return states.unflatten(2, (attn.heads, -1))

        query, key = attn.norm_q(heads(attn.to_q(hidden_states))), attn.norm_k(heads(attn.to_k(hidden_states)))
        if image_rotary_emb is not None:
            query, key = rotated(query, *image_rotary_emb), rotated(key, *image_rotary_emb)
        text_query = attn.norm_added_q(heads(attn.add_q_proj(encoder_hidden_states)))
        text_key = attn.norm_added_k(heads(attn.add_k_proj(encoder_hidden_states)))
        value, text_value = heads(attn.to_v(hidden_states)), heads(attn.add_v_proj(encoder_hidden_states))
        patches, tokens = query.shape[1], text_query.shape[1]
        seen = cat([attention_mask.new_ones(len(query), patches), attention_mask], dim=1)
        joint_query, joint_key, joint_value = (
            cat(pair, dim=1).transpose(1, 2) for pair in ((query, text_query), (key, text_key), (value, text_value))
        )
        mask = seen[:, None, None]
        mixed = functional.scaled_dot_product_attention(joint_query, joint_key, joint_value, attn_mask=mask)
        image, text = mixed.transpose(1, 2).flatten(2).split_with_sizes((patches, tokens), dim=1)
        image = attn.to_out[1](attn.to_out[0](image))
        return image, attn.to_add_out(text) if hasattr(attn, "to_add_out") else text


def rotated(states: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Each pair of neighbouring numbers of (item, patch, head, width) turned by its angle."""
    even, odd = states.float().unflatten(-1, (-1, 2)).unbind(-1)
    return stack([even * cosines - odd * sines, even * sines + odd * cosines], dim=-1).flatten(-2).to(states.dtype)


def attend_in_batches(transformer: MochiTransformer3DModel) -> None:
    """Let every block of a transformer use :class:`BatchedMochiAttention`; its weights stay as they are."""
    for block in transformer.transformer_blocks:
        block.attn1.processor = BatchedMochiAttention()
