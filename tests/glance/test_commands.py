"""The table of docs/glance.md has each command of the installed Glance, and its counterparts exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from glance.cmd import cache_manage

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/glance.md"
CTL = os.environ["IMAGE_CACHECTL"]


def rows():
    table = DOCUMENT.read_text().split("## Glance's commands\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.split("|")[1:4]] for line in table.splitlines() if line.startswith("| ")][1:]


def test_each_command_of_glance_has_a_counterpart():
    documented = " ".join(row[0] for row in rows())
    programs = [path.name for path in Path(sys.executable).parent.glob("glance-cache-*")]
    assert len(programs) == 4 and all(program in documented for program in programs)
    for command in cache_manage.CACHE_COMMANDS:
        assert f"glance-cache-manage {command}" in documented, command
    assert all(row[1] for row in rows())


def test_each_call_of_the_cache_api_has_a_counterpart():
    import glance.api.v2.router

    source = Path(glance.api.v2.router.__file__).read_text()
    paths = set(re.findall(r"mapper\.connect\('(/cache[^']*)'", source))
    documented = " ".join(row[2] for row in rows())
    assert len(paths) == 5
    for path in paths:
        assert f"/v2{path}".replace("{image_id}", "ID") in documented, path


def test_each_counterpart_is_a_command_of_image_cachectl():
    counterparts = {part for row in rows() for part in re.findall(r"`image-cachectl ([^`]*)`", row[1])}
    assert len(counterparts) >= 10
    for part in counterparts:
        words = [word for word in shlex.split(part) if word != "ID"]
        done = subprocess.run([CTL, *words, "--help"], capture_output=True, text=True)
        assert done.returncode == 0, (part, done.stderr)
