"use strict";
// Shows one case at a time with NiiVue.

const WINDOWS = [["Soft tissue", -160, 240], ["Liver", -45, 105], ["Lung", -1350, 150], ["Bone", -500, 1300], ["Brain", 0, 80]];
const VIEWS = [["Planes and 3D", "m"], ["Axial", "a"], ["Coronal", "c"], ["Sagittal", "s"], ["3D", "r"]];
const at = { cases: [], number: 0, known: null, hidden: new Set(), windows: [], page: null, turn: 0, opacity: 0.4, shown: true, view: 0, sure: false, reading: false };
// The margin of a voxel, a byte: nothing where nothing is known (0) or all is sure, and the more the less sure.
const DOUBT = { I: [0, 1, 51, 128, 204, 255], R: [255, 255, 255, 210, 190, 190], G: [220, 220, 60, 0, 0, 0], B: [255, 255, 230, 180, 160, 160], A: [0, 240, 210, 120, 0, 0] };
let nv = null;

function say(text) { byId("state").textContent = text; }

async function fetched(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

async function start() {
  const list = await fetched("cases.json");
  at.cases = list.cases;
  byId("run").textContent = `Run ${list.run}, model ${list.model}`;
  document.title = `Run ${list.run}`;
  if (!at.cases.length) { byId("name").textContent = "No case of this run has a label map"; return; }
  const viewer = new niivue.Niivue({ backColor: [0, 0, 0, 1], show3Dcrosshair: true, isRadiologicalConvention: true, dragAndDropEnabled: false, loadingText: "", logLevel: "error", crosshairColor: [0.45, 0.7, 1, 0.6], crosshairWidth: 0.25, crosshairWidthUnit: "percent", sagittalNoseLeft: true, fontColor: [0.8, 0.8, 0.8, 1], viewModeHotKey: "none", clipPlaneHotKey: "none", cycleClipPlaneHotKey: "none", multiplanarShowRender: niivue.SHOW_RENDER.ALWAYS, multiplanarLayout: niivue.MULTIPLANAR_TYPE.GRID, tileMargin: 4 });
  try {
    await viewer.attachToCanvas(byId("canvas"));
    nv = viewer;
    nv.onLocationChange = whereItIs;
    nv.addColormap("doubt", DOUBT);
  } catch {
    nv = null;
  }
  const asked = Number.parseInt(location.hash.slice(1), 10);
  await go(asked > 0 && asked <= at.cases.length ? asked - 1 : 0);
}

async function go(number) {
  if (number < 0 || number >= at.cases.length) return;
  const turn = ++at.turn;
  Object.assign(at, { number, page: null, known: null });
  byId("name").textContent = at.cases[number].case;
  byId("place").textContent = `${(number + 1).toLocaleString("en")} of ${at.cases.length.toLocaleString("en")}`;
  byId("previous").disabled = number === 0;
  byId("next").disabled = number === at.cases.length - 1;
  byId("here").textContent = "";
  history.replaceState(null, "", `#${number + 1}`);
  list();
  say("Loading");
  try {
    const known = await fetched(`case/${number}.json`);
    if (turn !== at.turn) return;
    at.known = known;
    showReasons(known);
    labels();
    showNumbers(known);
    channels();
    byId("sure-line").hidden = !known.confidence;
    await load(turn);
  } catch (error) {
    if (turn === at.turn) picture(error.message);
  }
}

async function load(turn) {
  byId("picture").hidden = true;
  if (!nv) return picture("This browser has no WebGL 2. This is the picture that the run stored.");
  if (!at.known.images.length) return picture("The list of cases does not name the image of this one.");
  const files = [byId("channel").value, "labels.nii"].map((name) => `case/${at.number}/${name}`);
  try {
    await nv.loadVolumes([{ url: files[0], name: "image.nii" }, { url: files[1], name: "labels.nii", opacity: at.opacity }]);
  } catch {
    return turn === at.turn ? picture(await reasonOf(files)) : undefined;
  }
  if (turn !== at.turn) return undefined;
  if (nv.volumes.length < 2) return picture(await reasonOf(files));
  windows();
  colours();
  opacity();
  await doubts(turn);
  if (turn !== at.turn) return undefined;
  const first = at.known.labels.find((label) => String(label.label) === at.known.doubts[0] && label.statistics.voxels);
  goTo(first ?? at.known.labels.find((label) => label.statistics.voxels));
  say("");
  document.body.dataset.shown = at.number;
  return undefined;
}

// NiiVue says only that a file could not be read; the server says why.
async function reasonOf(names) {
  for (const name of names) {
    const answer = await fetch(name);
    if (!answer.ok) return (await answer.text()).trim();
    await answer.body.cancel();
  }
  return "The volume could not be shown.";
}

function picture(text) {
  const image = byId("picture");
  image.src = `case/${at.number}/picture.png`;
  image.alt = `Three planes of ${at.cases[at.number].case} with its label map`;
  image.hidden = false;
  say(text);
  document.body.dataset.shown = at.number;
}

function colours() {
  const lut = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: ["background"] };
  for (const { label, name, colour } of at.known.labels) {
    lut.R.push(colour[0]); lut.G.push(colour[1]); lut.B.push(colour[2]);
    lut.A.push(at.hidden.has(label) ? 0 : 255); lut.I.push(label); lut.labels.push(name);
  }
  nv.volumes[1].setColormapLabel(lut);
  nv.opts.showLegend = false;
  nv.updateGLVolume();
}

