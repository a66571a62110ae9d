/**
 * Pictures, heat and tokens: what the explorer, the probe and the page with the model in the browser draw with.
 *
 * Plain DOM and canvas, no library. Nothing here knows where numbers come from. Every `create...` gives
 * `{element, update(state)}`; texts become text nodes and never markup. Colours are in drawing.css.
 */

/** Token kinds in the order in which figures list them, as a reader is told them. */
export const KINDS = {
  content: { label: "content word" },
  stop: { label: "stop word" },
  punctuation: { label: "punctuation" },
  magnet: { label: "magnet" },
  special: { label: "end or begin mark" },
  padding: { label: "padding" },
  template: { label: "template" },
};

/** Matplotlib's magma, as in the book's figures: lightness rises with the value, evenly to the eye. */
const MAGMA =
  "00000401000501010601010802010902020b02020d03030f03031204041405041606051806051a07061c08071e0907200a08220b0924" +
  "0c09260d0a290e0b2b100b2d110c2f120d31130d34140e36150e38160f3b180f3d19103f1a10421c10441d11471e114920114b21114e" +
  "22115024125325125527125829115a2a115c2c115f2d11612f116331116533106734106936106b38106c390f6e3b0f703d0f713f0f72" +
  "400f74420f75440f764510774710784910784a10794c117a4e117b4f127b51127c52137c54137d56147d57157e59157e5a167e5c167f" +
  "5d177f5f187f601880621980641a80651a80671b80681c816a1c816b1d816d1d816e1e81701f81721f81732081752181762181782281" +
  "7922827b23827c23827e24828025828125818326818426818627818827818928818b29818c29818e2a81902a81912b81932b80942c80" +
  "962c80982d80992d809b2e7f9c2e7f9e2f7fa02f7fa1307ea3307ea5317ea6317da8327daa337dab337cad347cae347bb0357bb2357b" +
  "b3367ab5367ab73779b83779ba3878bc3978bd3977bf3a77c03a76c23b75c43c75c53c74c73d73c83e73ca3e72cc3f71cd4071cf4070" +
  "d0416fd2426fd3436ed5446dd6456cd8456cd9466bdb476adc4869de4968df4a68e04c67e24d66e34e65e44f64e55064e75263e85362" +
  "e95462ea5661eb5760ec5860ed5a5fee5b5eef5d5ef05f5ef1605df2625df2645cf3655cf4675cf4695cf56b5cf66c5cf66e5cf7705c" +
  "f7725cf8745cf8765cf9785df9795df97b5dfa7d5efa7f5efa815ffb835ffb8560fb8761fc8961fc8a62fc8c63fc8e64fc9065fd9266" +
  "fd9467fd9668fd9869fd9a6afd9b6bfe9d6cfe9f6dfea16efea36ffea571fea772fea973feaa74feac76feae77feb078feb27afeb47b" +
  "feb67cfeb77efeb97ffebb81febd82febf84fec185fec287fec488fec68afec88cfeca8dfecc8ffecd90fecf92fed194fed395fed597" +
  "fed799fed89afdda9cfddc9efddea0fde0a1fde2a3fde3a5fde5a7fde7a9fde9aafdebacfcecaefceeb0fcf0b2fcf2b4fcf4b6fcf6b8" +
  "fcf7b9fcf9bbfcfbbdfcfdbf";

/** How much of the heat covers the picture, as in the book's figures. */
export const HEAT_COVER = 0.72;
const PREDICTED = "#d55e00"; // of masks, as in the book's figures
const TRUTH = "#0072b2";
const BACKING = 768; // pixels of a canvas along the wider side: sharp on dense screens, the same on all of them

/** The colour of a share in [0, 1]: [red, green, blue], 0 to 255; what lies outside is clipped. */
export function heatColour(share) {
  const at = 6 * Math.round(255 * Math.min(Math.max(share || 0, 0), 1));
  return [0, 2, 4].map((part) => parseInt(MAGMA.slice(at + part, at + part + 2), 16));
}

/** The same for style sheets. */
export function heatCss(share) {
  return `rgb(${heatColour(share).join(" ")})`;
}

/** An element with attributes and children; a function becomes a listener, a string a text node. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** The pixels of a picture. From a data: address they stay readable on a page that was opened as a file, too. */
export async function decodePicture(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  const { context } = sheet(image.naturalWidth, image.naturalHeight);
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, image.naturalWidth, image.naturalHeight);
}

/** The largest number of an array of any length; 0 of none. */
export function largest(values) {
  return values.reduce((most, value) => (value > most ? value : most), 0);
}

