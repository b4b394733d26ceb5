"use strict";
// Sorts a table by the column whose heading is pressed; cells without a value come last. A table of
// which the page has all rows as data shows some at a time, and finds among all.
for (const table of document.querySelectorAll("table")) {
  const headings = [...table.tHead.rows[0].cells];
  const paged = table.dataset.rows ? pages(table) : null;
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sort(table, headings, column, paged));
  });
}

// Copies a part of the page as text; also where the page is a file, which has no clipboard.
for (const press of document.querySelectorAll("button[data-copy]")) {
  press.hidden = false;
  press.addEventListener("click", () => {
    const selection = getSelection();
    selection.selectAllChildren(document.getElementById(press.dataset.copy));
    press.nextElementSibling.textContent = document.execCommand("copy") ? "Copied" : "Selected: copy it by the keyboard";
  });
}

function sort(table, headings, column, paged) {
  const heading = headings[column];
  const numeric = heading.classList.contains("num");
  const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  headings.forEach((other) => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
  const missing = (item) => item === "" || item === null || Number.isNaN(item);
  const letters = new Intl.Collator(undefined, { numeric: true });
  const compare = (a, b) => (numeric ? a - b : letters.compare(a, b));
  const sorted = (rows, value) => {
    const keyed = rows.map((row) => [value(row), row]);
    keyed.sort(([a], [b]) => missing(a) - missing(b) || (missing(a) ? 0 : sign * compare(a, b)));
    return keyed.map(([, row]) => row);
  };
  if (paged) {
    paged.rows = sorted(paged.rows, (row) => [row[column]].flat()[0]);
    paged.page = 0;
    paged.show();
    return;
  }
  table.tBodies[0].append(...sorted([...table.tBodies[0].rows], (row) => {
    const text = row.cells[column].textContent.trim();
    return numeric ? Number.parseFloat(text) : text;
  }));
}

function pages(table) {
  const rows = JSON.parse(document.getElementById(table.dataset.rows).textContent);
  const atOnce = Number(table.dataset.atOnce);
  if (rows.length <= atOnce) return null;
  const places = table.tBodies[0].rows[0].cloneNode(true);
  const state = { rows, page: 0, words: "", show };
  const bar = element("div", "pager");
  const find = element("input");
  find.type = "search";
  const label = element("label", "", "Find ");
  label.append(find);
  const [earlier, said, later] = [button("Earlier", -1), element("span"), button("Later", 1)];
  said.setAttribute("role", "status");
  bar.append(label, earlier, later, said);
  table.parentElement.before(bar);
  find.addEventListener("input", () => {
    Object.assign(state, { words: find.value.toLowerCase(), page: 0 });
    show();
  });
  show();
  return state;

  function button(text, step) {
    const made = element("button", "", text);
    made.type = "button";
    made.addEventListener("click", () => { state.page += step; show(); });
    return made;
  }

  function show() {
    const found = state.rows.filter((row) => row.some((cell) => String([cell].flat()[0]).toLowerCase().includes(state.words)));
    const last = Math.max(Math.ceil(found.length / atOnce) - 1, 0);
    const first = state.page * atOnce;
    earlier.disabled = state.page === 0;
    later.disabled = state.page >= last;
    said.textContent = found.length ? `${first + 1} to ${Math.min(first + atOnce, found.length)} of ${found.length.toLocaleString("en")}` : "None";
    table.tBodies[0].replaceChildren(...found.slice(first, first + atOnce).map((row) => filled(places, row)));
  }
}

// A row like the first one of the table, with other values.
function filled(places, row) {
  const made = places.cloneNode(true);
  row.forEach((value, column) => fill(made.cells[column], value, column));
  return made;
}

function fill(cell, value, column) {
  if (cell.classList.contains("num")) {
    const places = column === cell.parentElement.cells.length - 2 ? 1 : 3;
    cell.replaceChildren(...(cell.dataset.bar === undefined || value === null ? [] : [bar(value)]), value === null ? "\u2013" : value.toFixed(places));
  } else if (cell.tagName === "TH") {
    const [name, anchor] = value;
    const link = anchor ? element("a", "", name) : name;
    if (anchor) link.href = `#${anchor}`;
    const isolated = element("bdi");
    isolated.append(link);
    cell.replaceChildren(isolated);
  } else if (Array.isArray(value)) {
    cell.replaceChildren(value[0], ...(value[1] ? [" ", element("code", "", value[1])] : []));
  } else {
    cell.replaceChildren(element("bdi", "", value));
  }
}

function bar(share) {
  const made = document.getElementById("a-bar").content.firstElementChild.cloneNode(true);
  made.firstElementChild.setAttribute("width", `${100 * share}%`);
  return made;
}

function element(name, kind, text) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text) made.textContent = text;
  return made;
}
