/**
 * Prompts as refam_analysis.prompts makes them: the expression with its magnets, their words, and the kinds of tokens.
 *
 * Texts are counted in code points, as Python counts them. What a page needs of the package's word lists comes in
 * `lists`: {stop, colours}, sets of words.
 */

/** A text that cannot be made a prompt, or not one that fits; its message is a sentence for the reader. */
export class PromptError extends Error {}

/** White space of Python's str.split; tokenizers have a list of their own. */
const PYTHON_SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/u;
const VISIBLE = /[^\p{Z}\p{Cc}\p{Cf}\p{Cn}\p{Co}]/u;
const MARK = /^[\p{P}\p{Sm}\p{Sc}\p{Sk}]$/u;
const FOLDED = {
  "ß": "ss", "ẞ": "ss", "ſ": "s", "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st",
};

/** Lower case for comparison, as far as Python's casefold gives the letters of English. */
export function casefold(text) {
  return text.replace(/[ßẞſﬀ-ﬆ]/gu, (letter) => FOLDED[letter]).toLowerCase();
}

/** The words between white space. */
export function split(text) {
  return text.split(PYTHON_SPACE).filter((word) => word !== "");
}

/** Whether a text has punctuation, signs of mathematics and currency, and the invisible only. */
export function isPunctuation(text) {
  return text !== "" && [...text].every((character) => MARK.test(character) || !VISIBLE.test(character));
}

/** Whether a word carries grammar only. */
export function isStopWord(word, lists) {
  return lists.stop.has(casefold(word).replaceAll("’", "'"));
}

/**
 * An expression with the magnets to append, checked: {expression, magnets, text, words}.
 *
 * A magnet that names a colour which the expression itself names is left out. words: [{text, start, end, isMagnet}].
 */
export function makePrompt(typed, magnets, lists) {
  const expression = split(typed).join(" ");
  if (!VISIBLE.test(expression)) {
    throw new PromptError("The expression is empty. Name what to look for, such as “the red circle”.");
  }
  if (/\p{Cs}/u.test(expression)) {
    throw new PromptError("The text holds a lone surrogate, which is half a character. Type that character again.");
  }
  const named = colours(expression, lists);
  const kept = magnets.filter((magnet) => [...colours(magnet, lists)].every((colour) => !named.has(colour)));
  const text = [expression, ...kept].join(" ");
  const own = [...expression].length;
  const words = spans(text).map((word) => ({ ...word, isMagnet: word.start >= own }));
  return { expression, magnets: kept, text, words };
}

/** Kind of a token that belongs to a word. */
export function kindOf(piece, word, lists) {
  if (word.isMagnet) return "magnet";
  if (isPunctuation(piece || word.text)) return "punctuation";
  return isStopWord(word.text, lists) ? "stop" : "content";
}

/** The word that shares most characters with a range; when none does, the one that ends next, or the last. */
export function wordAt(words, start, end) {
  const shared = words.map((word) => Math.min(end, word.end) - Math.max(start, word.start));
  const most = Math.max(...shared);
  if (most > 0) return shared.indexOf(most);
  const next = words.findIndex((word) => word.end > start);
  return next < 0 ? words.length - 1 : next;
}

/** The colours that a text names, parts of hyphenated words among them; "gray" and "grey" are one. */
function colours(text, lists) {
  const parts = spans(text).flatMap((word) => casefold(word.text).split(/['’-]/u));
  return new Set(parts.filter((part) => lists.colours.has(part)).map((part) => (part === "gray" ? "grey" : part)));
}

/** Words and runs of punctuation, found in a sketch of the text: w word, m mark, j joiner, space. */
function spans(text) {
  const characters = [...text];
  const sketch = characters.map((character) => {
    if (PYTHON_SPACE.test(character)) return " ";
    if ("'’-".includes(character)) return "j";
    return MARK.test(character) ? "m" : "w";
  });
  return [...sketch.join("").matchAll(/w+(?:jw+)*|[mj]+/g)].map((match) => {
    const [start, end] = [match.index, match.index + match[0].length];
    return { text: characters.slice(start, end).join(""), start, end };
  });
}