/**
 * A map over its picture, which shows through in grey: one square a patch.
 *
 * values: rows * columns numbers, row by row. limit: the value of the lightest colour; their largest by default.
 */
export function drawHeat(canvas, { picture, values, rows, columns, limit = largest(values) }) {
  const context = prepare(canvas, picture);
  paint(context, grey(picture));
  const [width, height] = [canvas.width / columns, canvas.height / rows];
  context.globalAlpha = HEAT_COVER;
  for (let cell = 0; cell < rows * columns; cell += 1) {
    const [row, column] = [Math.floor(cell / columns), cell % columns];
    const [left, top] = [Math.round(column * width), Math.round(row * height)];
    context.fillStyle = heatCss(values[cell] / (limit || 1));
    context.fillRect(left, top, Math.round((column + 1) * width) - left, Math.round((row + 1) * height) - top);
  }
  context.globalAlpha = 1;
}

/** Numbers as coloured cells, one pixel a cell: the style sheet makes it larger. share: value -> [0, 1]. */
export function drawGrid(canvas, { values, rows, columns, share }) {
  [canvas.width, canvas.height] = [columns, rows];
  const cells = new ImageData(columns, rows);
  values.forEach((value, cell) => cells.data.set([...heatColour(share(value)), 255], 4 * cell));
  canvas.getContext("2d").putImageData(cells, 0, 0);
}

/**
 * The picture with what a segmenter answered.
 *
 * mask: one number a pixel of the picture, not 0 where it is on, tinted and outlined; truth: likewise, a dashed
 * outline; point: [x, y] in pixels, whole numbers in the middle of pixels. Each may be null.
 */
export function drawAnswer(canvas, { picture, mask = null, truth = null, point = null }) {
  const context = prepare(canvas, picture);
  const scale = canvas.width / picture.width;
  paint(context, mask ? tinted(picture, mask) : picture);
  if (mask) outline(context, loops(mask, picture), scale, PREDICTED, []);
  if (truth) outline(context, loops(truth, picture), scale, TRUTH, [14, 9]);
  if (point) star(context, (point[0] + 0.5) * scale, (point[1] + 0.5) * scale, canvas.width / 26);
}

/**
 * A sentence as coloured tokens, of which one is chosen: by arrow keys, click or tap; hovering shows another meanwhile.
 *
 * onChoose(index); onPreview(index or null).
 * update: tokens: [{text, kind, badge, note, off}] (badge: a short text such as "sink"; note: read out and shown when
 * hovered; off: cannot be chosen), chosen: an index, shares: numbers in [0, 1] for a bar under each token, or null.
 */
export function createTokenStrip({ label, onChoose, onPreview = () => {} }) {
  const strip = element("div", { class: "refam-tokens", role: "radiogroup", "aria-label": label });
  let chips = [];
  let made = "";
  strip.addEventListener("keydown", (event) => {
    const usable = chips.filter((chip) => !chip.disabled);
    const next = moved(event.key, usable.indexOf(document.activeElement), usable.length);
    if (next === null) return;
    event.preventDefault();
    usable[next].focus();
    onChoose(chips.indexOf(usable[next]));
  });
  strip.addEventListener("pointerleave", () => onPreview(null));

  function make(tokens) {
    chips = tokens.map((token, index) => {
      const badge = token.badge ? [element("span", { class: "refam-badge" }, token.badge)] : [];
      const text = element("span", { class: "refam-token-text" }, token.text);
      const kind = KINDS[token.kind]?.label ?? token.kind;
      const name = [token.text, kind, token.badge, token.note].filter(Boolean).join(", ");
      return element(
        "button",
        {
          type: "button", role: "radio", class: `refam-token refam-kind-${token.kind}`, "aria-label": name,
          title: token.note ?? kind, disabled: token.off ? "" : null,
          click: () => onChoose(index),
          pointerenter: (event) => event.pointerType !== "touch" && onPreview(index),
        },
        text, ...badge, element("span", { class: "refam-token-share", "aria-hidden": "true" }),
      );
    });
    strip.replaceChildren(...chips);
  }

  function update({ tokens, chosen, shares = null }) {
    const wanted = JSON.stringify(tokens);
    const focused = chips.indexOf(document.activeElement);
    if (wanted !== made) make(tokens);
    if (wanted !== made && focused >= 0) chips[Math.min(focused, chips.length - 1)]?.focus();
    made = wanted;
    chips.forEach((chip, index) => {
      chip.setAttribute("aria-checked", String(index === chosen));
      chip.tabIndex = index === chosen ? 0 : -1;
      chip.lastChild.style.inlineSize = shares ? `${100 * Math.min(Math.max(shares[index], 0), 1)}%` : "0";
    });
  }
  return { element: strip, update };
}

