"use strict";
// What the page shows: pictures, facts, counts and the film. Reads the state of explorer.js.
// Facts of all pictures are read at once; pictures stay text until they come into view.
const facts = JSON.parse(document.getElementById("facts").textContent);
const images = facts.images;
const $ = (id) => document.getElementById(id);
const CELL = 104; // pixels of the film that a picture takes
// Crop and weed as in overlays; vegetation, either of the two, as neither leaves nor soil are.
const TINTS = { 1: [40, 235, 60], 2: [235, 20, 200], 3: [70, 170, 255] };
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const width = (share) => `${100 * Math.min(1, share)}%`;
const count = (number) => number.toLocaleString("en");

// ---- pictures
function sources(i) {
  const [picture, mask, depth] = $(`p${i}`).textContent.split(" ");
  return {
    picture: `data:image/jpeg;base64,${picture}`,
    mask: `data:image/png;base64,${mask}`,
    depth: depth ? `data:image/jpeg;base64,${depth}` : "",
  };
}

function setSource(element, source) {
  element.hidden = !source;
  if (source) element.src = source; else element.removeAttribute("src");
}

// Plants tinted with an outline, unsure (255) hatched, background clear.
async function paintMask(source, i) {
  const canvas = $("mask");
  if (canvas.dataset.image === String(i)) return;
  const label = new Image();
  label.src = source;
  await label.decode();
  if (list[at] !== i) return; // the next picture was faster
  const [w, h] = [label.naturalWidth, label.naturalHeight];
  canvas.width = w;
  canvas.height = h;
  canvas.dataset.image = i;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(label, 0, 0);
  const drawn = context.getImageData(0, 0, w, h);
  const pixels = drawn.data;
  const values = new Uint8Array(w * h).map((_, k) => pixels[4 * k]);
  const same = (x, y, value) => x < 0 || y < 0 || x >= w || y >= h || values[y * w + x] === value;
  for (let k = 0; k < values.length; k += 1) {
    const [x, y] = [k % w, Math.floor(k / w)];
    const value = values[k];
    if (TINTS[value]) {
      const inner = same(x - 1, y, value) && same(x + 1, y, value) && same(x, y - 1, value) && same(x, y + 1, value);
      pixels.set([...TINTS[value], inner ? 55 : 255], 4 * k);
    } else {
      const hatched = value === 255 && (x + y) % 6 < 2;
      pixels.set([255, 255, 255, hatched ? 150 : 0], 4 * k);
    }
  }
  context.putImageData(drawn, 0, 0);
}

// ---- drawing
function render() {
  const i = list[at];
  const none = i === undefined;
  for (const id of ["large", "plain", "depth"]) $(id).closest("figure").hidden = none;
  $("empty").hidden = !none;
  for (const id of ["accept", "reject", "previous", "next", "open-next"]) $(id).disabled = none;
  $("jump").value = none ? "" : at + 1;
  $("of").textContent = `of ${count(list.length)}`;
  renderFacts(i);
  renderCounts();
  renderFilm(true);
  if (none) return;
  const source = sources(i);
  setSource($("picture"), showDepth && source.depth ? source.depth : source.picture);
  $("mask").hidden = !showMask;
  paintMask(source.mask, i);
  setSource($("plain"), source.picture);
  setSource($("depth"), source.depth);
  $("nodepth").hidden = Boolean(source.depth);
  $("picture").alt = `${showDepth ? "Depth" : "Picture"} of ${images[i].stem}, ${showMask ? "with" : "without"} its label; plants cover ${percent(images[i].cover)}`;
  $("depth").alt = `Depth of ${images[i].stem}`;
}

