"""axe-core, which finds what keeps people with a screen reader, a keyboard or weak eyes from using a page."""

from __future__ import annotations

from importlib import resources
from typing import Any

_GRAVE = ("serious", "critical")


def accessibility_problems(driver: Any) -> list[str]:
    """Return the serious and critical problems of the page that is open, each with the elements that have it."""
    driver.execute_script((resources.files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8"))
    found = driver.execute_async_script("const done = arguments[0]; axe.run(document).then(done, e => done(String(e)))")
    assert isinstance(found, dict), found
    assert len(found["passes"]) > 10
    return [
        f"{problem['id']}: {problem['help']}: {[node['target'] for node in problem['nodes']]}"
        for problem in found["violations"]
        if problem["impact"] in _GRAVE
    ]
