/**
 * From the maps of tokens to a heatmap, its point, and the choice among masks: refam_analysis.segmentation in small.
 *
 * A map is {values, rows, columns}, row by row. settings are those of HeatmapSettings, as its to_dict gives them.
 */
import { PromptError } from "./engine_prompt.js";

/** Cells along each axis that upsampling makes of one patch. */
export const UPSAMPLING_FACTOR = 4;
const PLATEAU_TOLERANCE = 1e-6;
const SMALLEST = 1e-30;
const CUBIC = -0.75; // the curve that PyTorch uses

/** The words to read: [{text, index, tokens}], pieces of a word together. */
export function contentWords(tokens, expression) {
  const words = new Map();
  tokens.forEach(({ kind, word, wordIndex }, place) => {
    if (kind !== "content") return;
    if (!words.has(wordIndex)) words.set(wordIndex, { text: word, index: wordIndex, tokens: [] });
    words.get(wordIndex).tokens.push(place);
  });
  if (!words.size) {
    throw new PromptError(
      `The expression “${expression}” holds only stop words and punctuation, so there is nothing to look for. ` +
      "Name a thing, such as “the red circle”.",
    );
  }
  return [...words.values()].sort((one, other) => one.index - other.index);
}

/** Every word's map, the mean over its tokens. tokenMaps: token by token, patches row by row. */
export function wordMaps(tokenMaps, words, { rows, columns }) {
  const patches = rows * columns;
  return words.map(({ tokens }) => {
    const values = new Float64Array(patches);
    for (const token of tokens) {
      const first = token * patches;
      for (let patch = 0; patch < patches; patch += 1) values[patch] += tokenMaps[first + patch] / tokens.length;
    }
    return { values, rows, columns };
  });
}

/** From words to one map: their mean, or their geometric mean after each was scaled to sum 1. */
export function aggregate(maps, how) {
  const { rows, columns } = maps[0];
  const values = new Float64Array(rows * columns);
  for (const map of maps) {
    const total = map.values.reduce((sum, value) => sum + value, 0) || 1;
    map.values.forEach((value, patch) => {
      values[patch] += (how === "mean" ? value : Math.log(Math.max(value / total, SMALLEST))) / maps.length;
    });
  }
  return { values: how === "mean" ? values : values.map(Math.exp), rows, columns };
}

/** A finer map; corners of the picture stay where they are, and nothing falls below zero. */
export function upsample(map, how) {
  if (how === "none") return map;
  return resize(map, UPSAMPLING_FACTOR * map.rows, UPSAMPLING_FACTOR * map.columns, how);
}

/** A map with other numbers of rows and columns; how: "bilinear" or "bicubic". */
export function resize(map, rows, columns, how = "bilinear") {
  const across = weights(map.columns, columns, how);
  const down = weights(map.rows, rows, how);
  const wide = new Float64Array(map.rows * columns);
  const values = new Float64Array(rows * columns);
  for (let row = 0; row < map.rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      for (const [from, share] of across[column]) {
        wide[row * columns + column] += share * map.values[row * map.columns + from];
      }
    }
  }
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      for (const [from, share] of down[row]) values[row * columns + column] += share * wide[from * columns + column];
    }
  }
  return { values: values.map((value) => Math.max(value, 0)), rows, columns };
}

/** A map multiplied with the prior of the places that its sentence names, see refam_analysis' spatial_bias. */
export function withPlaces(map, places, strength) {
  if (!strength || !places.length) return map;
  const down = new Float64Array(map.rows).fill(1);
  const across = new Float64Array(map.columns).fill(1);
  for (const place of places) {
    along(place.y, map.rows).forEach((value, row) => { down[row] *= value; });
    along(place.x, map.columns).forEach((value, column) => { across[column] *= value; });
  }
  const bias = (cell) => 1 - strength + strength * down[Math.floor(cell / map.columns)] * across[cell % map.columns];
  const values = map.values.map((value, cell) => value * Math.max(bias(cell), 2.2250738585072014e-308));
  return { ...map, values };
}

/**
 * The point at which a map is largest, [x, y] in pixels of a picture of [height, width].
 *
 * Of cells that share the maximum, the largest connected region counts, the first of equal ones, and its centre.
 */
