"""What of a project travels."""

from __future__ import annotations

import zipfile
from pathlib import Path

from raysweep.storage import code_upload, open_storage


def test_the_code_is_what_ray_job_submit_would_take(tmp_path: Path) -> None:
    project, place = tmp_path / "project", open_storage(str(tmp_path / "store"))
    for name in ("jobs/asha.py", ".raysweep/token", "runs/x", "ignored/y", ".venv/z"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    (project / ".rayignore").write_text("ignored/\n")
    url = code_upload.upload(project, place)
    key = url.removeprefix(f"{place.url}/")
    path = place.local_path(key)
    assert path
    with zipfile.ZipFile(path) as packed:
        files = {name for name in packed.namelist() if not name.endswith("/")}
    assert "project/jobs/asha.py" in files
    assert not [name for name in files if "token" in name or "runs" in name or "ignored" in name or "venv" in name]