// The map of how sure the network is lies above the label map, and is read when it is asked for.
async function doubts(turn) {
  byId("sure").checked = at.sure;
  await readDoubts(turn);
  document.body.dataset.doubts = Boolean(nv && nv.volumes.length > 2);
}

async function readDoubts(turn) {
  if (!nv || nv.volumes.length < 2 || !at.known?.confidence || at.reading) return undefined;
  if (!at.sure) return nv.volumes.length > 2 ? nv.removeVolume(nv.volumes[2]) : undefined;
  if (nv.volumes.length > 2) return undefined;
  const file = `case/${at.number}/confidence.nii`;
  at.reading = true;
  let added = null;
  try {
    added = await nv.addVolumeFromUrl({ url: file, name: "confidence.nii", colormap: "doubt", opacity: 1, cal_min: 0, cal_max: 1 });
  } catch {
    const why = await reasonOf([file]);
    if (turn === at.turn) say(why);
  }
  at.reading = false;
  if (turn === at.turn && at.sure) return undefined;
  if (nv.volumes.includes(added)) nv.removeVolume(added); // another case came, or it was put off again
  return turn === at.turn ? undefined : readDoubts(at.turn);
}

function setDoubts(isOn) {
  if (!at.known?.confidence) return;
  at.sure = isOn;
  doubts(at.turn);
}

function opacity() {
  byId("opacity").value = at.opacity;
  byId("opacity-said").textContent = at.shown ? `${Math.round(100 * at.opacity)} %` : "hidden";
  if (nv && nv.volumes.length > 1) nv.setOpacity(1, at.shown ? at.opacity : 0);
}

// CT is known by its values: air is at -1000. Everything else has no units, so what is there counts.
function windows() {
  const image = nv.volumes[0];
  const { cal_min: robustLow, cal_max: robustHigh } = image;
  const [low, high] = ends(image.img);
  const isCT = low <= -400 && low >= -4096 && high > 100 && high < 40000;
  const span = robustHigh - robustLow;
  const automatic = [["Automatic", robustLow, robustHigh], ["Brighter", robustLow, robustLow + 0.6 * span], ["Darker", robustLow, robustLow + 1.6 * span], ["All values", low, high]];
  at.windows = isCT ? [...WINDOWS, ...automatic] : automatic;
  byId("window").replaceChildren(...at.windows.map(([name, from, to], i) => make("option", { value: i }, `${name} (${short(from)} to ${short(to)})`)));
  setWindow(0);
}

