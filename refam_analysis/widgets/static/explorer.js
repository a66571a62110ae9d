/**
 * The explorer: a sentence, a picture, and the attention between them, to be hovered, slid through and toggled.
 *
 * Used twice: by anywidget in notebooks (`render`), and by the static page of the book (`start`, `register`), for which
 * `explorer_files.py` makes a classic script of it. What is shown is a function of the state; `show` draws all of it.
 */
import { createColourBar, createMatrix, createTokenStrip, decodePicture } from "./drawing.js";
import { drawAnswer, drawHeat, largest } from "./drawing.js";
import { createBars, createChoices, createSlider, createSwitch } from "./controls.js";
import { MEAN, Scene, unpacked } from "./explorer-data.js";
import { allChips, createGallery, createPatches, layout, stacked, watchPatches } from "./explorer-parts.js";
import { caption, massSentence, number, patchSentence, verdict } from "./explorer-words.js";

const CHOICES = ["scene", "direction", "block", "head", "token", "magnets", "side"]; // what a state holds
const TURN = 260; // milliseconds from one map to the next
const HINT = "Point at the picture to see what a patch reads.";

/** An explorer in an element. */
export class Explorer {
  /**
   * headings: [{name, title, why, expression, thumbnail}]; load(name): a promise of a scene's data; state: where to
   * begin; onState(state): called after every change by the reader.
   */
  constructor(root, { headings, load, state = {}, onState = () => {} }) {
    Object.assign(this, { root, load, onState });
    const begin = { direction: "image_to_text", block: null, head: MEAN, token: null, magnets: true, side: "image" };
    this.state = { scene: headings[0].name, ...begin, ...state };
    [this.scene, this.picture, this.preview, this.patch, this.drawn, this.turn] = [null, null, null, null, null, 0];
    this.parts = this.make(headings);
    this.page = layout(this.parts);
    root.classList.add("refam-drawn", "refam-explorer");
    root.replaceChildren(...this.page.sections);
    watchPatches(this.page.main, () => this.scene?.grid, (cell) => { this.patch = cell; this.showPatch(); });
    this.open(this.state.scene);
  }

  make(headings) {
    const set = (name, read = (value) => value) => (value) => this.change({ [name]: read(value) });
    return {
      gallery: createGallery({ headings, onChoose: (name) => this.open(name, true) }),
      strip: createTokenStrip({
        label: "The sentence, token by token",
        onChoose: (index) => { this.preview = null; this.change({ token: this.chips[index].key }); },
        onPreview: (index) => { this.preview = index === null ? null : this.chips[index].key; this.show(); },
      }),
      direction: createChoices({ label: "Direction", onChange: set("direction") }),
      block: createSlider({ label: "Block", onChange: set("block", (place) => this.scene.blocks[place]) }),
      head: createChoices({ label: "Head", onChange: set("head", (value) => (value === MEAN ? MEAN : Number(value))) }),
      magnets: createSwitch({ label: "magnets", onChange: set("magnets") }),
      bar: createColourBar(),
      where: createBars({ label: "Where the map of this token lies" }),
      reads: createBars({ label: "What the background reads, by kind of token" }),
      side: createChoices({ label: "Received from", onChange: set("side") }),
      scale: createColourBar(),
      sinks: createMatrix({
        label: "Received mass of every token, by block. Arrow keys go up and down over blocks, along over tokens.",
        describe: (row, column) => this.describe(row, column), announce: true,
        onChoose: (row, column) => {
          this.column = column;
          this.change({ block: this.scene.blocks[row], token: this.chipAt(column).key });
        },
      }),
      patches: createPatches({ onChoose: set("block", (place) => this.scene.blocks[place]) }),
    };
  }

  get view() { return this.scene.view(this.state.magnets); }
  get chips() { return allChips(this.scene); }
  get place() { return this.scene.blocks.indexOf(this.state.block); }
  chipAt(column) { return this.view.chips.find((chip) => chip.map === this.view.tokens[column].map); }
  isOff(chip) { return !this.view.chips.some((own) => own.key === chip.key); }

