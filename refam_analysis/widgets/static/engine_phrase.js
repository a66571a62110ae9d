/**
 * Noun phrases by rules, as refam_analysis.prompts.ruled finds them: which words say what is looked for.
 *
 * The word lists are the package's own, handed over in `tables`: {words, sections: [[tag, [word]]], colours, acts:
 * inflected verbs, and lists by name}. Tags and rules are those of the Python file, where they are explained.
 */
import { casefold, isPunctuation } from "./engine_prompt.js";

const BEFORE_HEAD = new Set(["determiner", "relative", "number", "adjective", "place", "participle", "adverb", "wear"]);
const IN_ATTRIBUTE = new Set(["determiner", "number", "adjective", "noun", "of", "with", "wear", "than"]);
const OPENS_NOUN = new Set(["determiner", "number", "adjective", "of", "with", "wear", "in", "and"]);

/** Indices of the phrase's words, rising. words: texts of the expression's words; tables: from createLexicon. */
export function phraseWords(words, lexicon) {
  return new Reader(words.map((word) => casefold(word).replaceAll("’", "'")), lexicon).read();
}

/** The tables with their lists as sets. */
export function createLexicon(tables) {
  const sets = Object.fromEntries(Object.entries(tables.lists).map(([name, list]) => [name, new Set(list)]));
  const tags = new Map();
  for (const [tag, list] of tables.sections) for (const word of list) if (!tags.has(word)) tags.set(word, tag);
  return { tags, words: tables.words, ...sets };
}

function tagOf(word, lexicon) {
  if (Object.hasOwn(lexicon.words, word)) return lexicon.words[word];
  if (isPunctuation(word)) return "mark";
  if (lexicon.tags.has(word)) return lexicon.tags.get(word);
  if (lexicon.colours.has(word)) return "adjective";
  if (/^[\p{Nd}\p{No}]+$/u.test(word) && !/[¼-¾]/u.test(word)) return "number";
  const parts = word.split("-");
  if (parts.length > 1) {
    if (parts.every((part) => lexicon.place_words.has(part) || lexicon.place_parts.has(part))) return "place";
    return ["participle", "adjective"].includes(tagOf(parts.at(-1), lexicon)) ? "adjective" : "noun";
  }
  return byEnding(word, lexicon);
}

function byEnding(word, lexicon) {
  const { length } = [...word];
  if (/(?:ing|ed)$/.test(word) && length > 4) return "participle";
  if (lexicon.acts.has(word)) return word.endsWith("s") ? "verb" : "participle";
  return /(?:ish|less|ful)$/.test(word) && length > 5 ? "adjective" : "noun";
}

/** Reads an expression from left to right; `at` is the word that comes next. */
class Reader {
  constructor(words, lexicon) {
    Object.assign(this, { words, lexicon, at: 0, kept: [], tags: words.map((word) => tagOf(word, lexicon)) });
  }

  read() {
    const head = this.head();
    if (head === null) {
      const everything = this.tags.flatMap((tag, index) => (tag === "mark" ? [] : [index]));
      return everything.length ? everything : [0];
    }
    while (this.at < this.words.length) this.next();
    return this.kept.sort((one, other) => one - other);
  }

  tag(ahead = 0) {
    return this.tags[this.at + ahead] ?? "end";
  }

  word(place = this.at) {
    return this.words[place] ?? "";
  }

  isIn(...lists) {
    return lists.some((name) => this.lexicon[name].has(this.word()));
  }

  keep(number = 1) {
    for (let left = number; left > 0 && this.at < this.words.length; left -= 1) {
      this.kept.push(this.at);
      this.at += 1;
    }
  }

  /** Reads up to the head noun and over it; null where there is none. */
  head() {
    for (let tag = this.tag(); tag !== "end"; tag = this.tag()) {
      if (tag === "noun" || tag === "verb") {
        // Like Python: a verb that is no noun leaves this where it is, and stands behind a word that leads to none.
        const head = this.nouns();
        if (head !== null) return head;
      } else if (BEFORE_HEAD.has(tag)) {
        this.keep();
        const isOne = ["one", "ones"].includes(this.words[this.at - 1]);
        if (isOne && !["noun", "adjective"].includes(this.tag())) return this.at - 1;
      } else if (tag === "and" && this.kept.length && BEFORE_HEAD.has(this.tag(1))) this.keep();
      else if (tag === "mark") this.at += 1;
      else if (this.standsAlone() || !((tag === "preposition" || tag === "in") && this.passPlace())) break;
    }
    return this.standsAlone() ? this.kept.at(-1) : null;
  }

  standsAlone() {
    const kept = this.kept.map((index) => this.tags[index]);
    return kept.at(-1) === "adjective" && kept.includes("determiner");
  }