// NiiVue's own leaves out values that are frequent, such as air.
function ends(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

function setWindow(index) {
  const [, low, high] = at.windows[index];
  byId("window").value = index;
  Object.assign(nv.volumes[0], { cal_min: low, cal_max: high });
  nv.updateGLVolume();
}

function channels() {
  const { images } = at.known;
  byId("channel").replaceChildren(...images.map((name, i) => make("option", { value: name }, String(i + 1))));
  byId("channel-line").hidden = images.length < 2;
}

function labels() {
  showLabels(at.known, at.hidden, (label, isShown) => { at.hidden[isShown ? "delete" : "add"](label); if (nv && nv.volumes.length > 1) colours(); }, goTo);
}

function list() {
  showCases(at.cases, at.number, byId("find").value, at.page, go, (page) => { at.page = page; list(); });
}

// To the middle of a label, as its statistics give it in mm.
function goTo(label) {
  const mm = label && ["x", "y", "z"].map((axis) => label.statistics[`centroid_${axis}_mm`]);
  if (!nv || !nv.volumes.length || !mm || mm.some((value) => typeof value !== "number")) return;
  nv.scene.crosshairPos = nv.mm2frac(mm);
  nv.updateGLVolume();
  nv.createOnLocationChange();
}

function whereItIs(place) {
  const [image, labelMap, sure] = place.values;
  const label = labelMap && at.known ? at.known.labels.find((one) => one.label === Math.round(labelMap.value)) : null;
  const mm = Array.from(place.mm).slice(0, 3).map((value) => value.toFixed(0)).join(", ");
  byId("here").textContent = [`${mm} mm`, image ? short(Number(image.value)) : "", label ? label.name : "", sure ? `margin ${Number(sure.value).toFixed(2)}` : ""].filter(Boolean).join(" \u00b7 ");
}

function setView(index) {
  at.view = index;
  [...byId("views").children].forEach((button, i) => button.setAttribute("aria-pressed", i === index));
  const types = niivue.SLICE_TYPE;
  if (nv) nv.setSliceType([types.MULTIPLANAR, types.AXIAL, types.CORONAL, types.SAGITTAL, types.RENDER][index]);
}

function setOutline(isOn) {
  byId("outline").checked = isOn;
  if (nv) nv.setAtlasOutline(isOn ? 1 : 0);
}

function nextDoubtful() {
  const later = at.cases.findIndex((one, i) => i > at.number && one.reasons.length);
  go(later < 0 ? at.cases.findIndex((one) => one.reasons.length) : later);
}

function setOpacity(value) {
  at.opacity = Math.min(Math.max(value, 0), 1);
  at.shown = true;
  opacity();
}

const KEYS = {
  n: () => go(at.number + 1),
  p: () => go(at.number - 1),
  d: nextDoubtful,
  l: () => { at.shown = !at.shown; opacity(); },
  "+": () => setOpacity(at.opacity + 0.1),
  "-": () => setOpacity(at.opacity - 0.1),
  o: () => setOutline(!byId("outline").checked),
  u: () => setDoubts(!at.sure),
  w: () => at.windows.length && nv && setWindow((Number(byId("window").value) + 1) % at.windows.length),
  ...Object.fromEntries(VIEWS.map(([, key], i) => [key, () => setView(i)])),
};
const SAID = [[["n", "p"], "next, previous case"], [["d"], "next doubtful case"], [["l"], "label map on and off"], [["+", "-"], "more, less of it"], [["o"], "outlines only"], [["u"], "where the network doubts"], [["w"], "next window"], [["m"], "planes and 3D"], [["a", "c", "s"], "axial, coronal, sagittal"], [["r"], "3D"]];

document.addEventListener("keydown", (event) => {
  const inText = event.target.matches?.("input[type=search], select, input[type=range]");
  const act = KEYS[event.key];
  if (inText || !act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
});
byId("previous").addEventListener("click", KEYS.p);
byId("next").addEventListener("click", KEYS.n);
byId("opacity").addEventListener("input", (event) => setOpacity(Number(event.target.value)));
byId("window").addEventListener("change", (event) => nv && setWindow(Number(event.target.value)));
byId("channel").addEventListener("change", () => load(++at.turn));
byId("outline").addEventListener("change", (event) => setOutline(event.target.checked));
byId("sure").addEventListener("change", (event) => setDoubts(event.target.checked));
byId("find").addEventListener("input", () => { at.page = null; list(); });
byId("views").replaceChildren(...VIEWS.map(([name, key], i) => make("button", { type: "button", title: `${name} (${key})`, "aria-pressed": String(i === 0), on: ["click", () => setView(i)] }, name)));
showKeys(SAID);
opacity();
start().catch((error) => { byId("name").textContent = "This run cannot be shown"; say(error.message); });
