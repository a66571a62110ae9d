/** One answer of the probe: its sentence as tokens, the map that is picked, point and mask, and the matrices. */
import { KINDS, createColourBar, createMatrix, createTokenStrip, drawAnswer, drawHeat, element, largest } from "./drawing.js";

const WHOLE = { name: null, text: "whole sentence", kind: "sentence", badge: null, note: "the heatmap, read from its words" };

/** Numbers of an array that Python sent as bytes. */
function floats(view) {
  return new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

/** A mask of so many pixels that was packed into bits. */
function unpacked(view, pixels) {
  return view ? Uint8Array.from({ length: pixels }, (_, at) => (view.getUint8(at >> 3) >> (7 - (at & 7))) & 1) : null;
}

/** A number as a reader is told it. */
function short(value) {
  return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(value < 1e-3 ? 1 : 2)));
}

/** What is read once of an answer, however often it is drawn. */
function read(found) {
  const [width, height] = found.size;
  const columns = found.tokens.length;
  return {
    ...found,
    columns,
    matrices: found.matrices.map(floats),
    sites: floats(found.sites),
    mask: unpacked(found.mask, width * height),
    truth: unpacked(found.truth, width * height),
  };
}

/** Rows of the matrix of blocks: first all blocks and heads as the heatmap weighs them, then each block. */
function blockRows({ blocks, heads, columns, sites }, values) {
  const rows = new Float32Array((blocks.length + 1) * columns);
  for (let block = 0; block < blocks.length; block += 1) {
    for (let head = 0; head < heads; head += 1) {
      for (let column = 0; column < columns; column += 1) {
        const value = values[(block * heads + head) * columns + column];
        rows[column] += sites[block * heads + head] * value;
        rows[(block + 1) * columns + column] += value / heads;
      }
    }
  }
  return rows;
}

/** Rows of the matrix of one block: first the mean of its heads, then each head. */
function headRows({ heads, columns }, values, block) {
  const rows = new Float32Array((heads + 1) * columns);
  for (let head = 0; head < heads; head += 1) {
    for (let column = 0; column < columns; column += 1) {
      const value = values[(block * heads + head) * columns + column];
      rows[column] += value / heads;
      rows[(head + 1) * columns + column] = value;
    }
  }
  return rows;
}

/** Colours from the least value up for entropy, which is never near nothing; from nothing up for the rest. */
function scale(values, isEntropy) {
  const low = isEntropy ? values.reduce((least, value) => Math.min(least, value), Infinity) : 0;
  const high = largest(values);
  return { low, high, share: (value) => (value - low) / (high - low || 1) };
}

