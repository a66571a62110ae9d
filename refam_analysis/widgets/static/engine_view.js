/**
 * What the page with the model shows: the offer to load it, the scenes, the sentence with its magnets, and the answer.
 *
 * Each `create...` gives `{element, update(state)}` and tells what a reader does by the listeners that it was given;
 * nothing here asks the model. Pictures, heat, tokens and matrix are drawn by drawing.js.
 */
import { createChoices, createSlider, createSwitch, percent } from "./controls.js";
import { KINDS, createColourBar, createMatrix, createTokenStrip, drawAnswer, drawHeat } from "./drawing.js";
import { element, largest, moved } from "./drawing.js";

const MASS = "In every block, mean over heads and noise draws. 1 is as much as even attention gives.";

/** Bytes as a reader is told them. */
export function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

/** The offer to load the model. update: phase: "offer", "loading", "starting", "ready", "off"; share; text; bytes. */
export function createOffer({ onLoad }) {
  const text = element("p", { class: "refam-engine-text" });
  const button = element("button", { type: "button", class: "refam-button refam-engine-main", click: onLoad });
  const bar = element("progress", { max: "1", value: "0", "aria-label": "Loading the model" });
  const whole = element("div", { class: "refam-engine-offer" }, text, button, bar);
  function update({ phase, text: said, bytes, share = 0 }) {
    text.textContent = said;
    button.textContent = `Load the model (${megabytes(bytes)})`;
    button.hidden = phase !== "offer";
    bar.hidden = phase !== "loading" && phase !== "starting";
    if (phase === "starting") bar.removeAttribute("value");
    else bar.value = share;
    whole.dataset.phase = phase;
  }
  return { element: whole, update };
}

/** Small pictures to choose from. update: chosen: a number, or null for a scene drawn anew. */
export function createGallery({ sheet, columns, names, onChoose }) {
  const rows = Math.ceil(names.length / columns);
  const place = (index, count) => (count > 1 ? `${(100 * index) / (count - 1)}%` : "0%");
  const buttons = names.map((name, index) => {
    const made = element("button", {
      type: "button", role: "radio", class: "refam-engine-scene", "aria-label": `Scene ${index + 1}: ${name}`,
      title: name, click: () => onChoose(index),
    });
    Object.assign(made.style, {
      backgroundImage: `url("${sheet}")`, backgroundSize: `${100 * columns}% ${100 * rows}%`,
      backgroundPosition: `${place(index % columns, columns)} ${place(Math.floor(index / columns), rows)}`,
    });
    return made;
  });
  const whole = element(
    "div", { class: "refam-engine-gallery", role: "radiogroup", "aria-label": "Scenes of the gallery" }, ...buttons,
  );
  whole.addEventListener("keydown", (event) => {
    const next = moved(event.key, buttons.indexOf(document.activeElement), buttons.length);
    if (next === null) return;
    event.preventDefault();
    buttons[next].focus();
    onChoose(next);
  });
  function update({ chosen }) {
    buttons.forEach((button, index) => {
      button.setAttribute("aria-checked", String(index === chosen));
      button.tabIndex = index === (chosen ?? 0) ? 0 : -1;
    });
  }
  return { element: whole, update };
}

/** A scene drawn anew. update: number: of objects; seed: of the scene that is shown, or null; on: whether it can be. */
export function createDrawing({ onDraw, onNumber }) {
  const slider = createSlider({ label: "Objects", onChange: onNumber });
  const button = element("button", { type: "button", class: "refam-button refam-engine-link", click: onDraw }, "Draw a new scene");
  const said = element("span", { class: "refam-line" });
  const whole = element("div", { class: "refam-engine-drawing" }, slider.element, button, said);
  function update({ number, seed, on }) {
    whole.hidden = !on;
    slider.update({ low: 1, high: 4, value: number, text: number === 1 ? "1 object" : `${number} objects` });
    said.textContent = seed === null ? "" : `Scene number ${seed}, drawn by this page.`;
  }
  return { element: whole, update };
}

/** The sentence. update: text, suggestions, typing: whether one can be typed; the field is left alone while in use. */
export function createSentence({ onType, onSubmit, onSuggestion }) {
  const input = element("input", {
    type: "text", id: "refam-engine-sentence", class: "refam-box", autocomplete: "off", spellcheck: "false", maxlength: "400",
    placeholder: "the red circle on the left", input: () => onType(input.value),
  });
  const button = element("button", { type: "submit", class: "refam-button refam-engine-main" }, "Find it");
  const form = element(
    "form", { class: "refam-engine-sentence", submit: (event) => { event.preventDefault(); onSubmit(input.value); } },
    element("label", { for: input.id, class: "refam-label" }, "What to look for"),
    element("div", { class: "refam-engine-row" }, input, button),
  );
  const chips = element("div", { class: "refam-engine-chips", role: "group", "aria-label": "Sentences to try" });
  const whole = element("div", {}, form, chips);
  function update({ text, suggestions, typing }) {
    form.hidden = !typing;
    if (document.activeElement !== input || input.value.trim() === "") input.value = text;
    const use = (words) => {
      input.value = words;
      onSuggestion(words);
    };
    const chip = (words) => element(
      "button", { type: "button", class: "refam-button refam-engine-chip", click: () => use(words) }, words,
    );
    if (chips.dataset.made === JSON.stringify(suggestions)) return;
    chips.dataset.made = JSON.stringify(suggestions);
    chips.replaceChildren(element("span", { class: "refam-line" }, "Try"), ...suggestions.map(chip));
  }
  return { element: whole, update };
}

