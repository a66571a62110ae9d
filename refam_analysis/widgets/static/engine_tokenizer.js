/**
 * The embedded model's two tokenizers, from the same files that Python reads: byte pairs for CLIP, unigrams for T5.
 *
 * They are the algorithms of the tokenizers library, in the configurations that those two have and no others; the ids
 * are equal to Python's, unicode among them. Prompts and kinds of words are in engine_prompt.js.
 */
import { PromptError, kindOf, wordAt } from "./engine_prompt.js";

/** White space of Unicode, which is not quite that of JavaScript. */
const SPACE = "\\t-\\r\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const RUN = new RegExp(`[${SPACE}]+`, "gu");
const CLIP_PIECE = new RegExp(
  `<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^${SPACE}\\p{L}\\p{N}]+`, "gu",
);
const BYTE_PIECE = new RegExp(
  `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${SPACE}\\p{L}\\p{N}]+|[${SPACE}]+(?![^${SPACE}])|[${SPACE}]+`,
  "gu",
);
const MARKER = "▁";
const UNKNOWN_PENALTY = 10;

/**
 * CLIP's tokenizer. data: {vocabulary: [piece], merges: [[first, second]], special: [{text, id}], begin, end, padding,
 * length}.
 */
export function createClipTokenizer(data) {
  const ids = new Map(data.vocabulary.map((piece, id) => [piece, id]));
  const ranks = new Map(data.merges.map(([first, second], rank) => [`${first} ${second}`, rank]));
  const bytes = byteCharacters();
  const utf8 = new TextEncoder();

  function pieces(text) {
    const lowered = [...text.normalize("NFC").replace(RUN, " ")].map((letter) => letter.toLowerCase()).join("");
    return [...lowered.matchAll(CLIP_PIECE)].flatMap(([piece]) => piece.match(BYTE_PIECE) ?? []);
  }

  function merged(piece) {
    let symbols = Array.from(utf8.encode(piece), (byte) => bytes[byte]);
    symbols[symbols.length - 1] += "</w>";
    for (;;) {
      let [best, at] = [Infinity, -1];
      for (let place = 0; place + 1 < symbols.length; place += 1) {
        const rank = ranks.get(`${symbols[place]} ${symbols[place + 1]}`) ?? Infinity;
        if (rank < best) [best, at] = [rank, place];
      }
      if (at < 0) return symbols.map((symbol) => ids.get(symbol) ?? data.unknown);
      symbols = [...symbols.slice(0, at), symbols[at] + symbols[at + 1], ...symbols.slice(at + 2)];
    }
  }

  function encode(text) {
    const inside = sections(text, data.special).flatMap((part) => (
      part.id === undefined ? pieces(part.text).flatMap(merged) : [part.id]
    ));
    return [data.begin, ...inside, data.end];
  }
  return { encode, length: data.length, padded: (found) => padded(found, data) };
}

/**
 * T5's tokenizer. data: {vocabulary: [[piece, score]], special: [{text, id}], unknown, end, padding, length}.
 */
export function createT5Tokenizer(data) {
  const known = new Map(data.vocabulary.map(([piece, score], id) => [piece, { id, score }]));
  const longest = Math.max(...data.vocabulary.map(([piece]) => [...piece].length));
  const unknownScore = Math.min(...data.vocabulary.map(([, score]) => score)) - UNKNOWN_PENALTY;

  /** The best way through a word: [start, end, id] of its pieces, neighbouring unknown ones as one. */
  function segment(letters) {
    const best = Array.from({ length: letters.length + 1 }, () => null);
    best[0] = { score: 0 };
    const offer = (start, end, id, score) => {
      if (best[end] === null || score > best[end].score) best[end] = { start, id, score };
    };
    for (let start = 0; start < letters.length; start += 1) {
      let piece = "";
      let single = false;
      for (let end = start + 1; end <= Math.min(letters.length, start + longest); end += 1) {
        piece += letters[end - 1];
        const found = known.get(piece);
        if (found) offer(start, end, found.id, found.score + best[start].score);
        single ||= Boolean(found) && end === start + 1;
      }
      if (!single) offer(start, start + 1, data.unknown, unknownScore + best[start].score);
    }
    const pieces = [];
    for (let end = letters.length; end > 0; end = best[end].start) {
      const { start, id } = best[end];
      const next = pieces[0];
      if (id === data.unknown && next?.[2] === data.unknown) next[0] = start;
      else pieces.unshift([start, end, id]);
    }
    return pieces;
  }

  /** Pieces of a text without special tokens, at their places: [{id, piece, start, end}]. */
  function pieces(text, first) {
    const letters = [...text];
    const found = [];
    for (const [from, to] of runs(letters)) {
      const own = letters.slice(from, to);
      const ahead = own[0] === MARKER ? 0 : 1; // a marker that stands before the word, and in no text
      const word = ahead ? [MARKER, ...own] : own;
      const origin = (place) => first + from + Math.max(place - ahead, 0);
      const starts = word.flatMap((letter, place) => (letter === MARKER || place === 0 ? [place] : []));
      starts.forEach((start, index) => {
        const part = word.slice(start, starts[index + 1] ?? word.length);
        for (const [begin, end, id] of segment(part)) {
          const piece = part.slice(begin, end).join("");
          found.push({ id, piece, start: origin(start + begin), end: origin(start + end - 1) + 1 });
        }
      });
    }
    return found;
  }

  function tokenize(text) {
    return sections(text, data.special).flatMap((part) => (
      part.id === undefined
        ? pieces(part.text, part.start)
        : [{ id: part.id, piece: part.text, start: part.start, end: part.end, special: true }]
    ));
  }
  const encode = (text) => [...tokenize(text).map((token) => token.id), data.end];
  return { encode, tokenize, length: data.length, padded: (found) => padded(found, data), data };
}