  /** The reader's change. */
  change(changes) {
    Object.assign(this.state, changes);
    const shown = this.show();
    this.onState({ ...this.state });
    return shown;
  }

  /** Take over a state from outside. */
  set(changes) {
    const other = changes.scene !== undefined && changes.scene !== this.scene?.name;
    Object.assign(this.state, changes);
    return other ? this.open(this.state.scene) : this.show();
  }

  /** Load a scene and show it. */
  async open(name, tell = false) {
    this.state.scene = name;
    this.parts.gallery.update({ chosen: name });
    this.page.error.textContent = "";
    try {
      const data = await this.load(name);
      const picture = await decodePicture(data.picture);
      if (this.state.scene !== name) return;
      Object.assign(this, { scene: new Scene(data), picture, preview: null, drawn: null });
      const shown = this.show();
      if (tell) this.onState({ ...this.state });
      await shown;
    } catch (problem) {
      if (this.state.scene === name) this.page.error.textContent = `This scene cannot be shown: ${problem.message}`;
    }
  }

  /** Put in the place of what this scene does not have what it has. */
  complete() {
    const { scene, state } = this;
    if (!scene.directions.includes(state.direction)) [state.direction] = scene.directions;
    if (!scene.sides.includes(state.side)) [state.side] = scene.sides;
    if (!scene.blocks.includes(state.block)) [state.block] = scene.blocks;
    if (state.head !== MEAN && !scene.heads.includes(state.head)) state.head = MEAN;
    const usable = this.chips.filter((chip) => !this.isOff(chip));
    if (!usable.some((chip) => chip.key === state.token)) {
      state.token = (usable.find((chip) => chip.kind === "content") ?? usable[0]).key;
    }
  }

  /** Draw everything; the promise ends when the map has come to rest. */
  show() {
    if (!this.scene) return Promise.resolve();
    this.complete();
    const { scene, state, view } = this;
    const key = view.chips.some((chip) => chip.key === this.preview) ? this.preview : state.token;
    const chip = view.chips.find((one) => one.key === key);
    const values = view.mapOf(state.direction, this.place, state.head, chip.map);
    this.showChoices(chip);
    const sentence = caption({ scene, state, chip, values, places: scene.cover && view.places(values) });
    this.page.caption.textContent = sentence;
    if (key === state.token) this.page.live.textContent = sentence;
    this.parts.bar.update({ low: "0", label: "attention", high: number(largest(values)) });
    this.showAnswer(view.answer);
    this.showShares(chip);
    this.showSinks(chip);
    this.showPatch();
    this.root.dataset.shown = [scene.name, state.direction, state.block, state.head, key, state.magnets].join("/");
    return this.turnTo(values);
  }

  showChoices(chosen) {
    const { scene, state, view, parts } = this;
    const sinks = new Set((view.sinks[this.place] ?? []).map((token) => view.tokens[token].map));
    this.page.title.textContent = scene.title;
    this.page.why.textContent = scene.why;
    this.shownChips = {
      tokens: this.chips.map((chip) => ({
        text: chip.count > 1 ? `${chip.kind} × ${chip.count}` : chip.text, kind: chip.kind, off: this.isOff(chip),
        badge: sinks.has(chip.map) && !this.isOff(chip) ? "sink" : undefined,
      })),
      chosen: this.chips.findIndex((chip) => chip.key === chosen.key),
    };
    parts.strip.update(this.shownChips);
    const directions = scene.directions.map((value) => ({ value, text: value }));
    parts.direction.update({ choices: directions, chosen: state.direction });
    const last = scene.blocks.length - 1;
    parts.block.update({ low: 0, high: last, value: this.place, text: `${state.block} of ${scene.blocks[last]}` });
    const heads = [MEAN, ...scene.heads].map((value) => ({ value: String(value), text: String(value) }));
    parts.head.update({ choices: heads, chosen: String(state.head) });
    parts.magnets.update({ on: state.magnets });
    parts.magnets.element.hidden = !scene.hasBoth;
  }

