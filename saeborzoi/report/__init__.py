"""The report: one HTML file of a project for readers who have nothing else, and for print."""

from saeborzoi.report.page import report_page

__all__ = ["report_page"]