export function peak(map, [height, width]) {
  const { values, rows, columns } = map;
  const top = values.reduce((most, value) => Math.max(most, value), -Infinity);
  if (!Number.isFinite(top)) throw new Error("This heatmap has no peak: a value of it is no number.");
  const tolerance = PLATEAU_TOLERANCE * values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const cells = [...values.keys()].filter((cell) => values[cell] >= top - tolerance);
  const [row, column] = centre(cells, columns);
  return [(column + 0.5) * (width / columns) - 0.5, (row + 0.5) * (height / rows) - 0.5];
}

/** The index of the mask that is taken. masks: one array a candidate, not 0 where it is on; how: as choose_mask's. */
export function chooseMask(masks, scores, map, size, how) {
  const agreements = how === "agreement" ? masks.map((mask) => agreement(mask, map, size)) : masks.map(() => 0);
  return scores.reduce((best, score, index) => {
    const better = agreements[index] - agreements[best] || score - scores[best];
    return better > 0 ? index : best;
  }, 0);
}

/** The soft IoU of a mask and a heatmap that is scaled from 0 to 1. */
function agreement(mask, map, [height, width]) {
  const wide = resize(map, height, width).values;
  const least = wide.reduce((low, value) => Math.min(low, value), Infinity);
  const most = wide.reduce((high, value) => Math.max(high, value - least), 0) || 1;
  let [shared, either] = [0, 0];
  mask.forEach((on, pixel) => {
    const heat = (wide[pixel] - least) / most;
    if (on) shared += heat;
    either += on ? 1 : heat;
  });
  return either > 0 ? shared / either : 0;
}

/** For each cell of a new axis, which old cells it is made of, with their shares. */
function weights(before, after, how) {
  return Array.from({ length: after }, (_, cell) => {
    const exact = ((cell + 0.5) * before) / after - 0.5;
    const source = how === "bilinear" ? Math.max(exact, 0) : exact;
    const first = Math.floor(source);
    const rest = source - first;
    const inside = (place) => Math.min(Math.max(place, 0), before - 1);
    if (how === "bilinear") return [[inside(first), 1 - rest], [inside(first + 1), rest]];
    return [-1, 0, 1, 2].map((step) => [inside(first + step), cubic(Math.abs(rest - step))]);
  });
}

function cubic(distance) {
  if (distance <= 1) return ((CUBIC + 2) * distance - (CUBIC + 3)) * distance * distance + 1;
  return distance < 2 ? ((CUBIC * distance - 5 * CUBIC) * distance + 8 * CUBIC) * distance - 4 * CUBIC : 0;
}

/** The normal curve of a place along one axis at the middles of its cells; ones where it says nothing. */
function along(axis, cells) {
  return Array.from({ length: cells }, (_, cell) => {
    if (!axis) return 1;
    const middle = (cell + 0.5) / cells;
    const near = Math.abs(middle - axis.position);
    const distance = axis.eitherEnd ? Math.min(near, Math.abs(1 - middle - axis.position)) : near;
    return Math.exp(-((distance / axis.spread) ** 2) / 2);
  });
}

/** Row and column of the centre of the largest connected part, moved into it where it lies outside. */
function centre(cells, columns) {
  const places = regions(cells, columns).reduce((most, region) => (region.length > most.length ? region : most));
  const mean = [0, 1].map((axis) => places.reduce((sum, place) => sum + place[axis], 0) / places.length);
  const rounded = mean.map((value) => Math.floor(value + 0.5));
  if (places.some((place) => place[0] === rounded[0] && place[1] === rounded[1])) return mean;
  const distance = (place) => (place[0] - mean[0]) ** 2 + (place[1] - mean[1]) ** 2;
  return places.reduce((best, place) => (distance(place) < distance(best) ? place : best));
}

/** Connected regions of cells, diagonal neighbours too, in reading order: [[row, column]]. */
function regions(cells, columns) {
  const left = new Set(cells);
  const found = [];
  for (const first of cells) {
    if (!left.delete(first)) continue;
    const region = [first];
    for (let at = 0; at < region.length; at += 1) {
      const [row, column] = [Math.floor(region[at] / columns), region[at] % columns];
      for (const down of [-1, 0, 1]) {
        for (const right of [-1, 0, 1]) {
          const next = (row + down) * columns + column + right;
          if (column + right >= 0 && column + right < columns && left.delete(next)) region.push(next);
        }
      }
    }
    region.sort((one, other) => one - other);
    found.push(region.map((cell) => [Math.floor(cell / columns), cell % columns]));
  }
  return found;
}
