"""The page on which a person drops photos: HTML, style and scripts, of which parts are the report's."""

from __future__ import annotations

import jinja2

from jobs.serving.app import ServerPart
from jobs.serving.assets import shipped, static_part
from jobs.serving.label_api import RequestLimits

_OWN = ("page.css", "icon.svg", "token.js", "results.js", "models.js", "photos.js")


def page_part(limits: RequestLimits) -> ServerPart:
    """Return the page at `/` with what it loads; it holds nothing of the user's, so it needs no token."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(shipped("jobs.serving", "page/page.html.jinja").decode())
    page = template.render(limits=limits)
    contents = {
        "/": page.encode(),
        "/assets/report.css": shipped("jobs.report", "page.css"),
        "/assets/elements.js": shipped("jobs.report", "elements.js"),
    }
    return static_part(contents | {f"/assets/{name}": shipped("jobs.serving", f"page/{name}") for name in _OWN})
