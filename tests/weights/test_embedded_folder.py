"""Where embedded weights lie, and what is said when they are not there."""

import pytest

from refam_analysis.weights import MissingWeightsError, embedded_folder


def test_missing_weights_are_named() -> None:
    with pytest.raises(MissingWeightsError, match="'embedded-nothing' are missing"):
        embedded_folder("embedded-nothing")