/**
 * A matrix of coloured cells, such as block x token: one tab stop, in which arrow keys, Home, End, click and tap choose
 * a cell, and hovering describes one.
 *
 * describe(row, column) -> the sentence under the matrix; announce: whether screen readers are told it.
 * update: rows: [label], columns: [{text, kind}], values: row by row, share(value) -> [0, 1], chosen: [row, column].
 */
export function createMatrix({ label, describe, onChoose, announce = true }) {
  const canvas = element("canvas", { class: "refam-matrix-cells", "aria-hidden": "true" });
  const ring = element("div", { class: "refam-ring", "aria-hidden": "true" });
  const keys = element(
    "div",
    {
      class: "refam-matrix-body", tabindex: "0", role: "application", "aria-roledescription": "matrix",
      "aria-label": label,
    },
    canvas, element("div", { class: "refam-matrix-lines", "aria-hidden": "true" }), ring,
  );
  const rowLabels = element("div", { class: "refam-matrix-rows", "aria-hidden": "true" });
  const columnLabels = element("div", { class: "refam-matrix-columns", "aria-hidden": "true" });
  const line = element("p", { class: "refam-line", role: announce ? "status" : null });
  const grid = element("div", { class: "refam-matrix-grid" }, rowLabels, keys, columnLabels);
  let state = null;

  const cellAt = (event) => {
    const box = keys.getBoundingClientRect();
    const part = (offset, size, count) => Math.min(Math.max(Math.floor((offset / size) * count), 0), count - 1);
    return [
      part(event.clientY - box.top, box.height, state.rows.length),
      part(event.clientX - box.left, box.width, state.columns.length),
    ];
  };
  keys.addEventListener("pointermove", (event) => {
    if (!state || event.pointerType === "touch") return;
    line.textContent = describe(...cellAt(event));
  });
  keys.addEventListener("pointerleave", () => {
    if (state) line.textContent = describe(...state.chosen);
  });
  keys.addEventListener("click", (event) => state && onChoose(...cellAt(event)));
  keys.addEventListener("keydown", (event) => {
    if (!state) return;
    const [row, column] = state.chosen;
    const vertical = event.key === "ArrowUp" || event.key === "ArrowDown";
    const count = vertical ? state.rows.length : state.columns.length;
    const next = moved(event.key, vertical ? row : column, count);
    if (next === null) return;
    event.preventDefault();
    onChoose(...(vertical ? [next, column] : [row, next]));
  });

  function update(next) {
    state = next;
    const { rows, columns, values, share, chosen } = state;
    drawGrid(canvas, { values, rows: rows.length, columns: columns.length, share });
    keys.style.setProperty("--refam-rows", rows.length);
    keys.style.setProperty("--refam-columns", columns.length);
    grid.style.setProperty("--refam-least", `${columns.length * 0.85}rem`);
    const marks = (list, row) => list.map((text, index) => element("span", { class: row(index) }, text));
    rowLabels.replaceChildren(...marks(rows, (index) => (index === chosen[0] ? "refam-here" : "")));
    const kinds = (index) => `refam-kind-${columns[index].kind}${index === chosen[1] ? " refam-here" : ""}`;
    columnLabels.replaceChildren(...marks(columns.map((column) => column.text), kinds));
    Object.assign(ring.style, {
      left: `${(100 * chosen[1]) / columns.length}%`, width: `${100 / columns.length}%`,
      top: `${(100 * chosen[0]) / rows.length}%`, height: `${100 / rows.length}%`,
    });
    line.textContent = describe(...chosen);
  }
  const whole = element("div", { class: "refam-matrix" }, element("div", { class: "refam-scroll" }, grid), line);
  return { element: whole, update };
}

/** The scale of a map. update: low, high: the numbers at its ends as texts; label: what they are. */
export function createColourBar() {
  const texts = ["low", "label", "high"].map((name) => element("span", { class: `refam-bar-${name}` }));
  const stops = Array.from({ length: 17 }, (_, step) => heatCss(step / 16)).join(", ");
  const band = element("div", { class: "refam-bar-band", "aria-hidden": "true" });
  band.style.backgroundImage = `linear-gradient(to right, ${stops})`;
  const whole = element("div", { class: "refam-bar" }, band, element("div", { class: "refam-bar-texts" }, ...texts));
  const update = ({ low, high, label }) => [low, label, high].forEach((text, at) => (texts[at].textContent = text));
  return { element: whole, update };
}

