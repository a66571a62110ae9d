/**
 * The probe: what a reader chooses on the left, what the model answers on the right.
 *
 * An anywidget module. Choices and the picked view go to Python, which answers with tokens, matrices and maps; nothing
 * is computed here but colours. Every text from Python or from a reader becomes a text node.
 */
import { decodePicture, element } from "./drawing.js";
import { createChoices } from "./controls.js";
import { createProbeControls } from "./probe_controls.js";
import { createAnswer } from "./probe_answer.js";

const NOTHING_PICKED = { block: null, head: null, token: null };

/** What runs, what was wrong, and the way to end it. */
function createStatus({ onCancel }) {
  const text = element("span", { class: "refam-status-text", role: "status" });
  const bar = element("progress", { class: "refam-status-bar", "aria-label": "forward passes" });
  const cancel = element("button", { type: "button", class: "refam-button", click: onCancel }, "Cancel");
  const whole = element("div", { class: "refam-status" }, text, bar, cancel);
  function update({ kind, text: said, done, total }) {
    whole.dataset.kind = kind ?? "note";
    if (text.textContent !== said) text.textContent = said ?? "";
    bar.hidden = cancel.hidden = kind !== "busy";
    if (total) [bar.max, bar.value] = [total, done];
    else bar.removeAttribute("value");
  }
  return { element: whole, update };
}

/** Hand a file to the reader. */
function download(name, content) {
  const address = URL.createObjectURL(new Blob([content]));
  const link = element("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

function render({ model, el }) {
  let picture = null; // its pixels, once they are decoded
  let decoded = "";
  let answers = [];

  const send = (name, value) => {
    model.set(name, value);
    model.save_changes();
  };
  const choose = (changes) => send("chosen", { ...model.get("chosen"), ...changes });
  const pick = (changes) => send("view", { ...model.get("view"), ...changes });

  const controls = createProbeControls({
    onChoose: choose,
    onUpload: (name, content) => model.send({ type: "upload", name }, undefined, [content]),
    onOpen: (path) => model.send({ type: "open", path }),
    onExport: (what) => model.send({ type: "export", what }),
    onRefuse: (text) => status.update({ kind: "error", text }),
  });
  const status = createStatus({ onCancel: () => model.send({ type: "cancel" }) });
  const measures = createChoices({ label: "What the matrices show", onChange: (measure) => pick({ measure }) });
  const back = element(
    "button", { type: "button", class: "refam-button", click: () => pick(NOTHING_PICKED) }, "Back to the heatmap",
  );
  const places = element("div", { class: "refam-answers" });
  const name = element("span", { class: "refam-probe-model" });
  const root = element(
    "section",
    { class: "refam-drawn refam-probe", "aria-label": "RefAM probe", "data-lm-suppress-shortcuts": "true" },
    element("header", { class: "refam-probe-head" }, element("strong", {}, "RefAM probe"), name, status.element),
    element(
      "div", { class: "refam-probe-body" }, controls.element,
      element(
        "div", { class: "refam-probe-answers" }, element("div", { class: "refam-toolbar" }, measures.element, back), places,
      ),
    ),
  );

  function drawChoices() {
    const offered = model.get("offered");
    name.textContent = offered.model;
    controls.update({ chosen: model.get("chosen"), offered, picture: model.get("picture") });
  }

  function drawStatus() {
    const now = model.get("status");
    status.update(now);
    root.dataset.busy = String(now.kind === "busy");
  }

  function drawAnswers() {
    const [found, maps, view] = [model.get("answers"), model.get("maps"), model.get("view")];
    while (answers.length < found.length) {
      answers.push(createAnswer({ onPick: pick }));
      places.append(answers.at(-1).element);
    }
    while (answers.length > found.length) answers.pop().element.remove();
    places.dataset.count = String(found.length);
    answers.forEach((answer, side) => answer.update({ found: found[side], map: maps[side] ?? null, picture, view }));
    const known = found.find((one) => !one.error);
    if (known) {
      const choices = known.measures.map(({ name: value, unit }) => ({ value, text: SHORT[value] ?? value, note: unit }));
      measures.update({ choices, chosen: view.measure });
    }
    back.disabled = view.block === null && view.token === null;
  }

  async function drawPicture() {
    const address = model.get("picture");
    if (address !== decoded) {
      const pixels = await decodePicture(address);
      if (address !== model.get("picture")) return; // another one came meanwhile
      [picture, decoded] = [pixels, address];
    }
    drawAnswers();
  }

  const listeners = [
    ["change:chosen change:offered", drawChoices],
    ["change:status", drawStatus],
    ["change:answers change:maps change:view", drawAnswers],
    ["change:picture", drawPicture],
    ["msg:custom", (message, buffers) => {
      if (message.type === "download") download(message.name, buffers[0]);
    }],
  ].flatMap(([names, listener]) => names.split(" ").map((one) => [one, listener]));
  listeners.forEach(([event, listener]) => model.on(event, listener));
  drawChoices();
  drawStatus();
  drawPicture();
  el.append(root);
  return () => listeners.forEach(([event, listener]) => model.off(event, listener));
}

const SHORT = {
  "received from image": "mass from image",
  "received from text": "mass from text",
  entropy: "entropy",
};

export default { render };
