/**
 * The embedded model in the browser: a picture and a sentence in, maps, point, mask and received mass out.
 *
 * The networks are ONNX graphs that refam_analysis.widgets.browser wrote; what comes before and behind them is in the
 * other engine_ files. Nothing here knows of a page: ort is onnxruntime-web, graphs maps names to sessions.
 */
import { aggregate, chooseMask, contentWords, peak, upsample, withPlaces, wordMaps } from "./engine_heatmap.js";
import { createLexicon, phraseWords } from "./engine_phrase.js";
import { places } from "./engine_places.js";
import { makePrompt } from "./engine_prompt.js";
import { alignTokens, createClipTokenizer, createT5Tokenizer } from "./engine_tokenizer.js";

/** about: the model's description as the build wrote it; noise: float32, draw by draw. */
export function createModel({ ort, graphs, about, noise }) {
  const clip = createClipTokenizer(about.words.clip);
  const t5 = createT5Tokenizer(about.words.t5);
  const lists = { stop: new Set(about.words.lists.stop), colours: new Set(about.words.lists.colours) };
  const lexicon = createLexicon(about.words.phrases);
  const own = (prompt) => prompt.words.filter((word) => !word.isMagnet).map((word) => word.text);
  const placesOf = (prompt) => places(own(prompt), about.words.places);
  const draws = new ort.Tensor("float32", noise, about.noiseShape);
  const numbers = (ids) => new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]);

  /** What depends on the picture alone. pixels: RGB bytes, row by row. */
  async function look(pixels) {
    const [height, width] = about.size;
    const input = new ort.Tensor("float32", channels(pixels, height * width), [1, 3, height, width]);
    const { latents } = await graphs.picture.run({ pixels: input });
    const { embedding } = await graphs["segmenter-picture"].run({ pixels: input });
    return { latents, embedding };
  }

  /** Tokens and words of a sentence, checked before anything is computed. */
  function read(text, magnets) {
    const prompt = makePrompt(text, magnets, lists);
    const tokens = alignTokens(prompt, { clip, t5 }, lists);
    const words = contentWords(tokens, prompt.expression);
    if (!about.settings.noun_phrase) return { prompt, tokens, words };
    const kept = phraseWords(own(prompt), lexicon);
    const narrowed = words.filter(({ index }) => kept.includes(index));
    return { prompt, tokens, words: narrowed.length ? narrowed : words };
  }

  async function attend({ latents }, prompt) {
    const encoded = await graphs.sentence.run({
      clip_ids: numbers(clip.padded(clip.encode(prompt.text))), t5_ids: numbers(t5.padded(t5.encode(prompt.text))),
    });
    return graphs.attention.run({ latents, noise: draws, ...encoded });
  }

  async function segment({ embedding }, point, heatmap) {
    const [height, width] = about.size;
    const asked = new ort.Tensor("float32", Float32Array.from(point), [2]);
    const { logits, scores } = await graphs["segmenter-mask"].run({ embedding, point: asked });
    const masks = Array.from(scores.data, (_, index) => (
      Uint8Array.from(logits.data.subarray(index * height * width, (index + 1) * height * width), (value) => (
        Number(value > about.maskThreshold)
      ))
    ));
    const chosen = chooseMask(masks, [...scores.data], heatmap, about.size, about.maskChoice);
    return { mask: masks[chosen], score: scores.data[chosen] };
  }

  /**
   * The whole path. Gives the prompt's text and magnets, tokens, the words that are read with their maps (one number a
   * patch), the places that the sentence names, the heatmap, the point in pixels, the mask (one byte a pixel), its
   * score, the received mass (block by block, one number a token of the text) from text and from image queries, and
   * the token maps as they came.
   */
  async function answer(picture, text, magnets) {
    const { prompt, tokens, words } = read(text, magnets);
    const found = await attend(picture, prompt);
    const grid = { rows: about.grid[0], columns: about.grid[1] };
    const maps = wordMaps(found.token_maps.data, words, grid);
    const fine = upsample(aggregate(maps, about.settings.aggregation), about.settings.upsampling);
    const strength = about.settings.spatial_bias;
    const named = strength ? placesOf(prompt) : [];
    const heatmap = withPlaces(fine, named, strength);
    const point = peak(heatmap, about.size);
    const { mask, score } = await segment(picture, point, heatmap);
    return {
      expression: prompt.expression, text: prompt.text, magnets: prompt.magnets, tokens, heatmap, point, mask, score,
      words: words.map(({ text: word, index }, at) => ({ text: word, index, values: maps[at].values })),
      places: named.map((place) => place.text),
      received: {
        text: textKeys(found.received_from_text, tokens.length),
        image: textKeys(found.received_from_image, tokens.length),
      },
      tokenMaps: found.token_maps.data,
    };
  }

  /** The keys of the text, which stand first or behind the image. */
  function textKeys({ data, dims: [blocks, keys] }, length) {
    const at = (block) => block * keys + about.textStart;
    return Array.from({ length: blocks }, (_, block) => data.slice(at(block), at(block) + length));
  }
  return { look, read, answer };
}

/** Bytes of pixels as numbers, channel by channel. */
function channels(pixels, area) {
  const values = new Float32Array(3 * area);
  for (let at = 0; at < 3 * area; at += 1) values[(at % 3) * area + Math.floor(at / 3)] = pixels[at];
  return values;
}
