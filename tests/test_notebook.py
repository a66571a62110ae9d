"""What every notebook begins with: model, look, figures as files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from refam_analysis.figures.style import PAPER
from refam_analysis.models import ModelFolderError
from refam_analysis.notebook import open_model, save_figure, use_style


@pytest.fixture
def own_style() -> Iterator[None]:
    with mpl.rc_context():
        yield


def test_style_stays_after_the_call(own_style: None) -> None:
    use_style()
    assert mpl.rcParams["figure.facecolor"] == PAPER


def test_style_leaves_the_backend_alone(own_style: None) -> None:
    before = mpl.get_backend()
    use_style()
    assert mpl.get_backend() == before


def test_figures_are_written_to_the_folder_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFAM_FIGURES", str(tmp_path / "new" / "figures"))
    save_figure(Figure(), "entropy")
    assert sorted(path.name for path in (tmp_path / "new" / "figures").iterdir()) == ["entropy.pdf", "entropy.png"]


def test_no_figure_is_written_when_none_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFAM_FIGURES", raising=False)
    monkeypatch.chdir(tmp_path)
    save_figure(Figure(), "entropy")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [None, ""], ids=["not set", "empty"])
def test_model_is_the_embedded_one_by_default(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFAM_MODEL", raising=False)
    if value is not None:
        monkeypatch.setenv("REFAM_MODEL", value)
    assert open_model().name == "embedded"


def test_model_draws_without_a_progress_bar(
    monkeypatch: pytest.MonkeyPatch, tiny_flux_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REFAM_MODEL", str(tiny_flux_folder))
    open_model().generate("the red ring")
    assert capfd.readouterr() == ("", "")
    assert open_model().pipeline.progress_bar(range(2)).disable


def test_model_is_the_one_that_the_environment_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REFAM_MODEL", str(tmp_path / "no-such-model"))
    with pytest.raises(ModelFolderError, match="no-such-model"):
        open_model()
