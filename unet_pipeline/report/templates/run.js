"use strict";
// Sorts the table of cases by the column whose heading is pressed; cells without a value come last.
for (const table of document.querySelectorAll("table")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sort(table, headings, column));
  });
}

function sort(table, headings, column) {
  const heading = headings[column];
  const numeric = heading.classList.contains("num");
  const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  headings.forEach((other) => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
  const value = (row) => {
    const text = row.cells[column].textContent.trim();
    return numeric ? Number.parseFloat(text) : text;
  };
  const missing = (item) => item === "" || Number.isNaN(item);
  const compare = (a, b) => (numeric ? a - b : a.localeCompare(b, undefined, { numeric: true }));
  const rows = [...table.tBodies[0].rows].map((row) => [value(row), row]);
  rows.sort(([a], [b]) => missing(a) - missing(b) || (missing(a) ? 0 : sign * compare(a, b)));
  table.tBodies[0].append(...rows.map(([, row]) => row));
}
