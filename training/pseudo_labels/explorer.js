// What a person does: choose, decide, take back, save, open; and the state that is kept.
const STORE = `cropseg-screen:${facts.key}`;
const UNDO = 500;

const SHOW = {
  "all": ["all", () => true],
  "open": ["without a decision", (i) => decisions[i] === undefined],
  "accepted": ["accepted", (i) => decisions[i] === true],
  "rejected": ["rejected", (i) => decisions[i] === false],
  "kept": ["kept automatically", (i) => images[i].keep],
  "dropped": ["dropped automatically", (i) => !images[i].keep],
  "changed": ["decided against automatic", (i) => decisions[i] !== undefined && decisions[i] !== images[i].keep],
};
const SORT = {
  "page": ["as on file", () => 0],
  "best": ["best first", (a, b) => b.quality - a.quality],
  "worst": ["worst first", (a, b) => a.quality - b.quality],
  "agreement": ["least agreement with colour first", (a, b) => a.agreement - b.agreement],
  "score": ["lowest score first", (a, b) => a.score - b.score],
  "cover": ["fewest plants first", (a, b) => a.cover - b.cover],
  "group": ["by scene", (a, b) => a.group.localeCompare(b.group) || b.quality - a.quality],
  "name": ["by name", (a, b) => a.stem.localeCompare(b.stem)],
};

// ---- state: decisions by number of the picture, and how to take them back
let decisions = {};
let undo = [];
let unsaved = false;
let list = []; // numbers of the pictures of this choice, in order
let at = 0; // place in the list
let showMask = true;
let showDepth = false;

function restore() {
  images.forEach((image, i) => { if (image.person !== null) decisions[i] = image.person; });
  try {
    const kept = JSON.parse(localStorage.getItem(STORE));
    if (!kept) return;
    decisions = kept.decisions;
    undo = kept.undo;
    unsaved = kept.unsaved;
    at = kept.image;
  } catch (error) {
    warn(`This browser gives no access to earlier progress (${error.name}): save often.`);
  }
}

function keep() {
  try {
    localStorage.setItem(STORE, JSON.stringify({ decisions, undo, unsaved, image: list[at] ?? 0 }));
  } catch (error) {
    warn(`Progress cannot be kept in this browser (${error.name}): save the decisions before you close the page.`);
  }
}

function warn(text) {
  $("alert").textContent = text;
  $("alert").hidden = !text;
}

// Emptied first, so that the same words are read out again.
function say(text) {
  $("say").textContent = "";
  requestAnimationFrame(() => { $("say").textContent = text; });
}

// ---- which pictures, in which order
function choose(image) {
  const group = $("group").value;
  const words = $("find").value.trim().toLowerCase();
  const [, fits] = SHOW[$("show").value] || ["", (i) => images[i].kind === $("show").value.slice(5)];
  const order = SORT[$("sort").value][1];
  list = images.map((_, i) => i).filter((i) =>
    fits(i) && (!group || images[i].group === group) && images[i].stem.toLowerCase().includes(words));
  list.sort((a, b) => order(images[a], images[b]) || a - b);
  at = Math.max(0, list.indexOf(image));
  $("film").style.width = `${list.length * CELL + 8}px`;
  $("film").replaceChildren();
  render();
}

function go(place, words = "") {
  if (!list.length) return;
  at = Math.min(Math.max(place, 0), list.length - 1);
  render();
  keep();
  const image = images[list[at]];
  say(`${words} ${at + 1} of ${list.length}: ${image.stem}, ${verdictWords(list[at])}`);
}

function nextOpen() {
  const from = list.findIndex((i, place) => place > at && decisions[i] === undefined);
  const place = from >= 0 ? from : list.findIndex((i) => decisions[i] === undefined);
  if (place < 0) say("Every picture of this choice has a decision."); else go(place);
}

// ---- decisions
function decide(accepted) {
  if (!list.length) return;
  const i = list[at];
  undo.push([i, decisions[i] ?? null]);
  undo = undo.slice(-UNDO);
  decisions[i] = accepted;
  unsaved = true;
  go(at + 1, accepted ? "Accepted." : "Rejected.");
}

function takeBack() {
  const last = undo.pop();
  if (!last) { say("Nothing to undo."); return; }
  const [i, before] = last;
  if (before === null) delete decisions[i]; else decisions[i] = before;
  unsaved = true;
  if (list.includes(i)) go(list.indexOf(i), "Undone.");
  else { $("show").value = "all"; $("group").value = ""; $("find").value = ""; choose(i); keep(); say("Undone."); }
}

function verdictWords(i) {
  const automatic = images[i].keep ? "automatic: keep" : `automatic: drop, ${images[i].reason}`;
  if (decisions[i] === undefined) return automatic;
  return decisions[i] ? "accepted" : "rejected";
}