  /** From the map that is drawn to the next; at once where the reader wants no motion. */
  turnTo(values) {
    const { drawn: before, page, root, scene: { grid: [rows, columns] } } = this;
    const next = values.map((value) => Math.max(0, value) / (largest(values) || 1));
    const still = !before || matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.turn += 1;
    const [own, started] = [this.turn, performance.now()];
    root.dataset.settled = "false";
    return new Promise((resolve) => {
      const frame = (now) => {
        if (own !== this.turn) { resolve(); return; }
        const part = still ? 1 : Math.min(1, Math.max(0, (now - started) / TURN));
        const eased = part * part * (3 - 2 * part);
        this.drawn = part < 1 ? next.map((share, cell) => before[cell] + eased * (share - before[cell])) : next;
        drawHeat(page.canvas, { picture: this.picture, values: this.drawn, rows, columns, limit: 1 });
        if (part < 1) { requestAnimationFrame(frame); return; }
        root.dataset.settled = "true";
        resolve();
      };
      frame(started);
    });
  }

  showAnswer(answer) {
    const { page, picture, scene } = this;
    page.answers.hidden = !answer;
    if (!answer) return;
    const { heatmap, rows, columns, mask, point } = answer;
    drawHeat(page.heatmap, { picture, values: heatmap, rows, columns });
    drawAnswer(page.answer, { picture, mask, truth: scene.truth, point });
    page.verdict.textContent = verdict(answer);
    page.answer.setAttribute("aria-label", `The pipeline's point and mask. ${page.verdict.textContent}`);
  }

  showShares(chip) {
    const { page, parts, place, scene, state } = this;
    page.shares.hidden = !scene.cover;
    if (!scene.cover) return;
    const names = ["without", "with"].filter((name) => name in scene.views);
    const rows = (shares) => names.flatMap((name) => {
      const parts = shares(scene.views[name]);
      return parts ? [{ text: name === "with" ? "magnets" : "no magnets", parts: stacked(parts) }] : [];
    });
    parts.where.update({ rows: rows((view) => {
      const own = view.chips.find((one) => one.key === chip.key);
      return own && view.places(view.mapOf(state.direction, place, state.head, own.map));
    }) });
    parts.reads.element.hidden = !scene.directions.includes("image_to_text");
    if (parts.reads.element.hidden) return;
    parts.reads.update({ rows: rows((view) => Object.fromEntries(view.backgroundReads(place, state.head))) });
  }

  showSinks(chip) {
    const { page, parts, place, scene, state, view } = this;
    page.sinks.hidden = !scene.sides.length;
    if (!scene.sides.length) return;
    const sides = scene.sides.map((value) => ({ value, text: `${value} queries` }));
    parts.side.update({ choices: sides, chosen: state.side });
    const most = scene.largestMass(state.side);
    const top = Math.log2(1 + most);
    parts.scale.update({ low: "0", label: "received mass, on a logarithmic scale", high: number(most) });
    const share = (mass) => Math.log2(1 + Math.max(0, mass)) / top;
    const masses = (part) => scene.blocks.map((_, row) => view.mass(state.side, part, row, state.head));
    // Of padding, which has one chip for all, the place that the reader went to stays.
    const stays = view.tokens[this.column]?.map === chip.map;
    if (!stays) this.column = view.tokens.findIndex(({ map }) => map === chip.map);
    parts.sinks.update({
      rows: scene.blocks.map(String), share, chosen: [place, this.column],
      values: masses("tokens").flatMap((mass) => [...mass]),
      columns: view.tokens.map(({ text, kind }) => ({ text: kind === "padding" ? "" : text, kind })),
    });
    const [rows, columns] = scene.grid;
    parts.patches.update({ blocks: scene.blocks, chosen: place, rows, columns, share, values: masses("patches") });
  }

