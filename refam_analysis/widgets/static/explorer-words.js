/**
 * The explorer's sentences: what is shown, told in words, for captions and for screen readers.
 */
import { largest } from "./drawing.js";
import { percent } from "./controls.js";
import { MEAN } from "./explorer-data.js";

/** A number to three figures, without exponents where a reader would stumble over one. */
export function number(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 100) return value.toFixed(0);
  if (size >= 0.001) return String(Number(value.toPrecision(3)));
  const [digits, power] = value.toExponential(1).split("e-");
  return `${digits} × 10⁻${[...power].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("")}`;
}

/** A chip as it is named in a sentence. */
export function named(chip) {
  return chip.count > 1 ? `${chip.kind} (mean of ${chip.count} tokens)` : `“${chip.text}”`;
}

/** What a map tells, in the two directions. */
const TELLS = {
  image_to_text: (name) => `how much each patch reads ${name}`,
  text_to_image: (name) => `how much ${name} looks at each patch`,
};

/** Where a patch lies; counted from 1, as readers do. */
function placed(cell, columns) {
  return `row ${Math.floor(cell / columns) + 1}, column ${(cell % columns) + 1}`;
}

/** What the picture shows. values: the map; places: where it lies, or null. */
export function caption({ scene, state, chip, values, places }) {
  const [, columns] = scene.grid;
  const at = values.indexOf(largest(values));
  const heads = state.head === MEAN ? "mean over heads" : `head ${state.head}`;
  const which = scene.hasBoth ? `, ${state.magnets ? "with" : "without"} magnets` : "";
  const lies = places ? ` ${percent(places.target)} of the map lies on the object that is meant.` : "";
  const peak = `Its peak is ${number(largest(values))}, in ${placed(at, columns)}.`;
  return `Block ${state.block}, ${heads}${which}: ${TELLS[state.direction](named(chip))}. ${peak}${lies}`;
}

/** What one patch reads most. masses: a number a chip. */
export function patchSentence({ chips, masses, cell, columns }) {
  const order = masses.map((mass, at) => [mass, chips[at]]).sort((one, two) => two[0] - one[0]).slice(0, 3);
  const texts = order.map(([mass, chip]) => `${chip.count > 1 ? `all ${chip.kind}` : named(chip)} ${number(mass)}`);
  return `The patch in ${placed(cell, columns)} reads most: ${texts.join(", ")}.`;
}

/** What a cell of the sink strip tells. */
export function massSentence({ token, block, mass, side }) {
  return `“${token.text}” (${token.kind}), block ${block}: received mass ${number(mass)} from ${side} queries; ` +
    "1 is what even attention gives.";
}

/** Whether an answer is right, where that is known. */
export function verdict(answer) {
  if (answer.on_target === null) return "";
  const lies = answer.on_target ? "lies on" : "misses";
  return `The point ${lies} the object that is meant; IoU of the mask ${answer.iou.toFixed(2)}.`;
}
