"""The kit's own images."""

import pytest

from raysweep.clusters.shared.images import own_images


def test_they_are_those_of_make_image_unless_a_variable_names_another(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_images() == {"RAYSWEEP_IMAGE": "raysweep:local", "RAYSWEEP_STORE_IMAGE": "raysweep-store:local"}
    monkeypatch.setenv("RAYSWEEP_IMAGE", "registry:5000/team/raysweep:1.2")
    monkeypatch.setenv("RAYSWEEP_STORE_IMAGE", "")
    assert list(own_images().values()) == ["registry:5000/team/raysweep:1.2", "raysweep-store:local"]
