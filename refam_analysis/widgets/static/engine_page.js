/**
 * The page on which a reader types a sentence: what is shown, what the worker is asked, what happens without one.
 *
 * A classic script, so that the page can say on file:// why it needs http. The model's files are loaded when the reader
 * asks for them. What can be seen is built by engine_view.js; the model runs in engine_worker.js. Whoever wants the
 * numbers of an answer listens for the event refam-answer, whose detail it is.
 */
import { unpacked } from "./engine_answers.js";
import { drawScene, namesOf, sampleScene } from "./engine_scene.js";
import { createDrawing, createGallery, createMagnets, createOffer, createPictures } from "./engine_view.js";
import { createSentence, createTokens, megabytes, sentenceOf } from "./engine_view.js";
import { decodePicture, element } from "./drawing.js";

const PAUSE = 350; // milliseconds without a key, after which a sentence is read
const LINK = "Copy a link to this";
const NOT_READ = "content word that is not read: it is outside of the noun phrase";
const UNITS = { raw: "attention", map: "share of the map", share: "share of the text" };

let packed = null;
let onPacked = () => {};

/** Called by answers.js. */
export function answered(found) {
  packed = found;
  onPacked();
}

/** Build the page's part. known: what the build wrote into the script; script: its own address. */
export function start(known, script) {
  const place = document.querySelector("[data-refam-engine]");
  if (place) new Page(known, new URL(".", script).href).open(place);
}

/** Why the model cannot run here, or null. */
function obstacle() {
  if (location.protocol === "file:") {
    return "This page was opened as a file, from which browsers load no models. Open it from a web server (http) to " +
      "type your own sentences; in the book's folder, “python -m http.server” is one.";
  }
  if (typeof WebAssembly !== "object") {
    return "This browser has no WebAssembly, or it is switched off, so the model cannot run here.";
  }
  if (typeof Worker !== "function" || typeof DecompressionStream !== "function") {
    return "This browser is too old to run the model: it lacks module workers or streams that unpack files.";
  }
  return null;
}

/** One visit: what is shown, what was asked, and the worker that answers. */
class Page {
  constructor(known, base) {
    Object.assign(this, { known, base, gallery: known.gallery, worker: null, pixels: null, asked: 0, timer: 0 });
    const { gallery } = this;
    this.wanted = readHash(gallery);
    this.state = {
      phase: "offer", reason: "", share: 0, picture: null, bytes: null, name: "", names: [], text: this.wanted.text,
      answer: null, busy: false, problem: "", chosen: 0, previewed: null, row: Math.floor(gallery.blocks / 2),
      side: "image", ...this.wanted.state,
    };
    this.status = element("p", { class: "refam-engine-status", role: "status" });
    this.link = element("button", { type: "button", class: "refam-button refam-engine-link", click: () => this.copyLink() }, LINK);
    this.views = this.createViews();
    const { gallery: scenes, drawing, sentence, pictures, magnets, tokens } = this.views;
    const [above, below] = [[scenes, drawing, sentence], [pictures, magnets, tokens]];
    this.work = element(
      "div", { class: "refam-engine-work" }, ...above.map((view) => view.element), this.status,
      ...below.map((view) => view.element), this.link,
    );
  }

  createViews() {
    const { gallery, known: { version } } = this;
    const submit = (text) => {
      this.state.text = text;
      if (this.state.phase === "offer") this.load();
      this.ask();
    };
    return {
      offer: createOffer({ onLoad: () => this.load() }),
      gallery: createGallery({
        sheet: `${this.base}sheet.webp?v=${version}`, columns: gallery.columns,
        names: gallery.expressions.map((texts) => texts[0]), onChoose: (index) => this.chooseScene(index),
      }),
      drawing: createDrawing({ onDraw: () => this.drawAnew(), onNumber: (number) => this.set({ number }) }),
      sentence: createSentence({ onType: (text) => this.type(text), onSubmit: submit, onSuggestion: submit }),
      magnets: createMagnets({
        magnets: gallery.magnets, onToggle: (word, on) => this.toggle([word], on),
        onAll: (on) => this.toggle(gallery.magnets, on),
      }),
      pictures: createPictures(),
      tokens: createTokens({
        onChoose: (chosen, row = this.state.row) => this.set({ chosen, row }),
        onPreview: (previewed) => this.set({ previewed }), onSide: (side) => this.set({ side }),
      }),
    };
  }

  open(place) {
    place.replaceChildren(this.views.offer.element, this.work);
    const problem = obstacle();
    if (problem) {
      this.fallBack(problem);
      return;
    }
    const names = this.state.seed === null ? this.gallery.expressions[this.state.scene] : [];
    this.set({ names, text: this.wanted.text || (names[0] ?? "") });
  }

  set(change) {
    Object.assign(this.state, change);
    this.render();
  }

