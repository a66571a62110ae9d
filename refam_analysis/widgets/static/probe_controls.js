/** What a reader chooses in the probe: picture, sentence, magnets, switches, noise, comparison; and what leaves it. */
import { element } from "./drawing.js";
import { createChoices, createSlider, createSwitch } from "./controls.js";

const TYPES = ["image/png", "image/jpeg", "image/webp"];
const DRAG_PAUSE = 120; // milliseconds that a slider has to rest before what it says is sent

/** A function that runs once its calls have paused. */
function rested(run) {
  let timer = null;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...values), DRAG_PAUSE);
  };
}

let number = 0;

/** A labelled input. update(value) leaves alone what the reader is typing. */
function createInput({ label, type = "text", attributes = {}, onInput }) {
  number += 1;
  const id = `refam-probe-${number}`;
  const input = element("input", { id, type, class: "refam-box", autocomplete: "off", spellcheck: "false", ...attributes });
  input.addEventListener("input", () => onInput(input.value));
  const whole = element("div", { class: "refam-field" }, element("label", { for: id, class: "refam-label" }, label), input);
  const update = (value) => {
    if (document.activeElement !== input && input.value !== String(value)) input.value = String(value);
  };
  return { element: whole, input, update };
}

function button(text, click, attributes = {}) {
  return element("button", { type: "button", class: "refam-button", click, ...attributes }, text);
}

function section(title, ...children) {
  return element("section", { class: "refam-section" }, element("h4", {}, title), ...children);
}

/** The picture: a drawn scene, an upload, or a file of the kernel's machine. */
function createPicturePart({ onChoose, onUpload, onOpen, onRefuse }) {
  let now = null;
  let tab = null;
  const scene = (changes) => onChoose({ source: "scene", scene: { ...now.chosen.scene, ...changes } });
  const tabs = createChoices({
    label: "Where it is from",
    onChange: (value) => {
      tab = value;
      if (value === "scene" && now.chosen.source !== "scene") scene({});
      update(now);
    },
  });
  const preview = element("img", { class: "refam-preview", alt: "" });
  const title = element("p", { class: "refam-hint" });
  const random = button("Another scene", () => scene({ number: Math.floor(Math.random() * now.offered.scenes) }));
  const which = createInput({
    label: "Scene number", type: "number", attributes: { min: "0", step: "1", inputmode: "numeric" },
    onInput: (value) => value !== "" && scene({ number: Number(value) }),
  });
  const objects = createSlider({ label: "Objects", onChange: rested((value) => scene({ objects: value })) });
  const occlusion = createSlider({ label: "May overlap", onChange: rested((value) => scene({ occlusion: value / 4 })) });
  const shared = createSwitch({ label: "Two share colour or shape", onChange: (on) => scene({ shared_attribute: on }) });
  const file = element("input", { type: "file", accept: TYPES.join(","), class: "refam-box refam-file", "aria-label": "Picture file" });
  file.addEventListener("change", async () => {
    const [chosen] = file.files;
    if (!chosen) return;
    const limit = now.offered.maxBytes;
    if (chosen.size > limit) {
      onRefuse(`“${chosen.name.slice(0, 60)}” has ${(chosen.size / 2 ** 20).toFixed(1)} MiB, and at most ${limit / 2 ** 20} are taken: save it smaller, or as a JPEG.`);
    } else {
      onUpload(chosen.name, await chosen.arrayBuffer());
    }
    file.value = "";
  });
  const path = createInput({ label: "Path of a PNG, JPEG or WebP file", onInput: () => {} });
  path.input.addEventListener("keydown", (event) => event.key === "Enter" && onOpen(path.input.value));
  const parts = {
    scene: element(
      "div", { class: "refam-stackup" },
      element("div", { class: "refam-row" }, which.element, random), element("div", { class: "refam-row" }, objects.element, occlusion.element),
      shared.element,
    ),
    upload: element("div", { class: "refam-stackup" }, file, element("p", { class: "refam-hint" }, "PNG, JPEG or WebP, at most 8 MiB.")),
    file: element("div", { class: "refam-row" }, path.element, button("Open", () => onOpen(path.input.value))),
  };

  function update(state) {
    const before = now;
    now = state;
    const { chosen, offered, picture } = state;
    if (tab === null || (before && before.chosen.source !== chosen.source)) {
      tab = chosen.source === "given" ? "upload" : chosen.source;
    }
    const kinds = [["scene", "Scene"], ["upload", "Upload"], ...(offered.files ? [["file", "File"]] : [])];
    tabs.update({ choices: kinds.map(([value, text]) => ({ value, text })), chosen: tab });
    Object.entries(parts).forEach(([name, part]) => { part.hidden = name !== tab; });
    if (preview.src !== picture) preview.src = picture;
    title.textContent = offered.title;
    preview.alt = offered.title;
    const { number: at, objects: many, occlusion: share, shared_attribute } = chosen.scene;
    which.update(at);
    which.input.max = String(offered.scenes - 1);
    objects.update({ low: 1, high: 6, value: many, text: String(many) });
    occlusion.update({ low: 0, high: 4, value: Math.round(4 * share), text: `${Math.round(100 * share)} %` });
    shared.update({ on: shared_attribute });
  }
  const whole = section(
    "Picture", element("div", { class: "refam-row refam-row-picture" }, preview, element("div", {}, tabs.element, title)),
    ...Object.values(parts),
  );
  return { element: whole, update };
}

