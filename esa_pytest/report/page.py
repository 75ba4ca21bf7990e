"""The report as one HTML file that needs nothing else: no script, no font, no image, nothing from any network.

Whatever comes from a record passes through Jinja2's autoescape; a policy in the page's own head forbids the rest.
"""

from typing import Any

from esa_pytest.errors import EsaError
from esa_pytest.report.overview import Overview
from esa_pytest.report.tables import flat

_HOW = "pip install 'esa-pytest[report]', or ask for Markdown with --markdown"


class ReportExtraMissingError(EsaError):
    """matplotlib or Jinja2 is not installed."""


def html_page(overview: Overview) -> bytes:
    """The page, as UTF-8.

    Raises:
        ReportExtraMissingError: matplotlib or Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup

        from esa_pytest.report.drawing import svg_of
    except ImportError as error:
        raise ReportExtraMissingError(f"A report as HTML needs {error.name}, which is not installed: {_HOW}.") from None

    def plain(value: Any) -> Any:
        return flat(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=PackageLoader("esa_pytest.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictures = {
        id(figure): Markup(svg_of(figure, key=f"{section.slug}-{number}"))  # noqa: S704  (drawn here, text escaped)
        for section in overview.sections
        for number, figure in enumerate(section.figures)
    }
    page = environment.get_template("report.html.j2").render(
        overview=overview, picture=lambda figure: pictures[id(figure)]
    )
    return page.encode()
