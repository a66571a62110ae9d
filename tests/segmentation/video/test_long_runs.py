"""Long clips in processes of their own: memory stays, and a killed run goes on where it stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import refam_analysis as ra
from refam_analysis.models import DiffusionModel
from refam_analysis.scenes import MovingScenes

PROGRAM = Path(__file__).with_name("long_run.py")


def start(store: Path, segmenter: Path, frames: int, wait: float = 0.0) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROGRAM), str(store), str(segmenter), str(frames), str(wait)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def printed(program: subprocess.Popen[str]) -> list[int]:
    output, errors = program.communicate()
    assert program.returncode == 0, errors
    return [int(number) for number in output.split()]


def test_memory_does_not_grow_along_a_clip_of_a_thousand_frames(tiny_sam: Path, tmp_path: Path) -> None:
    """The other nine hundred frames, of 48 x 48 pixels, are 6 MB, and their masks 2 MB: kept, they would show."""
    length, grown = printed(start(tmp_path / "masks", tiny_sam, 1000))
    assert length == 1000
    assert grown < 4000  # kilobytes


def test_a_killed_run_goes_on_where_it_stopped(embedded: DiffusionModel, tiny_sam: Path, tmp_path: Path) -> None:
    """Killed without a chance to clean up, in the middle of a clip, as when a machine fails."""
    killed = start(tmp_path / "killed", tiny_sam, 60, wait=0.05)
    rows = tmp_path / "killed" / "frames.jsonl"
    while killed.poll() is None and not (rows.is_file() and len(rows.read_bytes().splitlines()) >= 30):
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "killed" / "masks").glob("*.png")}
    assert printed(start(tmp_path / "killed", tiny_sam, 60))[0] == 60
    clip = MovingScenes("validation", length=1, frames=60, size=48)[0]
    ra.segment_video(
        embedded, clip.frames, clip.expression.text, segmenter=tiny_sam, settings=ra.HeatmapSettings(),
        store=tmp_path / "whole",
    )  # fmt: skip
    resumed, whole = (sorted((tmp_path / name / "masks").iterdir()) for name in ("killed", "whole"))
    assert [path.read_bytes() for path in resumed] == [path.read_bytes() for path in whole]
    untouched = [path.name for path in resumed if before.get(path.name) == path.stat().st_mtime_ns]
    assert untouched == [f"{i:05d}.png" for i in range(len(untouched))] and len(untouched) >= 20
