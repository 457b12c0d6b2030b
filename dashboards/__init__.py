"""Figures and pages of what was measured. `show(run)` in a notebook; `report_run(run)` writes one HTML file."""

from dashboards.page import write_report
from dashboards.report import report_run
from dashboards.show import show

__all__ = ["report_run", "show", "write_report"]
