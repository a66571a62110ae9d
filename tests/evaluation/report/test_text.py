"""The report on a terminal: measured numbers with intervals, published ones that say so."""

from __future__ import annotations

from collections.abc import Callable

from refam_analysis.evaluation.report import beside_published, difference_table, score_table, slice_table
from refam_analysis.evaluation.report.text import (
    differences_as_text,
    scores_as_text,
    settings_as_text,
    slices_as_text,
    state_of,
)

ROWS = [("a", 5, 10), ("a", 9, 10), ("b", 0, 100), ("c", 80, 100)]


def test_published_rows_stand_under_measured_ones_and_say_so(made: Callable) -> None:
    table = beside_published(score_table([made(ROWS)]))
    assert table["origin"].tolist() == sorted(table["origin"])
    published = table[table["origin"] == "published"].set_index("run")
    assert published.loc["RefAM", "value"] == 0.4691 and set(published["metric"]) == {"oIoU"}
    assert published["low"].isna().all() and published["source"].str.contains("arXiv").all()


def test_scores_are_in_per_cent_with_their_intervals(made: Callable) -> None:
    lines = scores_as_text(score_table([made(ROWS)])).splitlines()
    (ours,) = [line for line in lines if line.split()[0] == "measured"]
    assert "42.7 [" in ours
    (refam,) = [line for line in lines if " RefAM " in f"{line} "]
    assert refam.split()[0] == "published" and "46.9" in refam and "[" not in refam


def test_a_data_set_without_published_scores_has_measured_ones_alone(made: Callable) -> None:
    run = made(ROWS, about={**made(ROWS).about, "configuration": {"dataset": "scenes", "split": "test"}})
    assert "published" not in scores_as_text(score_table([run]))


def test_slices_and_differences_have_a_line_each(made: Callable) -> None:
    run = made(ROWS, kind=["left", "left", "right", "right"])
    text = slices_as_text(slice_table(run))
    assert len(text.splitlines()) == 3 and "left" in text and "right" in text
    table = difference_table([run, made(ROWS, name="again")])
    assert len(differences_as_text(table).splitlines()) == len(table) + 1


def test_the_state_of_a_run_hides_nothing(made: Callable) -> None:
    about = {**made(ROWS).about, "data": {"items": 5, "video": False}, "problems": ["a.json: it is cut"]}
    said = state_of(made(ROWS, about=about, error=[None, "no words", None, None]))
    assert "4 expressions of 3 images" in said and "2 images are missing" in said
    assert "1 failed" in said and "1 left out" in said
    assert state_of(made(ROWS)) == "ours: 4 expressions of 3 images"


def test_what_runs_do_differently_is_said(made: Callable) -> None:
    first = made(ROWS)
    about = {**first.about, "configuration": {**first.about["configuration"], "magnets": []}}
    assert settings_as_text([first, made(ROWS, name="bare", about=about), made(ROWS, name="same")]).splitlines() == [
        "ours -> bare: configuration.magnets ['a'] -> []",
        "ours -> same: nothing differs",
    ]