// ---- files
function save() {
  const made = Object.entries(decisions).map(([i, accepted]) => ({
    stem: images[i].stem, verdict: accepted ? "accept" : "reject", label: images[i].label, by: "person",
  }));
  const content = { format: facts.format, version: 1, pool: facts.pool, saved: new Date().toISOString(), decisions: made };
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 1) + "\n"], { type: "application/json" }));
  link.download = `decisions-${facts.pool}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  unsaved = false;
  renderCounts();
  keep();
  say(`Saved ${made.length} decisions as ${link.download}.`);
}

async function open(file) {
  let read;
  try { read = JSON.parse(await file.text()); } catch { read = null; }
  if (!read || read.format !== facts.format || read.version !== 1 || !Array.isArray(read.decisions)) {
    return warn(`${file.name} is damaged or no decisions file. Nothing was changed.`);
  }
  if (read.pool !== facts.pool) {
    return warn(`${file.name} is about other images: its pool is ${read.pool}, this one is ${facts.pool}. Nothing was changed.`);
  }
  const places = new Map(images.map((image, i) => [image.stem, i]));
  let other = 0, taken = 0;
  for (const decision of read.decisions.filter((d) => d.by !== "automatic")) {
    const i = places.get(decision.stem);
    if (i === undefined || images[i].label !== decision.label) { other += 1; continue; }
    if (decision.verdict !== "accept" && decision.verdict !== "reject") { other += 1; continue; }
    undo.push([i, decisions[i] ?? null]);
    decisions[i] = decision.verdict === "accept";
    taken += 1;
  }
  undo = undo.slice(-UNDO);
  unsaved = unsaved || taken > 0;
  warn(other ? `${count(other)} decisions of ${file.name} are about pictures or labels that are not on this page; they were left out.` : "");
  choose(list[at]);
  keep();
  say(`${taken} decisions read.`);
}

// ---- keys
const KEYS = {
  a: () => decide(true), r: () => decide(false), x: () => decide(false), u: takeBack, s: save, n: nextOpen,
  j: () => go(at + 1), k: () => go(at - 1), g: () => focusOn("jump"), "/": () => focusOn("find"),
  m: () => { showMask = !showMask; render(); say(showMask ? "Label on" : "Label off"); },
  d: () => { showDepth = !showDepth; render(); say(showDepth ? "Depth" : "Picture"); },
  "?": () => $("keys").showModal(),
};
const MOVES = {
  ArrowLeft: () => go(at - 1), ArrowRight: () => go(at + 1), Home: () => go(0), End: () => go(list.length - 1),
  PageUp: () => go(at - 10), PageDown: () => go(at + 10),
};

function focusOn(id) { $(id).focus(); $(id).select(); }

document.addEventListener("keydown", (event) => {
  if ($("keys").open) return;
  const typing = event.target.matches("input, select");
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z") {
    event.preventDefault();
    return takeBack();
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const act = MOVES[key] || ($("letters").checked ? KEYS[key] : undefined);
  if (!act) return;
  event.preventDefault();
  act();
});

// A list or slider that was set with the mouse gives the keys back to the pictures.
let pointed = false;
document.addEventListener("pointerdown", () => { pointed = true; }, true);
document.addEventListener("keydown", () => { pointed = false; }, true);
document.addEventListener("change", (event) => { if (pointed) event.target.blur(); });

// The same page in two windows: both show the latest decisions.
addEventListener("storage", (event) => {
  if (event.key !== STORE || !event.newValue) return;
  const image = list[at];
  restore();
  choose(image);
});

// ---- start
function fill(select, entries) {
  select.append(...entries.map(([value, text]) => new Option(text, value)));
}

function start() {
  $("pool").textContent = facts.pool;
  document.title = `Label screening: ${facts.pool}`;
  const number = (values) => values.reduce((sum, v) => sum.set(v, (sum.get(v) || 0) + 1), new Map());
  const kinds = [...number(images.filter((image) => !image.keep).map((image) => image.kind))].sort();
  const groups = [...number(images.map((image) => image.group))].sort();
  fill($("show"), Object.entries(SHOW).map(([value, [text]]) => [value, text]));
  fill($("show"), kinds.map(([kind, n]) => [`kind ${kind}`, `dropped: ${kind} (${count(n)})`]));
  fill($("group"), [["", "all"], ...groups.map(([group, n]) => [group, `${group} (${count(n)})`])]);
  fill($("sort"), Object.entries(SORT).map(([value, [text]]) => [value, text]));
  for (const id of ["show", "group", "sort"]) $(id).addEventListener("change", () => choose(list[at]));
  $("find").addEventListener("input", () => choose(list[at]));
  $("find").addEventListener("keydown", (event) => { if (event.key === "Enter") event.target.blur(); });
  $("jump").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    const place = Number(event.target.value);
    if (Number.isInteger(place) && place >= 1 && place <= list.length) { event.target.blur(); go(place - 1); }
    else say(`Enter a number from 1 to ${list.length}.`);
  });
  $("opacity").addEventListener("input", (event) => { $("mask").style.opacity = event.target.value / 100; });
  const clicks = {
    accept: () => decide(true), reject: () => decide(false), undo: takeBack, "open-next": nextOpen, save,
    previous: () => go(at - 1), next: () => go(at + 1),
    help: () => $("keys").showModal(), open: () => $("file").click(),
  };
  for (const [id, act] of Object.entries(clicks)) $(id).addEventListener("click", act);
  $("film").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) go(Number(button.dataset.place));
  });
  $("strip").addEventListener("scroll", () => renderFilm(false), { passive: true });
  $("file").addEventListener("change", (event) => {
    if (event.target.files[0]) open(event.target.files[0]);
    event.target.value = "";
  });
  $("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  addEventListener("resize", () => renderFilm(true));
  restore();
  choose(at);
}

start();
