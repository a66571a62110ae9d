"""The explorer as files of a static page: scripts that load from a web server and from a disk alike.

A folder of the explorer holds ``explorer.js`` and ``explorer.css``, ``index.js``, which starts it and names the scenes,
for every scene a script in ``scenes`` (loaded when a reader chooses it) and its picture in ``pictures``, and
``still.png`` for readers without scripts. What is in them follows from weights, code and list alone; folders are kept
under the digest of these three.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

import refam_analysis
from refam_analysis.experiments.provenance import weights_sha256
from refam_analysis.files import written_folder
from refam_analysis.weights import embedded_folder
from refam_analysis.widgets.explorer_data import LIST, ExplorerScene, quantisation_error
from refam_analysis.widgets.scripts import as_script, classic_source, style_source

CALLED = "RefamExplorer"
"""The one global name of the page."""

STILL = "two-words"
"""The scene of the plain picture."""

MOST_BYTES = 5_000_000
"""Of all files together."""

_CODE = ("analysis", "evaluation/metrics", "models", "prompts", "recording", "scenes", "segmentation")


def key(path: Path = LIST) -> str:
    """A digest of all that the files follow from: weights, the package's version and code, the list.

    Args:
        path: of the list.
    """
    package = Path(refam_analysis.__file__).parent
    sources = sorted(file for room in _CODE for file in (package / room).rglob("*.py"))
    sources += sorted((package / "widgets").glob("explorer_*.py"))
    digest = hashlib.sha256(path.read_bytes())
    for weights in ("embedded-dit", "embedded-sam"):
        folder = embedded_folder(weights)
        also = [file.name for file in sorted(folder.glob("*.json"))]
        digest.update(json.dumps(weights_sha256(folder, also=also), sort_keys=True).encode())
    digest.update(refam_analysis.__version__.encode())
    for file in sources:
        digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def kept_files(cache: Path) -> Path:
    """The folder of the committed list's files: made at the first call, found at the next ones.

    Args:
        cache: a folder for this alone; what older code or weights left in it is deleted.
    """
    wanted = cache / key()[:16]
    if wanted.is_dir():
        write_scripts(wanted)
        return wanted
    # PyTorch is loaded only where something is to be computed.
    from refam_analysis.models import load_model
    from refam_analysis.widgets.explorer_list import explored

    shutil.rmtree(cache, ignore_errors=True)
    started = time.perf_counter()
    with written_folder(wanted) as partial:
        about = write_files(explored(load_model("embedded")), partial)
        seconds = {"seconds": round(time.perf_counter() - started, 1)}
        (cache / "made.json").write_text(json.dumps({**about, **seconds}, indent=2) + "\n", encoding="utf-8")
    return wanted


def write_files(scenes: Iterable[ExplorerScene], folder: Path) -> dict[str, Any]:
    """Write an explorer's folder.

    Args:
        scenes: run one after the other.
        folder: for this alone.

    Returns:
        What ``about.json`` in it holds: number of scenes and bytes, and the error from quantisation.
    """
    for part in ("scenes", "pictures"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    kept = []
    for scene in scenes:
        (folder / "scenes" / f"{scene.name}.js").write_text(scene_script(scene), encoding="utf-8")
        Image.fromarray(scene.image).save(folder / "pictures" / f"{scene.name}.png", optimize=True)
        kept.append(scene)
    headings = [{**scene.heading(), "thumbnail": f"pictures/{scene.name}.png"} for scene in kept]
    write_scripts(folder)
    start = f"{CALLED}.start({as_script(headings)}, document.currentScript.src);\n"
    (folder / "index.js").write_text(start, encoding="utf-8")
    draw_still(next((scene for scene in kept if scene.name == STILL), kept[0]), folder / "still.png")
    error = quantisation_error(kept)
    size = sum(file.stat().st_size for file in files_of(folder))
    about = {"scenes": len(kept), "bytes": size, **asdict(error), **answers(kept)}
    (folder / "about.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return about


def write_scripts(folder: Path) -> None:
    """Write script and style sheet, which do not depend on the scenes."""
    (folder / "explorer.js").write_text(classic_source("explorer.js", called=CALLED), encoding="utf-8")
    (folder / "explorer.css").write_text(style_source("explorer.css"), encoding="utf-8")


def scene_script(scene: ExplorerScene) -> str:
    """The script that hands a scene to the page, its codes deflated."""
    return f"{CALLED}.register({as_script(scene.name)}, {as_script(_packed(scene.to_dict()))});\n"


def _packed(content: Any) -> Any:
    """The same, with the codes of every `Quantised` deflated where they stand."""
    if isinstance(content, list):
        return [_packed(part) for part in content]
    if not isinstance(content, dict):
        return content
    packed = {name: _packed(part) for name, part in content.items() if name != "codes"}
    if "codes" in content:
        deflated = zlib.compress(base64.b64decode(content["codes"]), level=9)
        packed["deflated"] = base64.b64encode(deflated).decode("ascii")
    return packed


def draw_still(scene: ExplorerScene, path: Path) -> None:
    """A plain picture of a scene, for readers without scripts: its words' maps, the heatmap, the mask.

    Args:
        scene: with an answer to the sentence with magnets.
        path: of the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from refam_analysis.figures.pictures import pipeline_figure
    from refam_analysis.figures.style import figure_style

    view = scene.views["with"]
    assert view.answer is not None
    words = [token for token in view.tokens if token.kind == "content"]
    maps = view.attention["image_to_text"][0].mean(0)
    with figure_style():
        figure = Figure(figsize=(1.9 * (len(words) + 3), 2.5))
        FigureCanvasAgg(figure)
        pipeline_figure(
            figure.subplots(1, len(words) + 3), image=scene.image, expression=scene.expression,
            maps=maps[[token.map for token in words]], words=[token.text for token in words],
            kinds=["content"] * len(words), heatmap=view.answer.heatmap, point=view.answer.point,
            mask=view.answer.mask, truth=scene.target,
        )  # fmt: skip
        figure.savefig(path, dpi=130, metadata={"Software": None})


def answers(scenes: Sequence[ExplorerScene]) -> dict[str, int]:
    """In how many of the scenes the point lies on the object that is meant, by view."""
    found = [(name, view.answer) for scene in scenes for name, view in scene.views.items()]
    return {
        f"right_{name}": sum(bool(answer and answer.on_target) for view, answer in found if view == name)
        for name in ("without", "with")
    }


def files_of(folder: Path) -> Iterator[Path]:
    """What a reader's browser may load of a folder, in order."""
    return (file for file in sorted(folder.rglob("*")) if file.is_file() and file.suffix in (".js", ".css", ".png"))