/** The sentence, with those that are true of the scene to choose from, and the magnets. */
function createSentencePart({ onChoose }) {
  const sentence = createInput({ label: "What to look for", onInput: (expression) => onChoose({ expression }) });
  const offers = element("div", { class: "refam-offers", role: "group", "aria-label": "Sentences that are true of this scene" });
  const stop = createSwitch({ label: "stop words", onChange: (on) => onChoose({ stop_words: on }) });
  const colours = createSwitch({ label: "colours", onChange: (on) => onChoose({ colours: on }) });
  const own = createInput({ label: "Own words", onInput: (own_words) => onChoose({ own_words }) });
  own.input.placeholder = "such as: picture of";
  stop.element.title = "appends: . a with";
  colours.element.title = "appends: red green blue yellow black white, but none that the sentence names";
  let made = "";
  function update({ chosen, offered }) {
    sentence.update(chosen.expression);
    sentence.input.maxLength = own.input.maxLength = offered.maxCharacters + 1;
    const wanted = JSON.stringify(offered.expressions);
    if (wanted !== made) {
      offers.replaceChildren(...offered.expressions.map((text) => button(text, () => {
        sentence.input.value = text;
        onChoose({ expression: text });
      }, { class: "refam-button refam-offer" })));
      made = wanted;
    }
    stop.update({ on: chosen.stop_words });
    colours.update({ on: chosen.colours });
    own.update(chosen.own_words);
  }
  const parts = [
    section("Sentence", sentence.element, offers),
    section("Magnets", element("div", { class: "refam-row" }, stop.element, colours.element), own.element),
  ];
  return { elements: parts, update };
}

/** How the heatmap is read, at which noise, and what stands beside it. */
function createReadingPart({ onChoose }) {
  const phrase = createSwitch({ label: "NP", onChange: (on) => onChoose({ noun_phrase: on }) });
  const bias = createSwitch({ label: "SB", onChange: (on) => onChoose({ spatial_bias: on }) });
  const gas = createChoices({ label: "GAS, global attention sinks", onChange: (value) => onChoose({ gas: value }) });
  const noise = createSlider({ label: "Noise level", onChange: rested((value) => onChoose({ noise_level: value / 100 })) });
  const seed = createInput({
    label: "Seed", type: "number", attributes: { min: "0", step: "1", inputmode: "numeric" },
    onInput: (value) => value !== "" && onChoose({ seed: Number(value) }),
  });
  const redraw = button("New noise", () => {
    const value = Math.floor(Math.random() * 10_000);
    seed.input.value = String(value);
    onChoose({ seed: value });
  });
  const beside = createChoices({ label: "Beside it", onChange: (value) => onChoose({ comparison: value }) });
  const other = createInput({ label: "Another sentence", onInput: (text) => onChoose({ other: text }) });
  phrase.element.title = "noun phrase: reads only the words that say what it is, not where";
  bias.element.title = "spatial bias: words of place, such as left, favour that part of the picture";
  const gasChoices = [["none", "leave"], ["suppress", "suppress"], ["redirect", "redirect"]];
  const besideChoices = [["nothing", "nothing"], ["no magnets", "no magnets"], ["another sentence", "sentence"]];
  const asChoices = (pairs) => pairs.map(([value, text]) => ({ value, text }));
  function update({ chosen, offered }) {
    const own = (name, fallback) => chosen[name] ?? offered.defaults[name] ?? fallback;
    phrase.update({ on: own("noun_phrase", false) });
    bias.update({ on: own("spatial_bias", false) });
    gas.update({ choices: asChoices(gasChoices), chosen: own("gas", "none") });
    const level = own("noise_level", 0.6);
    noise.update({ low: 0, high: 100, value: Math.round(100 * level), text: level.toFixed(2) });
    seed.update(chosen.seed);
    beside.update({ choices: asChoices(besideChoices), chosen: chosen.comparison });
    other.element.hidden = chosen.comparison !== "another sentence";
    other.update(chosen.other);
  }
  const parts = [
    section("Compare", beside.element, other.element),
    section("Reading", element("div", { class: "refam-row" }, phrase.element, bias.element), gas.element),
    section("Noise", element("div", { class: "refam-row" }, noise.element), element("div", { class: "refam-row" }, seed.element, redraw)),
  ];
  return { elements: parts, update };
}

/**
 * onChoose(changes of what is chosen), onUpload(name, ArrayBuffer), onOpen(path), onExport(what), onRefuse(sentence).
 * update: chosen, offered: as Python has them; picture: its address.
 */
export function createProbeControls({ onChoose, onUpload, onOpen, onExport, onRefuse }) {
  const parts = [
    createPicturePart({ onChoose, onUpload, onOpen, onRefuse }), createSentencePart({ onChoose }),
    createReadingPart({ onChoose }),
  ];
  const exports = [["script", "Script"], ["svg", "SVG"], ["png", "PNG"], ["recording", "Recording"]];
  const save = section(
    "Take away",
    element("div", { class: "refam-row" }, ...exports.map(([what, text]) => button(text, () => onExport(what)))),
  );
  const elements = parts.flatMap((part) => part.elements ?? [part.element]);
  const whole = element("form", { class: "refam-probe-controls", "aria-label": "What to ask" }, ...elements, save);
  whole.addEventListener("submit", (event) => event.preventDefault());
  return { element: whole, update: (state) => parts.forEach((part) => part.update(state)) };
}