/** Where a key of movement leads among so many places; null for another key. */
export function moved(key, from, count) {
  if (count === 0) return null;
  const steps = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };
  if (key === "Home") return 0;
  if (key === "End") return count - 1;
  return key in steps ? Math.min(Math.max(from + steps[key], 0), count - 1) : null;
}

function sheet(width, height) {
  const canvas = element("canvas", { width, height });
  return { canvas, context: canvas.getContext("2d", { willReadFrequently: true }) };
}

/** A canvas of the picture's shape, the same pixels on every screen. */
function prepare(canvas, picture) {
  const scale = Math.max(1, Math.round(BACKING / Math.max(picture.width, picture.height)));
  [canvas.width, canvas.height] = [picture.width * scale, picture.height * scale];
  return canvas.getContext("2d", { willReadFrequently: true });
}

function paint(context, picture) {
  const small = sheet(picture.width, picture.height);
  small.context.putImageData(picture, 0, 0);
  context.imageSmoothingQuality = "high";
  context.drawImage(small.canvas, 0, 0, context.canvas.width, context.canvas.height);
}

const greys = new WeakMap();

function grey(picture) {
  if (!greys.has(picture)) {
    const made = new ImageData(new Uint8ClampedArray(picture.data), picture.width, picture.height);
    for (let at = 0; at < made.data.length; at += 4) {
      const [red, green, blue] = made.data.subarray(at, at + 3);
      made.data.fill(0.299 * red + 0.587 * green + 0.114 * blue, at, at + 3);
    }
    greys.set(picture, made);
  }
  return greys.get(picture);
}

function tinted(picture, mask) {
  const made = new ImageData(new Uint8ClampedArray(picture.data), picture.width, picture.height);
  const tint = [1, 3, 5].map((at) => parseInt(PREDICTED.slice(at, at + 2), 16));
  mask.forEach((on, pixel) => {
    for (let part = 0; on && part < 3; part += 1) {
      made.data[4 * pixel + part] = 0.45 * made.data[4 * pixel + part] + 0.55 * tint[part];
    }
  });
  return made;
}

/** The borders of a mask as closed paths along the edges of pixels, with the mask on their right. */
function loops(mask, { width, height }) {
  const on = (x, y) => x >= 0 && y >= 0 && x < width && y < height && Boolean(mask[y * width + x]);
  const starts = new Map(); // corner -> the corners that edges lead to from there
  const add = (x, y, toX, toY) => {
    const from = y * (width + 1) + x;
    starts.set(from, [...(starts.get(from) ?? []), toY * (width + 1) + toX]);
  };
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (!on(x, y)) continue;
      if (!on(x, y - 1)) add(x, y, x + 1, y);
      if (!on(x + 1, y)) add(x + 1, y, x + 1, y + 1);
      if (!on(x, y + 1)) add(x + 1, y + 1, x, y + 1);
      if (!on(x - 1, y)) add(x, y + 1, x, y);
    }
  }
  const found = [];
  for (const first of starts.keys()) {
    while (starts.get(first)?.length) {
      const path = [first];
      for (let at = starts.get(first).pop(); at !== first; at = starts.get(at).pop()) path.push(at);
      found.push(path.map((corner) => [corner % (width + 1), Math.floor(corner / (width + 1))]));
    }
  }
  return found;
}

function outline(context, paths, scale, colour, dashes) {
  context.beginPath();
  for (const path of paths) {
    path.forEach(([x, y], index) => context[index ? "lineTo" : "moveTo"](x * scale, y * scale));
    context.closePath();
  }
  for (const [width, style] of [[9, "rgb(255 255 255 / 0.85)"], [5, colour]]) {
    context.setLineDash(dashes);
    Object.assign(context, { lineWidth: width, strokeStyle: style, lineJoin: "round" });
    context.stroke();
  }
  context.setLineDash([]);
}

function star(context, x, y, radius) {
  context.beginPath();
  for (let tip = 0; tip < 10; tip += 1) {
    const [length, angle] = [tip % 2 ? 0.45 * radius : radius, (Math.PI * (tip - 2.5)) / 5];
    context[tip ? "lineTo" : "moveTo"](x + length * Math.cos(angle), y + length * Math.sin(angle));
  }
  context.closePath();
  Object.assign(context, { fillStyle: "#ffffff", strokeStyle: "#2b2b2b", lineWidth: 5, lineJoin: "round" });
  context.stroke();
  context.fill();
}