/**
 * What stands at every position of the text segment, as refam_analysis.prompts.align_tokens says it:
 * [{text, word, kind, wordIndex}], and nothing is ever cut.
 */
export function alignTokens(prompt, { clip, t5 }, lists) {
  mustFit(prompt, clip, "clip", 2);
  mustFit(prompt, t5, "t5", 1);
  const characters = [...prompt.text];
  const tokens = t5.tokenize(prompt.text).map(({ piece, start, end, special }) => {
    const typed = characters.slice(start, end).join("");
    if (special) return { text: piece, word: "", kind: "special", wordIndex: null };
    const wordIndex = wordAt(prompt.words, start, end);
    const word = prompt.words[wordIndex];
    const text = piece === MARKER || !typed ? piece : typed;
    return { text, word: word.text, kind: kindOf(typed, word, lists), wordIndex };
  });
  const name = (id) => t5.data.vocabulary[id][0];
  tokens.push({ text: name(t5.data.end), word: "", kind: "special", wordIndex: null });
  while (tokens.length < t5.length) {
    tokens.push({ text: name(t5.data.padding), word: "", kind: "padding", wordIndex: null });
  }
  return tokens;
}

/** Refuse a prompt that a tokenizer would cut, and name the words that would be. */
function mustFit(prompt, tokenizer, encoder, added) {
  if (tokenizer.encode(prompt.text).length <= tokenizer.length) return;
  const characters = [...prompt.text];
  const counts = (word) => tokenizer.encode(characters.slice(0, word.end).join("")).length - added;
  const first = prompt.words.findIndex((word) => counts(word) > tokenizer.length - added);
  const cut = prompt.words.slice(Math.max(first, 0)).map((word) => word.text).join(" ");
  throw new PromptError(
    `The prompt needs more than ${tokenizer.length} tokens of the ${encoder} encoder: “${cut}” would be cut. ` +
    "Shorten the expression or append fewer magnets.",
  );
}

function padded(ids, { length, padding }) {
  return [...ids, ...Array(Math.max(length - ids.length, 0)).fill(padding)].slice(0, length);
}

/** A text cut at the special tokens that were typed in it: [{text, start, end}], those with their id. */
function sections(text, special) {
  const escaped = special.map(({ text: name }) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const pattern = new RegExp(escaped.sort((one, other) => other.length - one.length).join("|"), "gu");
  const parts = [];
  let [from, place] = [0, 0];
  const add = (part, id) => {
    const length = [...part].length;
    if (length) parts.push({ text: part, start: place, end: place + length, id });
    place += length;
  };
  for (const match of text.matchAll(pattern)) {
    add(text.slice(from, match.index));
    add(match[0], special.find(({ text: name }) => name === match[0]).id);
    from = match.index + match[0].length;
  }
  add(text.slice(from));
  return parts;
}

/** Runs of letters between white space: [start, end]. */
function runs(letters) {
  const space = new RegExp(`[${SPACE}]`, "u");
  const found = [];
  let start = -1;
  letters.forEach((letter, place) => {
    const isSpace = space.test(letter);
    if (isSpace && start >= 0) found.push([start, place]);
    if (isSpace) start = -1;
    else if (start < 0) start = place;
  });
  if (start >= 0) found.push([start, letters.length]);
  return found;
}

/** GPT-2's visible characters for the 256 bytes. */
function byteCharacters() {
  const shown = (byte) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(shown(byte) ? byte : next++));
}
