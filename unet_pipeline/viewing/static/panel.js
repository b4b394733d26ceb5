"use strict";
// What the page says beside the picture: labels, numbers, the list of cases, keys.

const byId = (id) => document.getElementById(id);
const PER_PAGE = 60;
const REASONS = 4; // at once
const FIRST = ["voxels", "volume_ml", "parts", "largest_part", "cut"];

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "on") element.addEventListener(...value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const css = ([red, green, blue]) => `rgb(${red}, ${green}, ${blue})`;

function swatch(colour) {
  const element = make("span", { class: "swatch", "aria-hidden": "true" });
  element.style.background = css(colour); // by script, which the page's policy allows
  return element;
}

function short(value) {
  if (typeof value !== "number") return value === undefined || value === null ? "" : String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

const dice = (value) => (value === null || value === undefined ? "" : `Dice ${value.toFixed(3)}`);

// Labels: a box to show or hide each, its name to go there, its volume and its Dice.
function showLabels(known, hidden, onToggle, onGo) {
  const rows = known.labels.map((label) => {
    const there = Boolean(label.statistics.voxels);
    const ml = label.statistics.volume_ml;
    const box = make("input", { type: "checkbox", "aria-label": `Show ${label.name}`, on: ["change", () => onToggle(label.label, box.checked)] });
    box.checked = !hidden.has(label.label);
    const name = make("button", { type: "button", disabled: !there, title: there ? "Go there" : "Not in this label map", on: ["click", () => onGo(label)] }, make("bdi", {}, label.name));
    const said = [there || ml === undefined ? "" : "absent", there && ml !== undefined ? `${short(ml)} ml` : "", dice(label.dice)];
    return make("li", { class: known.doubts.includes(String(label.label)) ? "doubt" : null }, box, swatch(label.colour), name, make("span", { class: "value" }, said.filter(Boolean).join(" \u00b7 ")));
  });
  byId("labels").replaceChildren(...rows);
}

function showNumbers(known) {
  const there = known.labels.filter((label) => Object.keys(label.statistics).length);
  const all = new Set(there.flatMap((label) => Object.keys(label.statistics)));
  const columns = [...FIRST.filter((name) => all.has(name)), ...[...all].filter((name) => !FIRST.includes(name))];
  const heads = columns.map((name) => make("th", { scope: "col" }, name.replaceAll("_", " ")));
  const rows = there.map((label) =>
    make("tr", {}, make("th", { scope: "row" }, swatch(label.colour), " ", make("bdi", {}, label.name)), make("td", {}, label.dice === null ? "" : label.dice.toFixed(3)), ...columns.map((name) => make("td", {}, short(label.statistics[name])))),
  );
  byId("numbers").replaceChildren(make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "label"), make("th", { scope: "col" }, "Dice"), ...heads)), make("tbody", {}, ...rows));
  byId("numbers").parentElement.hidden = !rows.length;
  const grid = known.grid;
  const size = grid.shape ? `${grid.shape.join(" \u00d7 ")} voxels of ${grid.spacing_mm.map((mm) => short(mm)).join(" \u00d7 ")} mm, axes ${grid.axcodes}.` : "Nothing is known of this case: its record cannot be read.";
  byId("grid").textContent = [size, known.note].filter(Boolean).join(" ");
}

function showReasons(known) {
  const why = byId("why");
  why.hidden = !known.reasons.length;
  const lines = known.reasons.map((reason) => make("p", {}, make("bdi", {}, reason)));
  const rest = lines.splice(REASONS);
  why.replaceChildren(...lines, ...(rest.length ? [make("details", {}, make("summary", {}, `${rest.length} more`), ...rest)] : []));
}

// The list of cases: one page of it at a time, however many there are.
function showCases(cases, at, words, page, onGo, onPage) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  const holds = (one) => wanted.every((word) => one.case.toLowerCase().includes(word) || one.reasons.some((reason) => reason.toLowerCase().includes(word)));
  const found = cases.map((one, number) => [one, number]).filter(([one]) => holds(one));
  const pages = Math.max(Math.ceil(found.length / PER_PAGE), 1);
  const here = Math.min(page ?? Math.max(Math.floor(found.findIndex(([, number]) => number === at) / PER_PAGE), 0), pages - 1);
  const rows = found.slice(here * PER_PAGE, (here + 1) * PER_PAGE).map(([one, number]) =>
    make("li", {}, make("button", { type: "button", "aria-current": number === at ? "true" : null, on: ["click", () => onGo(number)] }, make("bdi", {}, one.case), make("span", { class: "value" }, one.dice === null ? "" : one.dice.toFixed(3)), ...one.reasons.slice(0, 1).map((reason) => make("span", { class: "reason" }, reason)))),
  );
  byId("cases").replaceChildren(...rows);
  const turn = (to, text) => make("button", { type: "button", disabled: to < 0 || to >= pages, on: ["click", () => onPage(to)] }, text);
  const said = `${found.length.toLocaleString("en")} of ${cases.length.toLocaleString("en")} cases`;
  byId("pages").replaceChildren(...(pages > 1 ? [turn(here - 1, "Earlier"), turn(here + 1, "Later"), `Page ${here + 1} of ${pages}, `] : []), said);
}

function showKeys(keys) {
  byId("keys").replaceChildren(...keys.map(([names, what]) => make("div", {}, make("dt", {}, ...names.flatMap((name, i) => (i ? [" ", make("kbd", {}, name)] : [make("kbd", {}, name)]))), make("dd", {}, what))));
}
