/**
 * A scene of the explorer as numbers: what `explorer_data.py` wrote, read back.
 *
 * Nothing here touches the page. Maps are restored one at a time, when they are asked for.
 */
import { largest } from "./drawing.js";

export const MEAN = "mean"; // over the heads

/** The bytes of a text in base64. */
export function bytes(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

async function inflated(text) {
  const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** What a file of the static page holds, with the codes that were deflated as bytes; all else as it is. */
export async function unpacked(content) {
  if (content === null || typeof content !== "object") return content;
  if (Array.isArray(content)) return Promise.all(content.map(unpacked));
  const entries = Object.entries(content).map(async ([name, part]) => (
    name === "deflated" ? ["codes", await inflated(part)] : [name, await unpacked(part)]
  ));
  return Object.fromEntries(await Promise.all(entries));
}

/** A mask that was written a bit a pixel, as one number a pixel. */
export function unpackBits(text, pixels) {
  const packed = bytes(text);
  return Uint8Array.from({ length: pixels }, (_, pixel) => (packed[pixel >> 3] >> (7 - (pixel & 7))) & 1);
}

/** Groups of quantised numbers; a group is a map, or the masses of one block and head. */
export class Quantised {
  constructor({ codes, low, step, bits, shape, groups }) {
    const raw = typeof codes === "string" ? bytes(codes) : codes;
    this.codes = bits === 16 ? new Uint16Array(raw.buffer) : raw;
    this.low = new Float32Array(bytes(low).buffer);
    this.step = new Float32Array(bytes(step).buffer);
    this.groups = groups;
    this.size = shape.slice(groups.length).reduce((product, length) => product * length, 1);
  }

  /** The numbers of a group, by its place along each axis of the groups. */
  at(...places) {
    const group = places.reduce((sum, place, axis) => sum * this.groups[axis] + place, 0);
    const [low, step, first] = [this.low[group], this.step[group], group * this.size];
    return Float64Array.from({ length: this.size }, (_, cell) => low + step * this.codes[first + cell]);
  }
}

/** The mean of lists of one length. */
export function meanOf(lists) {
  return lists[0].map((_, cell) => lists.reduce((sum, list) => sum + list[cell], 0) / lists.length);
}

/** Weighted sum: what share of the values lies on the cells with these weights. */
function shareOn(values, weights) {
  const total = values.reduce((sum, value) => sum + value, 0);
  return total > 0 ? values.reduce((sum, value, cell) => sum + value * weights[cell], 0) / total : 0;
}

/** One sentence's attention, with magnets or without. */
class View {
  constructor(entry, scene) {
    this.scene = scene;
    this.prompt = entry.prompt;
    this.tokens = entry.tokens.map(([text, kind, key, map]) => ({ text, kind, key, map }));
    this.sinks = entry.sinks;
    const read = (entries) => Object.fromEntries(
      Object.entries(entries).map(([name, content]) => [name, new Quantised(content)]),
    );
    this.attention = read(entry.attention);
    this.received = Object.fromEntries(Object.entries(entry.received).map(([side, parts]) => [side, read(parts)]));
    this.answer = entry.answer && {
      ...entry.answer,
      mask: unpackBits(entry.answer.mask, scene.size[0] * scene.size[1]),
      heatmap: new Quantised(entry.answer.heatmap).at(),
      rows: entry.answer.heatmap.shape[0],
      columns: entry.answer.heatmap.shape[1],
    };
  }

  /** The chips of the strip: every map once, with how many tokens it stands for. */
  get chips() {
    const found = new Map();
    for (const token of this.tokens) {
      const chip = found.get(token.map);
      if (chip) chip.count += 1;
      else found.set(token.map, { ...token, count: 1 });
    }
    return [...found.values()];
  }

  /** The map of a chip in one block (by its place) and one head, or the mean over heads. */
  mapOf(direction, block, head, map) {
    return this.overHeads(head, (one) => this.attention[direction].at(block, one, map));
  }

  /** Received mass, "tokens" or "patches", from the queries of one side. */
  mass(side, part, block, head) {
    return this.overHeads(head, (one) => this.received[side][part].at(block, one));
  }

  /** How many heads were written: 1 where only their mean was recorded. */
  get heads() {
    return Object.values(this.attention)[0].groups[1];
  }

  overHeads(head, values) {
    const place = this.scene.heads.indexOf(head);
    return place >= 0 ? values(place) : meanOf(Array.from({ length: this.heads }, (_, one) => values(one)));
  }

  /** Where a map lies: shares of it on the object that is meant, on others, on the background. */
  places(values) {
    const { target, other } = this.scene.cover;
    const [on, near] = [shareOn(values, target), shareOn(values, other)];
    return { target: on, other: near, background: Math.max(0, 1 - on - near) };
  }

  /** What the patches of the background read, by kind of token: shares of their attention to the text. */
  backgroundReads(block, head) {
    const { target, other } = this.scene.cover;
    const weights = target.map((share, cell) => Math.max(0, 1 - share - other[cell]));
    const kinds = new Map();
    for (const chip of this.chips) {
      const values = this.mapOf("image_to_text", block, head, chip.map);
      const mass = chip.count * values.reduce((sum, value, cell) => sum + value * weights[cell], 0);
      kinds.set(chip.kind, (kinds.get(chip.kind) ?? 0) + mass);
    }
    const total = [...kinds.values()].reduce((sum, mass) => sum + mass, 0);
    return new Map([...kinds].map(([kind, mass]) => [kind, mass / total]));
  }

  /** What one patch reads: its attention to the text, a number a chip. */
  patchReads(block, head, cell) {
    return this.chips.map((chip) => chip.count * this.mapOf("image_to_text", block, head, chip.map)[cell]);
  }
}

/** A scene with its views, "with" magnets and "without"; there may be only one of them. */
export class Scene {
  constructor(data) {
    Object.assign(this, {
      name: data.name, title: data.title, why: data.why, expression: data.expression, picture: data.picture,
      size: data.size, grid: data.grid, blocks: data.blocks, heads: data.heads,
    });
    this.truth = data.truth && unpackBits(data.truth, data.size[0] * data.size[1]);
    const covered = Object.entries(data.cover).map(([name, entry]) => [name, new Quantised(entry).at()]);
    this.cover = covered.length ? Object.fromEntries(covered) : null;
    this.views = Object.fromEntries(
      Object.entries(data.views).map(([name, entry]) => [name, new View(entry, this)]),
    );
  }

  /** The view with magnets or without, or the only one. */
  view(magnets) {
    return this.views[magnets ? "with" : "without"] ?? Object.values(this.views)[0];
  }

  /** Whether magnets can be switched on and off. */
  get hasBoth() {
    return Boolean(this.views.with && this.views.without);
  }

  get directions() {
    return ["image_to_text", "text_to_image"].filter((name) => name in Object.values(this.views)[0].attention);
  }

  get sides() {
    return ["text", "image"].filter((side) => side in Object.values(this.views)[0].received);
  }

  /** The largest received mass from a side, of all views, blocks and heads: the end of the strip's scale. */
  largestMass(side) {
    const masses = Object.values(this.views).flatMap((view) => this.blocks.map((_, block) =>
      largest(view.mass(side, "tokens", block, MEAN))));
    return Math.max(...masses);
  }
}
