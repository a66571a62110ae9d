"""What every notebook begins with: model, look, figures as files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure
from references.bundles import make_tiny_bundle

from refam_analysis.experiments.bundle import BundleError
from refam_analysis.figures.style import PAPER
from refam_analysis.models import ModelFolderError
from refam_analysis.notebook import (
    OtherModels,
    VariableError,
    open_model,
    other_models,
    save_figure,
    scenes_wanted,
    use_style,
)


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


# Other models beside


@pytest.fixture(scope="module")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("tiny"), scenes=2, ledger_scenes=2)


@pytest.fixture
def bundle(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle of a small random FLUX, named in the environment."""
    monkeypatch.setenv("REFAM_BUNDLES", str(tiny_bundle))
    return tiny_bundle


def test_without_a_bundle_a_page_says_whose_its_figures_are_and_how_to_make_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("REFAM_BUNDLES", raising=False)
    said = OtherModels({}, "embedded")._repr_markdown_()
    assert "all figures are of *embedded*" in said
    assert "refam claims --model" in said and "refam bundle --model" in said


def test_a_named_bundle_stands_beside_the_model_with_its_tables_and_verdicts(bundle: Path) -> None:
    others = other_models("embedded")
    assert list(others.bundles)[-1] == "tiny-flux"
    assert others.table("mass")["tiny-flux"]["scenes"].unique().tolist() == [2]
    assert others.table("no such table") == {}
    assert set(others.ledger("profiles")["tiny-flux"]["source"]) == {"model"}
    header, _, line = others.verdicts(["C9"]).splitlines()
    assert header.startswith("| | claim | embedded |") and header.endswith("| tiny-flux |")
    assert line.startswith("| C9 | ") and line.endswith("| not testable here |")
    said = others._repr_markdown_()
    assert "Beside *embedded*" in said and "*tiny-flux*: `tiny-flux`" in said
    assert str(bundle.parent) not in said  # a path of this machine says nothing to a reader


def test_a_folder_of_bundles_may_be_named(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = list(other_models().bundles)
    monkeypatch.setenv("REFAM_BUNDLES", str(bundle.parent))
    assert list(other_models().bundles) == one


def test_a_bundle_of_the_page_s_own_model_is_told_from_it(bundle: Path) -> None:
    assert list(other_models("somewhere/tiny-flux").bundles)[-1] == f"tiny-flux ({bundle.name})"


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFAM_BUNDLES", str(tmp_path))
    with pytest.raises(BundleError, match="REFAM_BUNDLES"):
        other_models()


@pytest.mark.parametrize(("value", "taken"), [(None, 40), ("", 40), ("8", 8), ("100", 40)], ids=str)
def test_scenes_are_as_many_as_the_environment_allows(
    value: str | None, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REFAM_SCENES", raising=False)
    if value is not None:
        monkeypatch.setenv("REFAM_SCENES", value)
    assert scenes_wanted(40) == taken


@pytest.mark.parametrize("value", ["1", "-3", "many", "2.5"])
def test_a_number_of_scenes_that_means_nothing_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFAM_SCENES", value)
    with pytest.raises(VariableError, match=f"REFAM_SCENES is '{value}'"):
        scenes_wanted(40)
