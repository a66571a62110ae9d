"""Follow an object with SAM 2's video predictor, by transformers, one frame after the other.

transformers keeps a session's frames and all that was computed for them. Here the session is given one frame at a time
(its streaming mode), and what no later frame looks at is dropped, so that a long clip takes no more memory than a short
one. What the model does is left to transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Sam2VideoModel, Sam2VideoProcessor

from refam_analysis.errors import RefamError
from refam_analysis.segmentation.segmenters.base import check_image, check_points
from refam_analysis.segmentation.segmenters.sam2 import RepositoryError, from_repository
from refam_analysis.segmentation.video.propagation import Event, Followed, FrameSizeError, NotBegunError

_OBJECT = 1
_KINDS = ("cond_frame_outputs", "non_cond_frame_outputs")
_REMEMBERED = ("object_pointer", "object_score_logits", "maskmem_features", "maskmem_pos_enc")
"""What later frames look at; of frames before the last few, only the first two."""


class Sam2VideoSourceError(RefamError, ValueError):
    """A folder or hub id does not give a SAM 2 video model."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(
            f"{source!r} gives no SAM 2 video model: {problem}. Give the id of a repository on the model hub, such as "
            f"'facebook/sam2.1-hiera-tiny', or a folder that save_pretrained of Sam2VideoModel and Sam2VideoProcessor "
            f"wrote."
        )


class Sam2Propagator:
    """A :class:`~refam_analysis.segmentation.video.propagation.Propagator` around a ``Sam2VideoModel``.

    Masks are those of ``propagate_in_video_iterator`` on the whole clip; where that is shorter than
    ``max_object_pointers_in_encoder`` (16) the whole-clip mode counts time differently from the streaming mode that is
    used here.

    Args:
        model: in evaluation mode; used where it is (device, dtype) and left unchanged.
        processor: of the same repository.
    """

    def __init__(self, model: Sam2VideoModel, processor: Sam2VideoProcessor) -> None:
        self.model: Any = model
        self.processor: Any = processor
        self._session: Any = None
        self._size = (0, 0)
        self._frame = 0
        self._visible = True

    def begin(
        self, frame: NDArray[np.uint8], point: tuple[float, float], mask: NDArray[np.bool_] | None = None
    ) -> Followed:
        """Take up the object at a point, or one whose mask is known; see the protocol."""
        self._new_session(check_image(frame).shape[:2])
        check_points([point], self._size)
        prompt: dict[str, Any] = {"input_points": [[[list(map(float, point))]]], "input_labels": [[[1]]]}
        if mask is not None:
            prompt = {"input_masks": [mask]}
        self.processor.add_inputs_to_inference_session(
            inference_session=self._session, frame_idx=0, obj_ids=_OBJECT, original_size=self._size, **prompt
        )
        self._frame, self._visible = 0, True
        mask, score, self._visible = self._run(frame)
        return Followed(mask, score, self._visible, "started", (point,))

    def follow(self, frame: NDArray[np.uint8]) -> Followed:
        """Find the object by SAM 2's memory of it; see the protocol."""
        if self._session is None:
            raise NotBegunError
        self._frame += 1
        if check_image(frame).shape[:2] != self._size:
            raise FrameSizeError(self._frame, frame.shape[:2], self._size)
        mask, score, visible = self._run(frame)
        event: Event | None = None
        if visible != self._visible:
            event = "found" if visible else "lost"
        self._visible = visible
        return Followed(mask, score, visible, event)

    def state(self) -> dict[str, Tensor]:
        """What the session remembers, as tensors; see the protocol."""
        if self._session is None:
            raise NotBegunError
        outputs = self._session.output_dict_per_obj[0]
        remembered = {
            f"{kind}.{frame}.{name}": value.cpu().contiguous().clone()
            for kind in _KINDS
            for frame, values in outputs[kind].items()
            for name, value in values.items()
            if name in _REMEMBERED
        }
        return {**remembered, "counts": torch.tensor([*self._size, self._frame, int(self._visible)])}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Fill a new session; see the protocol."""
        height, width, self._frame, visible = (int(number) for number in state["counts"])
        self._visible = bool(visible)
        self._new_session((height, width))
        self._session.obj_id_to_idx(_OBJECT)
        outputs = self._session.output_dict_per_obj[0]
        for key, value in state.items():
            if key != "counts":
                kind, frame, name = key.split(".")
                outputs[kind].setdefault(int(frame), {})[name] = value.to(self.model.device)

    def _new_session(self, size: tuple[int, ...]) -> None:
        self._size = (size[0], size[1])
        self._session = self.processor.init_video_session(inference_device=self.model.device, dtype=self.model.dtype)
        self._session.video_height, self._session.video_width = self._size

    @torch.inference_mode()
    def _run(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], float, bool]:
        """Mask, score and whether the object is in sight, of the frame that comes now."""
        pixels = self.processor(images=frame, return_tensors="pt")["pixel_values"][0]
        answer = self.model(
            inference_session=self._session, frame_idx=self._frame, frame=pixels.to(self.model.device, self.model.dtype)
        )
        (masks,) = self.processor.post_process_masks([answer.pred_masks.float().cpu()], [self._size])
        logit = answer.object_score_logits.float().flatten()[0]
        visible = bool(logit > 0) and bool(masks.any())
        mask = masks[0, 0].numpy() & visible
        self._forget()
        return mask, float(logit.sigmoid()), visible

    def _forget(self) -> None:
        """Drop what no later frame looks at."""
        session, config = self._session, self.model.config
        session.processed_frames = {}
        session.frames_tracked_per_obj[0].clear()
        outputs = session.output_dict_per_obj[0]
        for kind in _KINDS:
            for frame in list(outputs[kind]):
                values, age = outputs[kind][frame], self._frame - frame
                tracked = kind == "non_cond_frame_outputs"
                if tracked and age >= max(config.num_maskmem, config.max_object_pointers_in_encoder):
                    del outputs[kind][frame]
                    continue
                kept = _REMEMBERED[:2] if tracked and age >= config.num_maskmem else _REMEMBERED
                outputs[kind][frame] = {name: value for name, value in values.items() if name in kept}


def load_sam2_video(
    source: str | Path, *, device: str | torch.device | None = None, dtype: torch.dtype | None = None
) -> Sam2Propagator:
    """A propagator from a SAM 2 or 2.1 repository in the form of transformers.

    Args:
        source: an id on the model hub, or a folder.
        device: None for the CPU.
        dtype: None for float32.

    Raises:
        Sam2VideoSourceError: there is no such repository, it holds another model, or weights are missing.
    """
    name = str(source)
    try:
        return Sam2Propagator(*from_repository(Sam2VideoModel, Sam2VideoProcessor, name, device=device, dtype=dtype))
    except RepositoryError as error:
        raise Sam2VideoSourceError(name, str(error)) from error