  render() {
    const { state, views, known } = this;
    const ready = state.phase === "ready";
    views.offer.update({ phase: state.phase, text: this.offerText(), bytes: known.bytes, share: state.share });
    views.gallery.update({ chosen: state.seed === null ? state.scene : null });
    views.drawing.update({ number: state.number, seed: state.seed, on: ready });
    views.sentence.update({ text: state.text, suggestions: state.names, typing: state.phase !== "off" });
    const left = state.answer && ready ? [...state.on].filter((word) => !state.answer.magnets.includes(word)) : [];
    views.magnets.update({ on: state.on, left, usable: ready });
    this.renderAnswer();
    this.link.hidden = !ready || !state.answer || !navigator.clipboard;
  }

  renderAnswer() {
    const { state, views, gallery, status } = this;
    const { answer, picture } = state;
    status.textContent = state.problem || (answer ? sentenceOf(answer) : "") || (state.busy ? "Looking …" : "");
    status.classList.toggle("refam-engine-problem", Boolean(state.problem));
    const tokens = answer ? tokensOf(answer) : [];
    const within = (index) => Math.min(index, Math.max(tokens.length - 1, 0));
    const shown = tokens[within(state.previewed ?? state.chosen)];
    views.pictures.update({ picture, answer, map: answer ? mapOf(answer, shown, gallery) : null });
    const { side, row } = state;
    views.tokens.update(answer && { tokens, chosen: within(state.chosen), received: answer.received, side, row });
  }

  offerText() {
    const { phase, share, reason } = this.state;
    return {
      offer: "The model runs in your browser, and what you type stays there. Its files are loaded once, when you ask.",
      loading: `Loading: ${Math.round(100 * share)} % of ${megabytes(this.known.bytes)}.`,
      starting: "All files are here. Starting the model …", off: reason,
      ready: `The model runs in this page: type what you like. ${switchesOf(this.gallery)}`,
    }[phase];
  }

  load() {
    const { base, known: { files, version } } = this;
    this.set({ phase: "loading", share: 0 });
    this.worker = new Worker(`${base}worker.js?v=${version}`, { type: "module" });
    this.worker.addEventListener("message", ({ data }) => this.receive(data));
    this.worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.fallBack(`The model could not be started here (${event.message || "the browser does not say why"}).`);
    });
    this.worker.postMessage({ load: { base, files, version } });
  }

  receive({ progress, ready, answer, refused, failed }) {
    const share = progress ? progress.loaded / progress.total : 1;
    if (progress) this.set({ phase: progress.starting ? "starting" : "loading", share });
    if (ready) this.begin(ready.gallery);
    if (failed && failed.id === null) this.fallBack(`The model could not be loaded: ${failed.message}`);
    else if (answer?.id === this.asked) this.show(answer);
    else if ((refused ?? failed)?.id === this.asked) {
      this.set({ answer: null, busy: false, problem: (refused ?? failed).message });
    }
  }

  begin(pixels) {
    this.pixels = pixels;
    this.set({ phase: "ready" });
    const { seed, scene, text } = this.state;
    if (seed !== null) this.drawAnew(seed, text);
    else this.chooseScene(scene, text);
  }

  show(answer) {
    const [rows, columns] = this.gallery.grid;
    const words = answer.words.map((word) => ({ ...word, rows, columns }));
    const { length } = tokensOf(answer);
    const chosen = this.state.chosen < length ? this.state.chosen : 0;
    this.set({ answer: { ...answer, words }, busy: false, problem: "", chosen, previewed: null });
    if (this.state.phase === "ready") history.replaceState(null, "", writeHash(this.state, this.gallery));
    this.work.dispatchEvent(new CustomEvent("refam-answer", { bubbles: true, detail: answer }));
  }

  /** Ask about the sentence as it stands; older questions are forgotten. */
  ask() {
    clearTimeout(this.timer);
    const { state } = this;
    if (state.phase === "off") {
      this.showStored();
      return;
    }
    if (state.phase !== "ready") {
      this.render(); // what was asked last is asked when the model is there
      return;
    }
    this.asked += 1;
    const magnets = this.gallery.magnets.filter((word) => state.on.has(word));
    const picture = { name: state.name, pixels: state.bytes };
    this.worker.postMessage({ ask: { id: this.asked, picture, text: state.text, magnets } });
    this.set({ busy: true });
  }

  chooseScene(index, text = "") {
    const names = this.gallery.expressions[index];
    const change = { scene: index, seed: null, answer: null, problem: "", names, chosen: 0, text: text || names[0] };
    if (this.state.phase === "ready") {
      const [height, width] = this.gallery.size;
      const area = 3 * height * width;
      const bytes = this.pixels.slice(index * area, (index + 1) * area);
      Object.assign(change, { bytes, name: `gallery ${index}`, picture: imageOf(bytes, width, height) });
    }
    this.set(change);
    this.ask();
  }

  drawAnew(seed = Math.floor(Math.random() * 1e6), text = "") {
    const { gallery, state: { number } } = this;
    const [height, width] = gallery.size;
    const scene = sampleScene(seed, number, gallery.vocabulary);
    const bytes = drawScene(scene, height, gallery.vocabulary);
    const names = namesOf(scene);
    this.set({
      seed, answer: null, problem: "", names, chosen: 0, text: text || names[0] || "the one on the left",
      bytes, name: `drawn ${number} ${seed}`, picture: imageOf(bytes, width, height),
    });
    this.ask();
  }

  type(text) {
    this.state.text = text;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), PAUSE);
  }

  toggle(words, on) {
    for (const word of words) this.state.on[on ? "add" : "delete"](word);
    this.ask();
  }

  async copyLink() {
    await navigator.clipboard.writeText(location.href);
    this.link.textContent = "Copied";
    setTimeout(() => { this.link.textContent = LINK; }, 1500);
  }

  /** Without the model: the gallery's own sentences, whose answers came with the book. */
  fallBack(reason) {
    this.worker?.terminate();
    const rest = "Below are the gallery's own sentences, which the same model answered when this book was built.";
    Object.assign(this.state, { phase: "off", reason: `${reason} ${rest}`, seed: null, text: "" });
    onPacked = () => this.chooseScene(this.state.scene);
    if (packed) onPacked();
    else document.head.append(element("script", { src: `${this.base}answers.js?v=${this.known.version}` }));
    this.render();
  }

  async showStored() {
    const { scene, text } = this.state;
    const { picture, answers } = packed[scene];
    const decoded = await decodePicture(picture);
    if (scene !== this.state.scene || text !== this.state.text) return;
    this.state.picture = decoded;
    this.show(unpacked(answers[text] ?? Object.values(answers)[0], this.gallery));
  }
}

