/**
 * Plain scenes drawn in the browser: refam_analysis.scenes in small, for a picture that no gallery has.
 *
 * A scene has the fields of the package's Scene. Its pixels are those of Python but for rounding (float64 here, float32
 * there); which scene a seed gives is a matter of the generator, and that of this page is another one.
 * vocabulary: {colours: {word: [red, green, blue]}, sizes: {word: [least, most]}, shapes: [word], backgrounds}.
 */

const MARGIN = 0.02;
const GAP = 0.02;
const TRIES = 60;
const SHADOW = 0.35;

/** Distance from each shape's edge in units of its radius, negative inside. */
const SHAPES = {
  circle: (u, v) => Math.hypot(u, v) - 1,
  square: (u, v) => Math.max(Math.abs(u), Math.abs(v)) - 0.86,
  triangle: (u, v) => Math.max(0.866 * Math.abs(u) - 0.5 * (v - 0.2), v - 0.2) - 0.6,
  cross: (u, v) => {
    const [x, y] = [Math.abs(u), Math.abs(v)];
    return Math.min(Math.max(x - 1, y - 0.34), Math.max(x - 0.34, y - 1));
  },
  ring: (u, v) => Math.abs(Math.hypot(u, v) - 0.74) - 0.28,
  star: (u, v) => {
    const [tip, notch, half] = [1.12, 0.54, Math.PI / 5];
    const turned = Math.atan2(u, -v) + half;
    const angle = Math.abs(turned - 2 * half * Math.floor(turned / (2 * half)) - half);
    const radius = Math.hypot(u, v);
    const [edgeX, edgeY] = [notch * Math.cos(half) - tip, notch * Math.sin(half)];
    const across = (radius * Math.cos(angle) - tip) * edgeY - radius * Math.sin(angle) * edgeX;
    return across / Math.hypot(edgeX, edgeY);
  },
};

/** The shapes that can be drawn here. */
export function drawnShapes(vocabulary) {
  return vocabulary.shapes.filter((shape) => shape in SHAPES);
}

/** Pixels of a scene: RGB, three bytes a pixel, row by row. */
export function drawScene(scene, size, vocabulary) {
  const pixels = background(scene, size, vocabulary.backgrounds[scene.background]);
  for (const item of scene.objects) putObject(pixels, item, scene.light_angle, size, vocabulary.colours[item.colour]);
  return finished(pixels, scene, size);
}

/** A scene at random: the same seed and number of objects give the same one. */
export function sampleScene(seed, number, vocabulary) {
  const random = generator(seed);
  const between = (low, high) => low + (high - low) * random();
  const pick = (list) => list[Math.floor(random() * list.length)];
  const shapes = drawnShapes(vocabulary);
  let placed = null;
  while (placed === null) {
    const looks = new Set();
    while (looks.size < number) {
      looks.add([pick(Object.keys(vocabulary.colours)), pick(shapes), pick(Object.keys(vocabulary.sizes))].join(" "));
    }
    placed = placeAll([...looks].map((look) => look.split(" ")), vocabulary.sizes, random, between);
  }
  return {
    objects: placed, background: pick(Object.keys(vocabulary.backgrounds)), gradient: between(0.1, 0.5),
    gradient_angle: between(0, 2 * Math.PI), light_angle: between(-2.6, -0.5), noise: between(0.01, 0.035),
    grain: Math.floor(random() * 2 ** 31),
  };
}

/** Short expressions, each true of one object of the scene alone. */
export function namesOf(scene) {
  return scene.objects.flatMap((item) => {
    const looks = [["colour", "shape"], ["size", "colour", "shape"]];
    const only = looks.find((look) => (
      scene.objects.filter((other) => look.every((part) => other[part] === item[part])).length === 1
    ));
    return only ? [`the ${only.map((part) => item[part]).join(" ")}`] : [];
  });
}

