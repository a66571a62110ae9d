/**
 * Words of place: where in the picture a sentence says that its target is, as refam_analysis.prompts.places finds it.
 *
 * The patterns, word lists and numbers are the package's own, handed over in `tables`; only the walk through a sentence
 * is written here again.
 */
import { casefold } from "./engine_prompt.js";

const compiled = new Map();

/** words: texts of the expression's words. Gives [{text, x, y}], each axis {position, spread, eitherEnd} or null. */
export function places(words, tables) {
  return [...mentions(words, tables)].flatMap((mention) => {
    const { x = null, y = null } = meaning(mention, tables);
    return x || y ? [{ text: mention.text, x, y }] : [];
  });
}

function* mentions(words, tables) {
  const plain = words.map((word) => casefold(word).replaceAll("’", "'"));
  let text = plain.join(" ");
  for (const source of tables.blots) {
    text = text.replace(pattern(source, "g"), (match) => "#".repeat(match.length));
  }
  let [start, at] = [0, 0];
  for (const word of plain) {
    const match = start >= at ? firstMatch(text, start, tables) : null;
    if (match) {
      at = start + match[0].length;
      const mention = mentionOf(match.groups ?? {}, tables);
      if (mention) yield mention;
    }
    start += word.length + 1;
  }
}

function firstMatch(text, start, tables) {
  for (const source of tables.patterns) {
    const sticky = pattern(source, "y");
    sticky.lastIndex = start;
    const match = sticky.exec(text);
    if (match) return match;
  }
  return null;
}

/** Core, rank and extremity of what a pattern found; null where it names no place in the picture. */
function mentionOf(found, tables) {
  if (!("all" in found)) return null;
  const core = found.run.split(/[ -]/);
  const hasMiddle = core.some((word) => tables.middles.includes(word));
  const { whole, rank } = found;
  const isPlaceOf = tables.wholes.includes(whole) || (tables.group.includes(whole) && !hasMiddle);
  if (whole !== undefined && !isPlaceOf) return null;
  const isExtreme = Boolean(found.extreme) || rank === "last" || core.includes("most") || "near" in found;
  return { text: found.all, core, rank: tables.ranks[rank] ?? null, isExtreme };
}

/** What the words that stand together say about x and about y. */
function meaning({ core, rank, isExtreme }, tables) {
  const { spreads } = tables;
  const axes = {};
  for (const word of core) {
    const [axis, end] = tables.sides[word] ?? [null];
    if (axis && !axes[axis]) axes[axis] = towards(end, rank, isExtreme || tables.superlatives.includes(word), spreads);
  }
  for (const word of core.filter((one) => one in tables.depths)) {
    axes.y ??= { position: counted(tables.depths[word], rank ?? 1), spread: spreads.depth, eitherEnd: false };
  }
  if (core.includes("corner")) {
    for (const axis of ["x", "y"]) axes[axis] ??= { position: 0, spread: spreads.side, eitherEnd: true };
  }
  if (core.length === 1 && core[0] === "end") axes.x = { position: 0, spread: spreads.side, eitherEnd: true };
  if (core.some((word) => tables.middles.includes(word))) {
    for (const [axis, other] of [["x", "row"], ["y", "column"]]) {
      if (!core.includes(other)) axes[axis] ??= { position: 0.5, spread: spreads.middle, eitherEnd: false };
    }
  }
  return axes;
}

/** A place at one end of an axis, or counted from it. */
function towards(end, rank, isExtreme, spreads) {
  const at = (position, spread) => ({ position, spread, eitherEnd: false });
  if (rank !== null && rank > 1) return at(counted(end, rank), spreads.counted);
  return at(end, isExtreme || rank === 1 ? spreads.extreme : spreads.side);
}

function counted(end, rank) {
  if (rank === 1) return end;
  const share = (rank - 0.5) / (2 * rank);
  return end === 0 ? share : 1 - share;
}

function pattern(source, flags) {
  const key = `${flags} ${source}`;
  if (!compiled.has(key)) compiled.set(key, new RegExp(source, flags));
  return compiled.get(key);
}