  nouns() {
    while (this.tag() === "noun" || (this.tag() === "verb" && this.couldBeNoun())) {
      this.keep();
      if (/(?:'s|s')$/.test(this.words[this.at - 1])) return null;
    }
    const isNumbered = this.tag() === "number" && this.words[this.at - 1] === "number" && this.kept.length > 1;
    return isNumbered ? this.kept.at(-2) : this.at - 1;
  }

  couldBeNoun() {
    const before = this.tags[this.at - 1];
    return this.at === 0 || OPENS_NOUN.has(before) || before === "place";
  }

  /** What follows the head. */
  next() {
    const tag = this.tag();
    const wornNext = tag === "participle" && this.tag(1) === "noun" && this.word().endsWith("ed");
    if (["of", "with", "wear"].includes(tag) || (tag === "in" && this.isClothing(this.at + 1))) this.attribute();
    else if (tag === "adjective" || tag === "number" || wornNext) this.attribute();
    else if (tag === "relative" || tag === "copula") this.clause();
    else if (tag === "preposition" || tag === "in" || (tag === "place" && this.word().startsWith("near"))) {
      if (!this.passPlace()) this.passThing();
    } else if (tag === "place") this.passPlaces();
    else if (tag === "participle" || tag === "verb") this.passAction();
    else if (tag === "noun" && this.at && ["place", "mark"].includes(this.tags[this.at - 1])) this.attribute();
    else if (tag === "determiner" || tag === "noun") this.passThing();
    else this.at += 1;
  }

  attribute() {
    this.keep();
    while (this.goesOn()) this.keep();
  }

  goesOn() {
    const tag = this.tag();
    if (IN_ATTRIBUTE.has(tag)) return true;
    if (tag === "in") return this.isClothing(this.at + 1);
    if (tag === "and") return IN_ATTRIBUTE.has(this.tag(1));
    if (["participle", "place", "verb"].includes(tag) && OPENS_NOUN.has(this.tags[this.at - 1])) {
      return tag === "verb" || ["noun", "adjective"].includes(this.tag(1)) || this.isGarment(this.at);
    }
    return false;
  }

  clause() {
    const opener = this.tag();
    const length = 1 + Number(opener === "relative" && this.tag(1) === "copula");
    const follows = this.tag(length);
    const saysLook = follows === "wear" || (follows === "adjective" && this.tag(length - 1) === "copula");
    if (saysLook || this.word() === "whose") {
      this.keep(length);
      this.attribute();
      if (this.tag() === "copula" && this.tag(1) === "adjective") {
        this.keep();
        this.attribute();
      }
    } else if (opener === "copula" || length === 2 || follows === "verb" || follows === "participle") this.at += length;
    else this.passThing();
  }

  passPlace() {
    const start = this.at;
    this.at += 1;
    while (["determiner", "preposition", "in", "adverb", "and"].includes(this.tag())) this.at += 1;
    if (this.passPlaces()) return true;
    this.at = start;
    return false;
  }

  passPlaces() {
    const start = this.at;
    while (["place", "adverb"].includes(this.tag()) || this.isIn("place_parts", "viewer")) this.at += 1;
    // Python counts a place before the first word from the end.
    if (this.at === start || (this.tag() === "noun" && this.tags.at(start - 1) !== "noun")) return false;
    if (this.tag() === "of") return this.passPicture();
    if (this.word() === "to" && this.viewerFollows()) return this.passPlace();
    return true;
  }

  passPicture() {
    let last = this.at + 1;
    while (last < this.words.length && ["determiner", "adjective"].includes(this.tags[last])) last += 1;
    if (this.lexicon.picture.has(this.word(last))) this.at = last + 1;
    else this.passThing();
    return true;
  }

  viewerFollows() {
    return [1, 2].some((ahead) => this.lexicon.viewer.has(this.word(this.at + ahead)));
  }

  passAction() {
    this.at += 1;
    while (this.tag() === "adverb" || this.isIn("particles")) this.at += 1;
    if (["determiner", "noun", "number", "adjective"].includes(this.tag())) this.passThing();
  }

  passThing() {
    while (!["mark", "end"].includes(this.tag())) this.at += 1;
  }

  isClothing(start) {
    const runs = new Set(["determiner", "number", "adjective", "noun", "and"]);
    const worn = (place) => this.tags[place] === "participle" && this.tags[place + 1] === "noun";
    let last = start;
    while (last < this.words.length && (runs.has(this.tags[last]) || worn(last) || this.isGarment(last))) last += 1;
    while (last > start && ["and", "determiner"].includes(this.tags[last - 1])) last -= 1;
    const word = this.words[last - 1];
    return last > start && (this.lexicon.clothing.has(word) || this.lexicon.colours.has(word));
  }

  isGarment(place) {
    const isTop = place > 0 && this.word(place) === "top";
    return isTop && (this.tags[place - 1] === "adjective" || ["a", "tank", "crop"].includes(this.words[place - 1]));
  }
}
