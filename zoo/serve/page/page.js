// The page: two photos and whether they show the same person; with a server also its gallery. All text from outside is
// set as text, never as markup. backend.js answers: over HTTP, or in the browser itself.

import * as backend from "./backend.js";

const $ = (id) => document.getElementById(id);
const chosen = {};
let facts = null;
let asked = 0;

function make(tag, { text, cls, ...attributes } = {}, ...children) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (cls) node.className = cls;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function shape(tag, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function pictureOf(png, alt) {
  const blob = png instanceof Blob ? png : new Blob([Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0))], { type: "image/png" });
  const image = make("img", { alt });
  image.src = URL.createObjectURL(blob);
  image.onload = () => URL.revokeObjectURL(image.src);
  return image;
}

function complain(error) {
  $("problem").hidden = !error;
  $("problem").textContent = error ? error.message : "";
  if (error && error.status === 401 && facts === null) $("token-form").hidden = false;
}

// ---- choosing photos

function buildSlot(slot) {
  const { slot: name, title } = slot.dataset;
  const input = make("input", { type: "file", accept: "image/*", id: `file-${name}`, cls: "unseen" });
  const drop = make("label", { for: input.id, cls: "drop" });
  const camera = make("button", { text: "Use the camera", type: "button", cls: "plain", "aria-label": `Use the camera: ${title}` });
  const told = make("span", { cls: "quiet" });
  const empty = () => drop.replaceChildren(make("span", {}, make("strong", { text: title }), "Drop a photo here or choose one"));
  empty();
  slot.append(input, drop, make("div", { cls: "row" }, told, camera));
  camera.hidden = !navigator.mediaDevices;
  input.onchange = () => input.files[0] && take(name, input.files[0]);
  camera.onclick = async () => {
    const blob = await shoot();
    if (blob) take(name, blob);
  };
  for (const event of ["dragenter", "dragover"]) {
    drop.addEventListener(event, (e) => { e.preventDefault(); drop.classList.add("over"); });
  }
  for (const event of ["dragleave", "drop"]) drop.addEventListener(event, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (e) => {
    e.preventDefault();
    if (e.dataTransfer.files[0]) take(name, e.dataTransfer.files[0]);
  });
  slot.show = (blob) => {
    const image = make("img", { alt: title });
    const view = make("span", { cls: "view" }, image);
    if (slot.url) URL.revokeObjectURL(slot.url);
    slot.url = image.src = URL.createObjectURL(blob);
    image.onerror = () => view.replaceChildren(make("span", { text: "This browser cannot show the format; its faces are searched all the same." }));
    drop.classList.add("full");
    drop.replaceChildren(view);
    told.textContent = "";
  };
  slot.mark = (size, faces, others, words) => {
    const view = drop.querySelector(".view");
    view.querySelector("svg")?.remove();
    const svg = shape("svg", { viewBox: `0 0 ${size[1]} ${size[0]}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    for (const { box } of others) svg.append(rectangle(box, "other"));
    for (const { box, landmarks } of faces) {
      if (box) svg.append(rectangle(box, ""));
      for (const [cx, cy] of landmarks || []) svg.append(shape("circle", { cx, cy, r: Math.max(1.5, box[2] / 60) }));
    }
    view.append(svg);
    told.textContent = words;
  };
}

const rectangle = ([x, y, width, height], cls) => shape("rect", { x, y, width, height, class: cls });

async function shoot() {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 1280 } }, audio: false });
  } catch {
    complain(new Error("The camera cannot be used: there is none, or the browser was not allowed to."));
    return null;
  }
  complain(null);
  const video = $("video");
  video.srcObject = stream;
  await video.play();
  $("camera").showModal();
  const blob = await new Promise((resolve) => {
    $("shoot").onclick = () => {
      const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext("2d").drawImage(video, 0, 0);
      canvas.toBlob(resolve, "image/jpeg", 0.95);
    };
    $("leave").onclick = () => resolve(null);
    $("camera").oncancel = () => resolve(null);
  });
  stream.getTracks().forEach((track) => track.stop());
  if ($("camera").open) $("camera").close();
  return blob;
}

function take(name, blob) {
  chosen[name] = blob;
  document.querySelector(`[data-slot=${name}]`).show(blob);
  if (name === "who") identify();
  else verify();
}

// ---- verification

function options() {
  const threshold = $("threshold").value;
  return { threshold: threshold === "" ? null : threshold, face: $("face").value, aligned: $("aligned").checked };
}

async function verify() {
  if (!chosen.a || !chosen.b) return;
  const mine = ++asked;
  const verdict = $("verdict");
  verdict.hidden = false;
  verdict.replaceChildren(make("p", { cls: "quiet", text: "Comparing …" }));
  try {
    const answer = await backend.verify(chosen.a, chosen.b, options());
    if (mine !== asked) return;
    complain(null);
    for (const name of ["a", "b"]) {
      const found = answer[name];
      const words = found.aligned ? "An aligned crop" : `${found.faces} ${found.faces === 1 ? "face" : "faces"}`;
      document.querySelector(`[data-slot=${name}]`).mark(found.size, [found], [], words);
    }
    verdict.replaceChildren(...story(answer));
  } catch (error) {
    if (mine !== asked) return;
    verdict.hidden = true;
    complain(error);
  }
}

function story(answer) {
  const kinds = { true: ["same", "The same person"], false: ["different", "Different people"], null: ["none", "No verdict"] };
  const [cls, words] = kinds[answer.same];
  const crops = make("div", { cls: "crops" }, pictureOf(answer.a.crop, "First face, aligned"), pictureOf(answer.b.crop, "Second face, aligned"));
  const said = make("div", {},
    make("p", { cls: `words ${cls}`, text: words }),
    make("p", { text: `Similarity ${answer.similarity.toFixed(4)}` }),
    make("p", { cls: "quiet", text: answer.threshold === null ? `No threshold: ${answer.origin}` : `Threshold ${answer.threshold.toFixed(4)}: ${answer.origin}` }));
  const notes = answer.notes.length ? [make("h3", { text: "Notes" }), make("ul", {}, ...answer.notes.map((text) => make("li", { text })))] : [];
  return [make("div", { cls: "answer" }, crops, said, scale(answer)), ...notes];
}

function scale({ similarity, threshold, far }) {
  const lowest = Math.min(-0.2, similarity, threshold ?? 0);
  const at = (value) => `${(100 * (value - lowest)) / (1 - lowest)}%`;
  const place = (node, value) => {
    node.style.left = at(value);
    const share = (value - lowest) / (1 - lowest);
    if (share < 0.2) node.classList.add("near");
    if (share > 0.8) node.classList.add("far");
    return node;
  };
  const bar = make("div", { cls: "bar" });
  const label = threshold === null ? "no threshold" : `threshold ${threshold.toFixed(3)}${far ? `, FAR ${far}` : ""}`;
  const parts = [bar];
  if (threshold !== null) {
    const range = make("span");
    range.style.left = at(threshold);
    bar.append(range);
    const pin = make("div", { cls: "pin limit" });
    pin.style.left = at(threshold);
    parts.push(pin, place(make("div", { cls: "mark limit", text: label }), threshold));
  }
  const pin = make("div", { cls: "pin value" });
  pin.style.left = at(similarity);
  parts.push(pin, place(make("div", { cls: "mark value", text: similarity.toFixed(3) }), similarity));
  return make("div", { cls: "scale", role: "img", "aria-label": `Similarity ${similarity.toFixed(3)} on a scale from ${lowest.toFixed(1)} to 1, ${label}` }, ...parts);
}

// ---- the gallery

async function identify() {
  const found = $("people-found");
  found.replaceChildren(make("p", { cls: "quiet", text: "Searching …" }));
  try {
    const threshold = $("threshold").value;
    const answer = await backend.identify(chosen.who, { threshold: threshold === "" ? null : threshold });
    complain(null);
    const image = document.querySelector("[data-slot=who] img");
    if (image && image.naturalWidth) {
      const faces = answer.faces.filter(({ box }) => box);
      document.querySelector("[data-slot=who]").mark([image.naturalHeight, image.naturalWidth], faces, [], `${answer.faces.length} ${answer.faces.length === 1 ? "face" : "faces"}`);
    }
    found.replaceChildren(...answer.faces.map((face, place) => {
      const name = face.identified ?? (answer.threshold === null ? "No verdict" : "Nobody in the gallery");
      const cls = face.identified ? "same" : answer.threshold === null ? "none" : "different";
      const ranks = face.candidates.map((one) => make("li", { text: `${one.name}: ${one.similarity.toFixed(3)}` }));
      return make("div", { cls: "found" }, pictureOf(face.crop, `Face ${place + 1}`),
        make("div", {}, make("strong", { cls, text: name }), make("ol", {}, ...ranks), ...face.notes.map((text) => make("p", { cls: "quiet", text }))));
    }), make("p", { cls: "quiet", text: answer.threshold === null ? `No threshold: ${answer.origin}` : `Threshold ${answer.threshold.toFixed(4)}: ${answer.origin}` }));
  } catch (error) {
    found.replaceChildren();
    complain(error);
  }
}

async function showPeople(from = 0) {
  const list = $("people");
  const { total, people } = await backend.people(from, 100);
  if (!from) list.replaceChildren();
  for (const { name, photos } of people) {
    const item = make("li", {}, make("span", { text: `${name} (${photos})`, dir: "auto" }));
    if (facts.enrol) {
      const button = make("button", { type: "button", cls: "plain", text: "Remove", "aria-label": `Remove ${name}` });
      button.onclick = () => change(() => backend.remove(name), `Removed ${name}.`, button);
      item.append(button);
    }
    list.append(item);
  }
  const shown = list.children.length;
  $("people-count").textContent = `${total} ${total === 1 ? "person" : "people"}`;
  $("more").hidden = shown >= total;
  $("more").onclick = () => showPeople(shown).catch(complain);
}

async function change(call, words, button) {
  backend.useToken($("change-token").value || $("token").value);
  button.disabled = true;
  try {
    const done = await call();
    $("enrolled").textContent = [words, ...(done.notes || [])].join(" ");
    complain(null);
    await showPeople();
    return true;
  } catch (error) {
    complain(error.status === 401 ? new Error("The token is missing or wrong: it is the first line of the server's token file.") : error);
    if (error.status === 401) $("change-token").focus();
    return false;
  } finally {
    button.disabled = false;
  }
}

// ---- start

async function start() {
  try {
    facts = await backend.facts();
  } catch (error) {
    complain(error);
    $("facts").textContent = error.status === 401 ? "This server wants its token first." : "";
    return;
  }
  complain(null);
  $("token-form").hidden = true;
  const threshold = facts.threshold === null ? "no threshold is known: the answer is the similarity alone" : `threshold ${facts.threshold.toFixed(4)}, ${facts.origin}`;
  $("facts").textContent = `Model ${facts.model}; ${threshold}.`;
  $("identify").hidden = $("gallery").hidden = facts.people === null;
  $("enrol-form").hidden = !facts.enrol;
  if (facts.token && $("token").value) $("change-token").value = $("token").value;
  if (facts.people !== null) await showPeople().catch(complain);
}

document.querySelectorAll(".slot").forEach(buildSlot);
$("where").textContent = backend.where;
$("token-form").onsubmit = (event) => {
  event.preventDefault();
  backend.useToken($("token").value);
  start();
};
$("enrol-form").onsubmit = async (event) => {
  event.preventDefault();
  const name = $("name").value.trim();
  const done = await change(() => backend.enrol(name, $("photo").files[0]), `Enrolled a photo of ${name}.`, event.submitter || $("enrol-form").querySelector("button"));
  if (done) {
    $("name").value = "";
    $("photo").value = "";
  }
};
for (const id of ["threshold", "face", "aligned"]) $(id).onchange = () => { verify(); if (chosen.who) identify(); };
// a photo that misses its place must not replace the page
for (const event of ["dragover", "drop"]) window.addEventListener(event, (e) => e.preventDefault());
start();