/** The magnets to append. update: on: a set of words; left: those that the sentence's own colours leave out. */
export function createMagnets({ magnets, onToggle, onAll }) {
  const all = createSwitch({ label: "Magnets", onChange: onAll });
  const boxes = magnets.map((magnet) => {
    const box = element("input", { type: "checkbox", change: () => onToggle(magnet, box.checked) });
    return { magnet, box, label: element("label", { class: "refam-engine-magnet" }, box, element("span", {}, magnet)) };
  });
  const row = element("div", { class: "refam-engine-chips" }, ...boxes.map(({ label }) => label));
  const whole = element(
    "div", { class: "refam-engine-magnets", role: "group", "aria-label": "Magnets appended to the sentence" },
    all.element, row,
  );
  function update({ on, left, usable }) {
    whole.hidden = !usable;
    all.update({ on: on.size > 0 });
    boxes.forEach(({ magnet, box, label }) => {
      box.checked = on.has(magnet);
      label.classList.toggle("refam-engine-left", left.includes(magnet));
      label.title = left.includes(magnet) ? "left out: the sentence names this colour itself" : "";
    });
  }
  return { element: whole, update };
}

/** Heatmap, point and mask. update: picture, answer (or null), map: {values, rows, columns, name}. */
export function createPictures() {
  const heat = element("canvas", { role: "img", "aria-label": "The heatmap: nothing was asked yet" });
  const found = element("canvas", { role: "img", "aria-label": "The scene" });
  const bar = createColourBar();
  const [heatText, foundText] = [element("figcaption"), element("figcaption")];
  const whole = element(
    "div", { class: "refam-engine-pictures" },
    element("figure", {}, heat, heatText, bar.element), element("figure", {}, found, foundText),
  );
  function update({ picture, answer, map }) {
    whole.hidden = !picture;
    if (!picture) return;
    drawAnswer(found, { picture, mask: answer?.mask ?? null, point: answer?.point ?? null });
    foundText.textContent = answer ? "Point and mask" : "The scene";
    found.setAttribute("aria-label", answer ? "The scene with the point and the mask" : "The scene");
    heat.parentElement.hidden = !map;
    if (!map) return;
    drawHeat(heat, { picture, ...map });
    heatText.textContent = map.name;
    heat.setAttribute("aria-label", `${map.name}, laid over the scene`);
    const most = largest(map.values);
    bar.update({ low: "0", label: map.unit, high: most >= 0.01 ? most.toFixed(3) : most.toExponential(1) });
  }
  return { element: whole, update };
}

/**
 * Tokens with their kinds, and the mass that they receive in every block.
 *
 * update: tokens: [{text, kind, place}], chosen: an index of them, 0 for the whole sentence; received: {text, image},
 * for every block one number a token of the text; side.
 */
export function createTokens({ onChoose, onPreview, onSide }) {
  const strip = createTokenStrip({ label: "Map of", onChoose, onPreview });
  const sides = createChoices({ label: "Attention from", onChange: onSide });
  let shown = null;
  const at = (row, column) => shown.received[shown.side][row][shown.tokens[column + 1].place];
  const matrix = createMatrix({
    label: "Received mass by block and token", announce: false, onChoose: (row, column) => onChoose(column + 1, row),
    describe: (row, column) => {
      const { text, kind } = shown.tokens[column + 1];
      const times = at(row, column).toFixed(2);
      return `block ${row}, “${text}” (${KINDS[kind]?.label ?? kind}): ${times} times what even attention gives`;
    },
  });
  const mass = element(
    "details", { class: "refam-engine-mass" }, element("summary", {}, "Received mass: which tokens draw attention"),
    element("p", { class: "refam-line" }, MASS),
    sides.element, matrix.element,
  );
  const whole = element("div", { class: "refam-engine-tokens" }, strip.element, mass);
  function update(state) {
    whole.hidden = !state;
    if (!state) return;
    shown = state;
    const { tokens, chosen, received, side, row } = state;
    strip.update({ tokens: tokens.map(({ text, kind, note, off }) => ({ text, kind, note, off })), chosen });
    const choices = [{ value: "image", text: "the image" }, { value: "text", text: "the text" }];
    sides.update({ choices, chosen: side });
    const columns = tokens.slice(1);
    const values = received[side].flatMap((block) => columns.map(({ place }) => block[place]));
    const most = Math.log1p(largest(values));
    matrix.update({
      rows: received[side].map((_, block) => String(block)), columns, values,
      share: (value) => Math.log1p(value) / most,
      chosen: [Math.min(row, received[side].length - 1), Math.max(chosen - 1, 0)],
    });
  }
  return { element: whole, update };
}

/** What was found, in a sentence. */
export function sentenceOf({ point: [x, y], mask, seconds, magnets, places }) {
  const share = mask.reduce((sum, on) => sum + (on ? 1 : 0), 0) / mask.length;
  const took = seconds === undefined ? "found when the book was built" : `${seconds.toFixed(2)} seconds`;
  const appended = magnets.length ? `${magnets.length} magnets` : "no magnets";
  const place = `Point at x ${x.toFixed(1)}, y ${y.toFixed(1)}`;
  const named = places.length ? `; place: ${places.map((text) => `“${text}”`).join(", ")}` : "";
  return `${place}${named}; the mask covers ${percent(share)} of the scene; ${appended}; ${took}.`;
}
