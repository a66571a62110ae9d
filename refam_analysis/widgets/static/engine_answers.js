/**
 * Answers that were found when the book was built, for browsers that cannot run the model.
 *
 * They are packed: maps as bytes in base64 with their largest value, masks as run lengths down the columns.
 */

/** An answer in the form that engine_model.js gives. size: [height, width]; grid: [rows, columns] of patches. */
export function unpacked(packed, { size, grid }) {
  const [rows, columns] = grid;
  return {
    ...packed,
    tokens: packed.tokens.map(([text, word, kind, wordIndex]) => ({ text, word, kind, wordIndex })),
    words: packed.words.map(({ text, index, ...map }) => ({ text, index, values: numbers(map), rows, columns })),
    heatmap: { ...packed.heatmap, values: numbers(packed.heatmap) },
    mask: maskOf(packed.mask, size),
    received: {
      text: packed.received.text.map(numbers), image: packed.received.image.map(numbers),
    },
  };
}

function numbers({ bytes, limit }) {
  return Float32Array.from(atob(bytes), (character) => (character.charCodeAt(0) / 255) * limit);
}

function maskOf(counts, [height, width]) {
  const mask = new Uint8Array(height * width);
  let [at, on] = [0, 0];
  for (const count of counts) {
    for (const end = at + count; at < end; at += 1) mask[(at % height) * width + Math.floor(at / height)] = on;
    on = 1 - on;
  }
  return mask;
}
