"""Run as a program by the tests: follow an object through a long clip of small frames, and say how much memory it took.

Arguments: a folder for the masks, the folder of a segmenter, the number of frames, and seconds to wait a frame.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from itertools import islice

import numpy as np

import refam_analysis as ra
from refam_analysis.scenes import MovingSample, MovingScenes

FIRST = 100
"""Memory is measured from this frame on: by then every buffer has its size."""


class Streamed:
    """A moving scene as a clip whose frames are drawn when their turn comes.

    Attributes:
        early: peak memory in kilobytes, before frame :data:`FIRST` is read.
    """

    name = "scene"

    def __init__(self, clip: MovingSample, wait: float) -> None:
        self.clip, self.wait, self.early = clip, wait, 0

    def __len__(self) -> int:
        return self.clip.length

    def read(self, start: int = 0) -> Iterator[np.ndarray]:
        frames = (frame for chunk, _ in self.clip.chunks() for frame in chunk)
        for number, frame in enumerate(islice(frames, start, None), start):
            if number == FIRST:
                self.early = peak_memory()
            time.sleep(self.wait)
            yield frame


def peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(store: str, segmenter: str, frames: str, wait: str) -> None:
    clip = MovingScenes("validation", length=1, frames=int(frames), size=48)[0]
    streamed = Streamed(clip, float(wait))
    result = ra.segment_video(
        ra.load_model("embedded"), streamed, clip.expression.text, segmenter=segmenter, store=store,
        settings=ra.HeatmapSettings(),
    )  # fmt: skip
    print(len(result.masks), peak_memory() - streamed.early)


if __name__ == "__main__":
    main(*sys.argv[1:])