function renderFacts(i) {
  const image = images[i];
  const decision = decisions[i];
  const side = decision === undefined ? "" : decision ? "accept" : "reject";
  const mark = { accept: "✓ accepted", reject: "✕ rejected", "": "" }[side];
  $("stem").textContent = image ? image.stem : "";
  $("stamp").textContent = image ? mark : "";
  $("stamp").className = `verdict ${side}`;
  $("badge").hidden = !image;
  $("badge").className = `badge ${side}`;
  $("badge").textContent = mark || "no decision yet";
  $("reason").textContent = !image ? "" : image.keep ? "Automatic: keep." : `Automatic: drop, because ${image.reason}.`;
  $("accept").setAttribute("aria-pressed", String(decision === true));
  $("reject").setAttribute("aria-pressed", String(decision === false));
  const rows = $("facts-list");
  rows.replaceChildren();
  if (!image) return;
  const shares = { score: image.score, "agrees with colour": image.agreement, "plants cover": image.cover, unsure: image.unsure };
  for (const [name, share] of Object.entries(shares)) {
    const meter = document.createElement("dd");
    meter.className = "meter";
    meter.setAttribute("aria-hidden", "true");
    meter.append(document.createElement("i"));
    meter.firstChild.style.width = width(share);
    rows.append(cell("dt", name), meter, cell("dd", name === "plants cover" || name === "unsure" ? percent(share) : share.toFixed(2)));
  }
  rows.append(cell("dt", "scene"), cell("dd", image.group, "wide"));
  for (const [name, value] of Object.entries(image.parts)) {
    rows.append(cell("dt", name.replaceAll("_", " ")), cell("dd", String(Number(value.toPrecision(3))), "wide"));
  }
}

function cell(tag, text, kind = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

function renderCounts() {
  let accepted = 0, rejected = 0, kept = facts.keptUnseen;
  images.forEach((image, i) => {
    const decision = decisions[i];
    if (decision === true) accepted += 1;
    if (decision === false) rejected += 1;
    if (decision ?? image.keep) kept += 1;
  });
  $("bar").querySelector(".accept").style.width = width(accepted / images.length);
  $("bar").querySelector(".reject").style.width = width(rejected / images.length);
  $("bar").setAttribute("aria-valuemax", images.length);
  $("bar").setAttribute("aria-valuenow", accepted + rejected);
  $("counts").textContent = `${count(accepted)} accepted, ${count(rejected)} rejected, ${count(images.length - accepted - rejected)} open`;
  const paper = facts.paper;
  $("ratio").textContent = `Kept ${count(kept)} of ${count(facts.size)}, ${percent(kept / Math.max(1, facts.size))}. DepthCropSeg kept ${count(paper.kept)} of ${count(paper.pool)}, ${percent(paper.kept / paper.pool)}.`;
  $("undo").disabled = !undo.length;
  $("save").classList.toggle("unsaved", unsaved);
}

// Only the cells in view exist; those that leave it are taken out.
function renderFilm(follow) {
  const strip = $("strip");
  if (follow) strip.scrollLeft = at * CELL - strip.clientWidth / 2 + CELL / 2;
  const first = Math.max(0, Math.floor(strip.scrollLeft / CELL) - 3);
  const last = Math.min(list.length - 1, Math.ceil((strip.scrollLeft + strip.clientWidth) / CELL) + 3);
  const there = new Map();
  for (const button of [...$("film").children]) {
    const place = Number(button.dataset.place);
    if (place < first || place > last) button.remove(); else there.set(place, button);
  }
  for (let place = first; place <= last; place += 1) {
    const i = list[place];
    let button = there.get(place);
    if (!button) {
      button = document.createElement("button");
      button.type = "button";
      button.tabIndex = -1; // arrows do this; thousands of tab stops would not help
      button.dataset.place = place;
      button.style.left = `${place * CELL + 8}px`;
      button.append(document.createElement("img"), document.createElement("span"));
      button.firstChild.alt = "";
      button.firstChild.src = sources(i).picture;
      $("film").append(button);
    }
    const decision = decisions[i];
    button.className = decision === undefined ? "" : decision ? "accept" : "reject";
    button.lastChild.textContent = decision === undefined ? (images[i].keep ? "" : "–") : decision ? "✓" : "✕";
    button.lastChild.hidden = !button.lastChild.textContent;
    button.setAttribute("aria-label", `${place + 1}: ${images[i].stem}, ${verdictWords(i)}`);
    button.setAttribute("aria-current", String(place === at));
  }
}