/** Mulberry32: uniform numbers in [0, 1). */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Objects that do not touch, or null where the picture is too crowded. */
function placeAll(looks, sizes, random, between) {
  const placed = [];
  for (const [colour, shape, size] of looks) {
    const radius = between(...sizes[size]);
    const reach = 1.12 * radius + MARGIN;
    let free = null;
    for (let attempt = 0; attempt < TRIES && free === null; attempt += 1) {
      const [x, y] = [between(reach, 1 - reach), between(reach, 1 - reach)];
      const isFree = placed.every((other) => (
        Math.hypot(other.x - x, other.y - y) > 1.1 * (radius + other.radius) + GAP
      ));
      if (isFree) free = { x, y };
    }
    if (free === null) return null;
    placed.push({
      colour, shape, size, radius, ...free, rotation: between(-0.25, 0.25), brightness: between(0.88, 1.06),
      stripes: random() < 0.5 ? between(0, 0.16) : 0, stripe_angle: between(0, Math.PI),
    });
  }
  return placed;
}

function background({ gradient, gradient_angle: angle, grain }, size, colour) {
  const pixels = new Float64Array(3 * size * size);
  const phase = (grain % 997) / 50;
  for (let row = 0; row < size; row += 1) {
    for (let column = 0; column < size; column += 1) {
      const [x, y] = [(column + 0.5) / size, (row + 0.5) / size];
      const ramp = (x - 0.5) * Math.cos(angle) + (y - 0.5) * Math.sin(angle);
      const clouds = 0.05 * (Math.sin(9 * x + 5 * y + phase) + Math.sin(-6 * x + 11 * y + 2 * phase));
      const light = 1 + gradient * ramp + clouds;
      colour.forEach((value, part) => { pixels[3 * (row * size + column) + part] = value * light; });
    }
  }
  return pixels;
}

/** Lay a shadow and, over it, the lit and striped surface of an object. */
function putObject(pixels, item, light, size, colour) {
  const [cosine, sine] = [Math.cos(item.rotation), Math.sin(item.rotation)];
  const [lightX, lightY] = [Math.cos(light), Math.sin(light)];
  for (let row = 0; row < size; row += 1) {
    for (let column = 0; column < size; column += 1) {
      const [dx, dy] = [(column + 0.5) / size - item.x, (row + 0.5) / size - item.y];
      const away = (dx + 0.35 * item.radius * lightX) ** 2 + (dy + 0.35 * item.radius * lightY) ** 2;
      const dark = 1 - SHADOW * Math.exp(-((away / (0.9 * item.radius ** 2)) ** 2));
      const u = (dx * cosine + dy * sine) / item.radius;
      const v = (dy * cosine - dx * sine) / item.radius;
      const distance = SHAPES[item.shape](u, v) * item.radius * size;
      const cover = Math.min(Math.max(0.5 - distance, 0), 1);
      const lit = 1 + 0.16 * Math.min(Math.max(u * lightX + v * lightY, -1.2), 1.2);
      const along = u * Math.cos(item.stripe_angle) + v * Math.sin(item.stripe_angle);
      const shade = item.brightness * lit * (1 - item.stripes * (0.5 + 0.5 * Math.sin(9 * along)));
      for (let part = 0; part < 3; part += 1) {
        const at = 3 * (row * size + column) + part;
        const below = pixels[at] * dark;
        pixels[at] = below + cover * (colour[part] * shade - below);
      }
    }
  }
}

/** Noise laid on, and numbers brought to bytes. */
function finished(pixels, { noise, grain }, size) {
  const area = size * size;
  return Uint8Array.from(pixels, (value, at) => {
    const number = (at % 3) * area + Math.floor(at / 3); // the package numbers channel by channel
    const unit = (hashed(grain, number) - 0.5) * Math.sqrt(12);
    return Math.round(255 * Math.min(Math.max(value + noise * unit, 0), 1));
  });
}

/** A number in [0, 1) for every pair, as refam_analysis.scenes.textures.hashed gives it. */
function hashed(grain, number) {
  let mixed = (Math.imul(number, 0x9e3779b1) + Math.imul(grain, 0x85ebca77)) >>> 0;
  for (const [shift, factor] of [[15, 0x2c1b3c6d], [12, 0x297a2d39]]) {
    mixed = Math.imul(mixed ^ (mixed >>> shift), factor) >>> 0;
  }
  return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
}