  describe(row, column) {
    const { scene, state, view } = this;
    const mass = view.mass(state.side, "tokens", row, state.head)[column];
    return massSentence({ token: view.tokens[column], block: scene.blocks[row], mass, side: state.side });
  }

  /** Under the picture and under the tokens: what the patch that is pointed at reads. */
  showPatch() {
    const { page, parts, patch, scene, state, view } = this;
    const usable = patch !== null && scene.directions.includes("image_to_text");
    const masses = usable ? view.patchReads(this.place, state.head, patch) : [];
    page.patch.textContent = usable
      ? patchSentence({ chips: view.chips, masses, cell: patch, columns: scene.grid[1] }) : HINT;
    const byKey = new Map(view.chips.map((chip, at) => [chip.key, masses[at] / largest(masses)]));
    const shares = usable ? this.chips.map((chip) => byKey.get(chip.key) ?? 0) : null;
    parts.strip.update({ ...this.shownChips, shares });
  }
}

const arrived = new Map(); // scenes of the static page, by name: their data, or what waits for them

/** What every script of a scene calls. */
export function register(name, data) {
  arrived.get(name)?.(data);
}

/** The address of a file beside the page's script, of the same version. */
function beside(path, address) {
  const found = new URL(path, address);
  found.search = new URL(address).search;
  return found.href;
}

/** A scene of the static page, by a script: a page that was opened as a file may fetch nothing. */
function loadScript(name, address) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = beside(`scenes/${name}.js`, address);
    const advice = "Reload the page, or build the book again.";
    const broken = () => reject(new Error(`its file ${script.src} cannot be unpacked. ${advice}`));
    arrived.set(name, (data) => unpacked(data).then(resolve, broken));
    script.onerror = () => reject(new Error(`its file ${script.src} did not load. ${advice}`));
    script.onload = () => script.remove();
    document.head.append(script);
  });
}

/** The static page: fill every element with the attribute data-refam-explorer. */
export function start(headings, address) {
  const loads = new Map();
  const load = (name) => {
    if (!loads.has(name)) {
      const loading = loadScript(name, address);
      loads.set(name, loading);
      loading.catch(() => loads.delete(name));
    }
    return loads.get(name);
  };
  const shown = headings.map((heading) => ({ ...heading, thumbnail: beside(heading.thumbnail, address) }));
  const fill = () => document.querySelectorAll("[data-refam-explorer]").forEach((root) => {
    new Explorer(root, { headings: shown, load });
  });
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", fill);
  else fill();
}

/** The notebook: scenes come from Python, one at a time; what the reader chooses goes there. */
function render({ model, el }) {
  const waiting = [];
  const arrive = () => waiting.splice(0).forEach((look) => look());
  model.on("change:data", arrive);
  const load = (name) => new Promise((resolve) => {
    const look = () => (model.get("data").name === name ? resolve(model.get("data")) : waiting.push(look));
    look();
    model.set("scene", name);
    model.save_changes();
  });
  const read = () => Object.fromEntries(CHOICES.map((name) => [name, model.get(name)]));
  const root = document.createElement("div");
  el.append(root);
  let telling = false;
  const explorer = new Explorer(root, {
    headings: model.get("headings"), load, state: read(),
    onState: (state) => {
      telling = true;
      CHOICES.forEach((name) => model.set(name, state[name]));
      model.save_changes();
      telling = false;
    },
  });
  const changed = () => { if (!telling) explorer.set(read()); };
  CHOICES.forEach((name) => model.on(`change:${name}`, changed));
  return () => {
    model.off("change:data", arrive);
    CHOICES.forEach((name) => model.off(`change:${name}`, changed));
  };
}

export default { render };