/** Which of the pipeline's switches are on, and which of them a page cannot have. */
function switchesOf({ settings, off }) {
  const on = [
    settings.noun_phrase ? "the words of the noun phrase, found by rules, are read" : "all content words are read",
    settings.spatial_bias ? "words of place add a smooth prior" : "",
  ].filter(Boolean);
  const missing = off.includes("gas") ? " The handling of sinks is off here." : "";
  return `As the model's settings say, ${on.join(", and ")}.${missing}`;
}

/** What a reader chooses a map of: the sentence, then its tokens but for padding. */
function tokensOf(answer) {
  const off = (kind) => !answer.tokenMaps && kind !== "content"; // what was stored has no other maps
  const read = new Set(answer.words.map(({ index }) => index));
  const noteOf = ({ kind, wordIndex }) => (kind === "content" && !read.has(wordIndex) ? NOT_READ : undefined);
  const numbered = answer.tokens.map((token, place) => ({
    ...token, place, off: off(token.kind), note: noteOf(token),
  }));
  const rows = numbered.filter(({ kind }) => kind !== "padding");
  return [{ text: "whole sentence", kind: "sentence", note: "the words of the sentence together" }, ...rows];
}

/** The map of a choice: of the sentence, or of the word that a token belongs to. */
function mapOf(answer, token, { grid: [rows, columns], settings }) {
  const unit = UNITS[settings.normalisation];
  if (token.kind === "sentence") {
    const product = settings.aggregation === "product";
    const mean = product ? "geometric mean of the words" : unit;
    const name = "The whole sentence";
    return { ...answer.heatmap, name, unit: answer.places.length ? `${mean}, times place` : mean };
  }
  const patches = rows * columns;
  const values = answer.tokenMaps
    ? answer.tokenMaps.subarray(token.place * patches, (token.place + 1) * patches)
    : answer.words.find(({ text }) => text === token.word)?.values ?? new Float32Array(patches);
  return { values, rows, columns, name: `“${token.text}”, ${token.kind}`, unit };
}

function imageOf(data, width, height) {
  const image = new ImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel += 1) {
    image.data.set([data[3 * pixel], data[3 * pixel + 1], data[3 * pixel + 2], 255], 4 * pixel);
  }
  return image;
}

/** What the address says: a scene of the gallery or one drawn anew, a sentence, magnets left out. */
function readHash(gallery) {
  const given = new URLSearchParams(location.hash.slice(1));
  const whole = (name, least, most, otherwise) => {
    const value = Number.parseInt(given.get(name) ?? "", 10);
    return value >= least && value <= most ? value : otherwise;
  };
  const left = new Set((given.get("without") ?? "").split(" "));
  return {
    text: (given.get("text") ?? "").slice(0, 400),
    state: {
      scene: whole("scene", 1, gallery.expressions.length, 1) - 1, seed: whole("seed", 0, 1e6, null),
      number: whole("objects", 1, 4, 3), on: new Set(gallery.magnets.filter((word) => !left.has(word))),
    },
  };
}

function writeHash(state, gallery) {
  const found = new URLSearchParams();
  if (state.seed === null) found.set("scene", String(state.scene + 1));
  else for (const [name, value] of [["objects", state.number], ["seed", state.seed]]) found.set(name, String(value));
  found.set("text", state.text);
  const left = gallery.magnets.filter((word) => !state.on.has(word));
  if (left.length) found.set("without", left.join(" "));
  return `#${found}`;
}
