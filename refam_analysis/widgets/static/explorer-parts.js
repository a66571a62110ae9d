/**
 * The explorer's parts that no other page has, and how all parts lie on the page.
 */
import { KINDS, drawGrid, element, moved } from "./drawing.js";

/** Pictures of which one is chosen. headings: [{name, title, thumbnail}]. update: chosen: a name. */
export function createGallery({ headings, onChoose }) {
  const buttons = headings.map(({ name, title, thumbnail }) => element(
    "button",
    { type: "button", role: "radio", class: "refam-thumb", "aria-label": title, title, click: () => onChoose(name) },
    element("img", { src: thumbnail, alt: "", width: 96, height: 96, decoding: "async" }),
  ));
  const whole = element("div", { class: "refam-gallery", role: "radiogroup", "aria-label": "Scene" }, ...buttons);
  whole.addEventListener("keydown", (event) => {
    const next = moved(event.key, buttons.indexOf(document.activeElement), buttons.length);
    if (next === null) return;
    event.preventDefault();
    buttons[next].focus();
    onChoose(headings[next].name);
  });
  function update({ chosen }) {
    buttons.forEach((button, index) => {
      const here = headings[index].name === chosen;
      button.setAttribute("aria-checked", String(here));
      button.tabIndex = here ? 0 : -1;
    });
  }
  whole.hidden = headings.length < 2;
  return { element: whole, update };
}

/** A small map a block: which patches receive. update: blocks, values: a list a block, rows, columns, share, chosen. */
export function createPatches({ onChoose }) {
  const row = element("div", { class: "refam-patches" });
  let canvases = [];
  function make(blocks) {
    canvases = blocks.map(() => element("canvas", { "aria-hidden": "true" }));
    row.replaceChildren(...blocks.map((block, place) => element(
      "button", { type: "button", class: "refam-patch-map", click: () => onChoose(place) },
      canvases[place], element("span", {}, `block ${block}`),
    )));
  }
  function update({ blocks, values, rows, columns, share, chosen }) {
    if (canvases.length !== blocks.length) make(blocks);
    canvases.forEach((canvas, place) => {
      drawGrid(canvas, { values: values[place], rows, columns, share });
      canvas.parentElement.setAttribute("aria-pressed", String(place === chosen));
    });
  }
  return { element: row, update };
}

/** Which patch of a picture is pointed at: by hovering, tap, or arrow keys once it has the focus. */
export function watchPatches(frame, grid, onPatch) {
  const ring = element("div", { class: "refam-ring", hidden: "", "aria-hidden": "true" });
  frame.append(ring);
  let cell = 0;
  function point(next) {
    if (!grid()) return;
    ring.hidden = next === null;
    if (next !== null) {
      const [rows, columns] = grid();
      cell = next;
      const [row, column] = [Math.floor(cell / columns), cell % columns];
      Object.assign(ring.style, {
        left: `${(100 * column) / columns}%`, width: `${100 / columns}%`,
        top: `${(100 * row) / rows}%`, height: `${100 / rows}%`,
      });
    }
    onPatch(next);
  }
  function under(event) {
    const [rows, columns] = grid();
    const box = frame.getBoundingClientRect();
    const part = (offset, size, count) => Math.min(Math.max(Math.floor((offset / size) * count), 0), count - 1);
    const row = part(event.clientY - box.top, box.height, rows);
    return row * columns + part(event.clientX - box.left, box.width, columns);
  }
  frame.addEventListener("pointermove", (event) => {
    if (grid() && event.pointerType !== "touch") point(under(event));
  });
  frame.addEventListener("click", (event) => { if (grid()) point(under(event)); });
  frame.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") point(null); });
  frame.addEventListener("blur", () => point(null));
  frame.addEventListener("keydown", (event) => {
    if (!grid()) return;
    const [rows, columns] = grid();
    const [row, column] = [Math.floor(cell / columns), cell % columns];
    const vertical = event.key === "ArrowUp" || event.key === "ArrowDown";
    const next = moved(event.key, vertical ? row : column, vertical ? rows : columns);
    if (next === null) return;
    event.preventDefault();
    point(vertical ? next * columns + column : row * columns + next);
  });
}

/** Shares as a bar has them; token kinds in the figures' order. */
export function stacked(shares) {
  const places = { target: "object that is meant", other: "other objects", background: "background" };
  const order = ["target", "other", ...Object.keys(KINDS), "background"];
  return order.filter((role) => role in shares).map((role) => ({
    role, share: shares[role], text: places[role] ?? KINDS[role].label,
  }));
}

/** Every chip of a scene: those of all its views, words first, and then magnets, marks and padding. */
export function allChips(scene) {
  const found = new Map();
  for (const view of [scene.views.with, scene.views.without].filter(Boolean)) {
    for (const chip of view.chips) if (!found.has(chip.key)) found.set(chip.key, chip);
  }
  const group = (chip) => ["magnet", "special", "template", "padding"].indexOf(chip.kind);
  return [...found.values()].sort((one, two) => group(one) - group(two));
}

const canvas = (label) => element("canvas", { role: "img", "aria-label": label });
const figure = (name, content, ...caption) =>
  element("figure", { class: `refam-figure ${name}` }, content, element("figcaption", {}, ...caption));

/** The page: sections, and the places that texts and pictures go to. */
export function layout(made) {
  const place = (tag, attributes) => element(tag, attributes);
  const texts = {
    error: place("p", { class: "refam-error", role: "alert" }),
    title: place("p", { class: "refam-title" }),
    why: place("p", { class: "refam-why" }),
    caption: place("span", { class: "refam-caption" }),
    live: place("p", { class: "refam-unseen refam-live", "aria-live": "polite" }),
    patch: place("p", { class: "refam-line refam-patch", "aria-live": "polite" }),
    verdict: place("span", {}),
  };
  const pictures = {
    canvas: canvas("The map of the chosen word over the picture"),
    heatmap: canvas("The pipeline's heatmap"),
    answer: canvas("The pipeline's point and mask"),
  };
  const main = element("div", {
    class: "refam-frame", tabindex: "0", role: "application", "aria-roledescription": "picture in patches",
    "aria-label": "The map over the picture. Arrow keys go from patch to patch and say what each reads.",
  }, pictures.canvas);
  const answers = element(
    "div", { class: "refam-answers" },
    figure("refam-small", pictures.heatmap, "The heatmap that the pipeline's point is taken from"),
    figure("refam-small", pictures.answer, "Its point (star) and mask (orange; dashed: the true one). ", texts.verdict),
  );
  const shares = element("div", { class: "refam-shares" }, made.where.element, made.reads.element);
  const sinks = element(
    "section", { class: "refam-sinks", "aria-label": "Sink strip" },
    element(
      "div", { class: "refam-row" },
      element("p", { class: "refam-subtitle" }, "Who receives: the sink strip"), made.side.element,
    ),
    made.sinks.element, made.scale.element,
    element("p", { class: "refam-label" }, "The same for the patches of the picture, by block"),
    made.patches.element,
  );
  const sections = [
    made.gallery.element,
    element("div", { class: "refam-heading" }, texts.title, texts.why), texts.error,
    element("div", { class: "refam-sentence" }, made.strip.element, made.magnets.element),
    element("div", { class: "refam-controls" }, made.direction.element, made.block.element, made.head.element),
    element("div", { class: "refam-pictures" },
      figure("refam-large", main, made.bar.element, texts.caption, texts.patch), answers),
    texts.live, shares, sinks,
  ];
  return { ...texts, ...pictures, main, answers, shares, sinks, sections };
}
