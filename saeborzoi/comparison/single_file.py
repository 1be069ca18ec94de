"""What pages of a single file have in common: tables that a click on a heading orders, and the
theme that a reader chose on the nodes' pages."""

from __future__ import annotations

import pandas as pd

# kept by startTheme of browser/static/core.js; a browser that keeps nothing follows the system
_THEME = """
try {
  const theme = JSON.parse(localStorage.getItem("saeborzoi:theme"));
  if (theme === "light" || theme === "dark") document.documentElement.style.colorScheme = theme;
} catch {}
"""
# a click on a heading orders the rows by it, once more turns them; what is empty stays last
_SORTING = """
for (const table of document.querySelectorAll("table:not(.pairs)")) {
  const head = table.tHead.rows[0];
  for (const button of head.querySelectorAll("button")) button.onclick = () => {
    const cell = button.closest("th");
    const down = cell.getAttribute("aria-sort") !== "descending";
    for (const other of head.cells) other.removeAttribute("aria-sort");
    cell.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.cells[cell.cellIndex].dataset.value ?? "";
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows);
  };
}
"""
SCRIPT = _THEME + _SORTING
"""At the end of a page's body."""
STYLE_OF_HEADINGS = """
th button { all: unset; cursor: pointer; } th button:focus-visible { outline: 2px solid; }
th[aria-sort] button { text-decoration: underline; }
"""


def sorted_by(value: object) -> str:
    """What a column is ordered by, for a cell's `data-value`: the number itself, not its rounding.

    >>> sorted_by(0.123456), sorted_by(None), sorted_by(pd.NA), sorted_by("FOS")
    ('0.123456', '', '', 'FOS')
    """
    if pd.isna(value):
        return ""
    return str(float(value)) if isinstance(value, int | float) else str(value)
