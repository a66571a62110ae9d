"""The files of the page ``book/type-your-own``: model, gallery, scripts and the runtime, ready to be served.

A folder holds ``page.js`` and ``page.css``, which every reader of the page loads; ``sheet.webp``, the gallery's small
pictures; ``answers.js``, for those whose browser cannot run the model; and what is loaded when a reader asks for it:
``worker.js``, ``ort.mjs`` and the packed files (``.gz``) of model, gallery and runtime. They are packed here, so that
they are small over the wire from any server.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from importlib import metadata
from pathlib import Path

from refam_analysis.errors import RefamError
from refam_analysis.widgets import explorer_files
from refam_analysis.widgets.scripts import as_script, classic_source, module_source, style_source

CALLED = "RefamTypeYourOwn"
"""The one global name of the page."""
RUNTIME_FILES = {"ort.mjs": "ort.wasm.bundle.min.mjs", "ort.wasm": "ort-wasm-simd-threaded.wasm"}
"""Of onnxruntime-web: what they are called in the page, and in the npm package."""
MOST_BYTES = 30_000_000
"""Of all that is loaded when a reader asks for the model."""

_PACKED = (
    "about.json", "attention.onnx", "gallery.bin", "noise.bin", "picture.onnx", "segmenter-mask.onnx",
    "segmenter-picture.onnx", "sentence.onnx",
)  # fmt: skip
_LIBRARIES = ("torch", "diffusers", "transformers", "onnx", "onnxscript", "pillow")


class MissingRuntimeError(RefamError, FileNotFoundError):
    """The runtime that executes graphs in a browser is not installed."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The page with the model in the browser needs onnxruntime-web, and there is no {path}. Install what pages "
            "take from the npm registry: make _build/npm/.installed"
        )


def kept_site(cache: Path, runtime: Path) -> Path:
    """The folder of the page's files: made at the first call, which takes minutes, found at the next ones.

    Args:
        cache: a folder for this alone; what older code or weights left in it is deleted.
        runtime: the folder ``dist`` of the npm package onnxruntime-web.

    Raises:
        MissingRuntimeError: it is not there.
    """
    for name in RUNTIME_FILES.values():
        if not (runtime / name).is_file():
            raise MissingRuntimeError(runtime / name)
    wanted = cache / key()[:16]
    if not wanted.is_dir():
        partial = cache / ".partial"
        shutil.rmtree(cache, ignore_errors=True)
        partial.mkdir(parents=True)
        write_model(partial)
        partial.replace(wanted)
    _write_runtime(wanted, runtime)
    write_page(wanted)
    return wanted


def key() -> str:
    """A digest of all that model and gallery follow from: weights, the package's code, the libraries that export."""
    digest = hashlib.sha256(explorer_files.key().encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    digest.update(" ".join(metadata.version(name) for name in _LIBRARIES).encode())
    return digest.hexdigest()


def write_model(folder: Path) -> None:
    """Export the embedded models and draw the gallery.

    Args:
        folder: that the packed files, ``sheet.webp``, ``answers.js`` and ``gallery.json`` are written to.
    """
    # PyTorch is loaded only where something is to be computed.
    from refam_analysis.models import load_model
    from refam_analysis.segmentation.segmenters.embedded import load_embedded_sam
    from refam_analysis.widgets.browser import gallery
    from refam_analysis.widgets.browser.export import attention_of, describe, export_model

    model, sam = load_model("embedded"), load_embedded_sam()
    attention = attention_of(model)
    samples = list(gallery.gallery(model))
    found = gallery.answers(model, attention, samples)
    files = {**export_model(model, sam, attention), "gallery.bin": gallery.pixels_of(samples)}
    for name in _PACKED:
        _write_packed(folder, name, files[name])
    (folder / "sheet.webp").write_bytes(gallery.sheet(samples))
    (folder / "answers.js").write_text(f"{CALLED}.answered({as_script(found)});\n", encoding="utf-8")
    about = describe(model, sam, attention)
    listed = {
        "columns": gallery.COLUMNS,
        "expressions": [[expression.text for expression in sample.expressions] for sample in samples],
        **{name: about[name] for name in ("size", "grid", "blocks", "magnets", "settings", "off", "vocabulary")},
    }
    (folder / "gallery.json").write_text(json.dumps(listed), encoding="utf-8")


def write_page(folder: Path) -> None:
    """Write scripts and style sheet, and into the script what the page has to know before anything else is loaded.

    Args:
        folder: with the files of :func:`write_model` and the runtime.
    """
    (folder / "worker.js").write_text(module_source("engine_worker.js"), encoding="utf-8")
    (folder / "page.css").write_text(style_source("engine.css"), encoding="utf-8")
    packed = {name: (folder / f"{name}.gz").stat().st_size for name in (*_PACKED, "ort.wasm")}
    plain = sum((folder / name).stat().st_size for name in ("worker.js", "ort.mjs"))
    known = {
        "gallery": json.loads((folder / "gallery.json").read_text(encoding="utf-8")),
        "files": [{"name": name, "bytes": size} for name, size in packed.items()],
        "bytes": sum(packed.values()) + plain,
        "version": _version(folder),
    }
    script = classic_source("engine_page.js", called=CALLED)
    start = f"{CALLED}.start({as_script(known)}, document.currentScript.src);\n"
    (folder / "page.js").write_text(script + start, encoding="utf-8")


def bytes_over_the_wire(folder: Path) -> int:
    """Of all that a reader loads who asks for the model.

    Args:
        folder: from :func:`kept_site`.
    """
    asked = [*folder.glob("*.gz"), *(folder / name for name in ("worker.js", "ort.mjs"))]
    return sum(file.stat().st_size for file in asked)


def _write_runtime(folder: Path, runtime: Path) -> None:
    """Copy the script of the runtime, with its licence at its head, and pack its code; once for each release."""
    source = runtime / RUNTIME_FILES["ort.wasm"]
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    note = folder / "runtime.txt"
    if note.is_file() and note.read_text(encoding="utf-8") == digest:
        return
    shutil.copyfile(runtime / RUNTIME_FILES["ort.mjs"], folder / "ort.mjs")
    _write_packed(folder, "ort.wasm", source.read_bytes())
    note.write_text(digest, encoding="utf-8")


def _write_packed(folder: Path, name: str, content: bytes) -> None:
    (folder / f"{name}.gz").write_bytes(gzip.compress(content, compresslevel=9, mtime=0))


def _version(folder: Path) -> str:
    """A digest of what the page loads, by which browsers tell a new build from the one that they have kept."""
    names = [*(f"{name}.gz" for name in (*_PACKED, "ort.wasm")), "worker.js", "ort.mjs", "answers.js", "sheet.webp"]
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in names)).hexdigest()[:12]