/** onPick(changes of the view). update: found: the answer, map: what is picked, picture: ImageData or null, view. */
export function createAnswer({ onPick }) {
  let answer = null;
  let source = null;
  let shownView = null;
  let tables = [];

  const pickColumn = (column) => (column >= 0 && answer.tokens[column] ? answer.tokens[column].name : null);
  const strip = createTokenStrip({
    label: "Tokens of the sentence",
    onChoose: (index) => onPick({ token: index === 0 ? null : pickColumn(index - 1) }),
  });
  const describe = (table) => (row, column) => {
    const { rows, unit, rowName, isOpen, chosen } = tables[table];
    if (isOpen && row === chosen[0] && column === chosen[1]) return "Pick a cell to see its map: click, or use the arrow keys.";
    const token = answer.tokens[column];
    const where = row === 0 ? (table === 0 ? "all, as the heatmap is read" : "mean of the heads") : `${rowName} ${rows.labels[row]}`;
    return `${where}, “${token.text}” (${KINDS[token.kind]?.label ?? token.kind}): ${short(rows.values[row * answer.columns + column])} ${unit}`;
  };
  const blocks = createMatrix({
    label: "Blocks and tokens: arrow keys pick whose map is shown", describe: describe(0),
    onChoose: (row, column) => onPick({ block: row === 0 ? null : answer.blocks[row - 1], head: null, token: pickColumn(column) }),
  });
  const heads = createMatrix({
    label: "Heads of the block and tokens: arrow keys pick whose map is shown", describe: describe(1),
    onChoose: (row, column) => onPick({ head: row === 0 ? null : row - 1, token: pickColumn(column) }),
  });
  const [blockBar, headBar, heatBar] = [createColourBar(), createColourBar(), createColourBar()];

  const heading = element("h3", { class: "refam-answer-head" });
  const problem = element("p", { class: "refam-problem", role: "alert" });
  const heat = element("canvas", { class: "refam-picture-canvas" });
  const mark = element("span", { class: "refam-mark", "aria-hidden": "true" }, "★");
  const heatFrame = element("div", { class: "refam-frame", role: "img" }, heat, mark);
  const heatText = element("figcaption", { class: "refam-caption" });
  const mask = element("canvas", { class: "refam-picture-canvas" });
  const maskFrame = element("div", { class: "refam-frame", role: "img" }, mask);
  const maskText = element("figcaption", { class: "refam-caption" });
  const headPart = element("div", { class: "refam-part-heads" }, heads.element, headBar.element);
  const hint = element("p", { class: "refam-hint" }, "Pick a block above to see its heads.");
  const body = element(
    "div", { class: "refam-answer-body" }, strip.element,
    element(
      "div", { class: "refam-pictures" },
      element("figure", { class: "refam-figure" }, heatText, heatFrame, heatBar.element),
      element("figure", { class: "refam-figure" }, maskText, maskFrame),
    ),
    element("div", { class: "refam-part-blocks" }, blocks.element, blockBar.element), headPart, hint,
  );
  const whole = element("article", { class: "refam-answer" }, heading, problem, body);

  function drawMap(map, picture) {
    const values = floats(map.values);
    drawHeat(heat, { picture, values, rows: map.rows, columns: map.columns });
    const at = values.indexOf(largest(values));
    heatText.textContent = map.title;
    heatBar.update({ low: "0", label: map.isHeatmap ? "heat" : "attention", high: short(largest(values)) });
    mark.hidden = !map.isHeatmap;
    mark.style.left = `${(100 * (answer.point[0] + 0.5)) / answer.size[0]}%`;
    mark.style.top = `${(100 * (answer.point[1] + 0.5)) / answer.size[1]}%`;
    const [row, column] = [Math.floor(at / map.columns) + 1, (at % map.columns) + 1];
    heatFrame.setAttribute(
      "aria-label", `${map.title}. Largest in row ${row} of ${map.rows}, column ${column} of ${map.columns}.`,
    );
  }

  function drawMask(picture) {
    drawAnswer(mask, { picture, mask: answer.mask, truth: answer.truth, point: answer.point });
    const [x, y] = answer.point.map((part) => Math.round(part));
    const share = `${(100 * answer.share).toFixed(1)} % of the picture`;
    maskText.textContent = `Mask: ${share}, predicted IoU ${answer.score.toFixed(2)}`;
    const truth = answer.truth ? " The dashed line is the true mask." : "";
    maskFrame.setAttribute("aria-label", `${maskText.textContent}, around the point x ${x}, y ${y}.${truth}`);
  }

  function drawMatrices(view, token) {
    const which = Math.max(answer.measures.findIndex(({ name }) => name === view.measure), 0);
    const values = answer.matrices[which];
    const { name, unit } = answer.measures[which];
    const column = Math.max(answer.tokens.findIndex((one) => one.name === token), 0);
    const block = answer.blocks.indexOf(view.block);
    const made = [
      { labels: ["all", ...answer.blocks.map(String)], values: blockRows(answer, values) },
      { labels: ["mean", ...Array.from({ length: answer.heads }, (_, head) => String(head))],
        values: headRows(answer, values, Math.max(block, 0)) },
    ];
    const chosenRows = [block + 1, view.head === null ? 0 : view.head + 1];
    const names = ["block", `block ${view.block}, head`];
    tables = made.map((rows, at) => (
      { rows, unit, rowName: names[at], isOpen: token === null, chosen: [chosenRows[at], column] }
    ));
    [[blocks, blockBar], [heads, headBar]].forEach(([matrix, bar], at) => {
      const { low, high, share } = scale(made[at].values, name === "entropy");
      matrix.update({
        rows: made[at].labels, columns: answer.tokens, values: made[at].values, share,
        chosen: tables[at].chosen,
      });
      bar.update({ low: short(low), label: unit, high: short(high) });
    });
    body.dataset.whole = String(token === null);
    headPart.hidden = block < 0;
    hint.hidden = block >= 0;
  }

  function update({ found, map, picture, view }) {
    problem.hidden = !found.error;
    problem.textContent = found.error ?? "";
    body.hidden = heading.hidden = Boolean(found.error);
    if (found.error) return;
    const isNew = found !== source;
    if (isNew) [answer, source] = [read(found), found];
    heading.textContent = answer.heading;
    const token = map?.token ?? null;
    const chosen = answer.tokens.findIndex((one) => one.name === token) + 1;
    strip.update({ tokens: [WHOLE, ...answer.tokens], chosen });
    drawMatrices(view, answer.tokens.some((one) => one.name === view.token) ? view.token : null);
    // A new picture comes before its answer.
    if (!picture || picture.width !== answer.size[0] || picture.height !== answer.size[1]) return;
    if (map?.values) drawMap(map, picture);
    if (isNew || shownView !== picture) drawMask(picture);
    shownView = picture;
  }
  return { element: whole, update };
}
