// From a picture to aligned faces, in the browser: what zoo.faces computes with OpenCV. Each function names its model
// there. Pictures are {height, width, data}, with RGB bytes in rows; points are [x, y] in pixels.

const STRIDES = [8, 16, 32];

export class NoFace extends Error {}

// Half to even, as Python and OpenCV round.
function round(x) {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2) ? floor + 1 : floor;
}

const byte = (x) => Math.min(255, Math.max(0, round(x)));

// zoo.formats.images.decode: upright by EXIF, without colour management.
export async function decode(blob, name, mostPixels) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { imageOrientation: "from-image", premultiplyAlpha: "none", colorSpaceConversion: "none" });
  } catch {
    throw new Error(`expected a picture in ${name}, found something that this browser cannot read; convert it to JPEG or PNG`);
  }
  const { width, height } = bitmap;
  if (width * height > mostPixels) throw new Error(`expected at most ${mostPixels} pixels in ${name}, found ${width}×${height}; scale it down`);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, width, height).data;
  const data = new Uint8Array(3 * width * height);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    data[to] = rgba[from];
    data[to + 1] = rgba[from + 1];
    data[to + 2] = rgba[from + 2];
  }
  return { height, width, data };
}

// The picture as a PNG.
export async function encode({ height, width, data }) {
  const canvas = new OffscreenCanvas(width, height);
  const rgba = new Uint8ClampedArray(4 * width * height).fill(255);
  for (let from = 0, to = 0; from < data.length; from += 3, to += 4) rgba.set(data.subarray(from, from + 3), to);
  canvas.getContext("2d").putImageData(new ImageData(rgba, width, height), 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

// zoo.faces.detect._scaled
export function scaled(image, height, width) {
  if (height === image.height && width === image.width) return image;
  return (height < image.height ? shrunk : enlarged)(image, height, width);
}

// cv2.resize with INTER_AREA, by the share of each input pixel in an output pixel.
function shrunk(image, height, width) {
  const shares = (from, to) => Array.from({ length: to }, (_, place) => {
    const [start, end] = [(place * from) / to, Math.min(((place + 1) * from) / to, from)];
    const found = [];
    for (let at = Math.floor(start); at < end; at++) {
      const share = Math.min(at + 1, end) - Math.max(at, start);
      if (share > 1e-3) found.push([at, share / (end - start)]);
    }
    return found;
  });
  const [columns, rows] = [shares(image.width, width), shares(image.height, height)];
  const wide = new Float32Array(3 * width * image.height);
  for (let y = 0, to = 0; y < image.height; y++) {
    const row = 3 * y * image.width;
    for (const found of columns) {
      for (let channel = 0; channel < 3; channel++, to++) {
        let sum = 0;
        for (const [x, weight] of found) sum += weight * image.data[row + 3 * x + channel];
        wide[to] = sum;
      }
    }
  }
  const data = new Uint8Array(3 * width * height);
  rows.forEach((found, y) => {
    for (let x = 0; x < 3 * width; x++) {
      let sum = 0;
      for (const [at, weight] of found) sum += weight * wide[3 * width * at + x];
      data[3 * width * y + x] = byte(sum);
    }
  });
  return { height, width, data };
}

// cv2.resize with INTER_LINEAR, in its fixed-point arithmetic: YuNet's landmarks move by a pixel where the input's
// rounding differs.
function enlarged(image, height, width) {
  const weights = (from, to) => Array.from({ length: to }, (_, place) => {
    const centre = Math.fround(((place + 0.5) * from) / to - 0.5);
    const left = Math.floor(centre);
    const edge = Math.max(0, Math.min(left, from - 1));
    if (left < 0 || left >= from - 1) return [edge, edge, 2048, 0];
    const rest = Math.fround(centre - left);
    return [left, left + 1, round(Math.fround(1 - rest) * 2048), round(rest * 2048)];
  });
  const columns = weights(image.width, width);
  const wide = new Int32Array(3 * width * image.height);
  for (let y = 0, to = 0; y < image.height; y++) {
    const row = 3 * y * image.width;
    for (const [left, right, first, second] of columns) {
      for (let channel = 0; channel < 3; channel++, to++) {
        wide[to] = first * image.data[row + 3 * left + channel] + second * image.data[row + 3 * right + channel];
      }
    }
  }
  const data = new Uint8Array(3 * width * height);
  weights(image.height, height).forEach(([above, below, first, second], y) => {
    for (let x = 0; x < 3 * width; x++) {
      const [upper, lower] = [wide[3 * width * above + x] >> 4, wide[3 * width * below + x] >> 4];
      data[3 * width * y + x] = (((first * upper) >> 16) + ((second * lower) >> 16) + 2) >> 2;
    }
  });
  return { height, width, data };
}

// np.rot90
function turned(image, turns) {
  let { height, width, data } = image;
  for (let step = 0; step < turns; step++) {
    const next = new Uint8Array(data.length);
    for (let y = 0, to = 0; y < width; y++) {
      for (let x = 0; x < height; x++, to += 3) {
        const from = 3 * (x * width + width - 1 - y);
        next[to] = data[from];
        next[to + 1] = data[from + 1];
        next[to + 2] = data[from + 2];
      }
    }
    [height, width, data] = [width, height, next];
  }
  return { height, width, data };
}

// zoo.faces.detect.turned_back, for a size [height, width]
function turnedBack(points, turns, size) {
  let found = points;
  for (let step = turns - 1; step >= 0; step--) found = found.map(([x, y]) => [size[1 - (step % 2)] - 1 - y, x]);
  return found;
}

function overlap([ax, ay, aw, ah], [bx, by, bw, bh]) {
  const width = Math.min(ax + aw, bx + bw) - Math.max(ax, bx);
  const height = Math.min(ay + ah, by + bh) - Math.max(ay, by);
  const both = width > 0 && height > 0 ? width * height : 0;
  return both / (aw * ah + bw * bh - both);
}

// cv2.dnn.NMSBoxes: the places of the boxes that stay, best first.
function distinct(boxes, scores, most) {
  const order = scores.map((_, place) => place).sort((a, b) => scores[b] - scores[a]);
  const kept = [];
  for (const place of order) if (kept.every((other) => !(overlap(boxes[place], boxes[other]) > most))) kept.push(place);
  return kept;
}

// zoo.faces.detect._square
function square(image, left, top, side) {
  const data = new Uint8Array(3 * side * side);
  const from = Math.max(0, left);
  const until = Math.min(image.width, left + side);
  for (let y = Math.max(0, top); from < until && y < Math.min(image.height, top + side); y++) {
    data.set(image.data.subarray(3 * (y * image.width + from), 3 * (y * image.width + until)), 3 * ((y - top) * side + from - left));
  }
  return { height: side, width: side, data };
}

const middle = ([x, y, width, height]) => [x + width / 2, y + height / 2];
const centreOf = ({ box }) => middle(box);
const areaOf = ({ box }) => box[2] * box[3];

// zoo.faces.detect.choose_face
function choose(faces, image, rule) {
  const away = (face) => Math.hypot(centreOf(face)[0] - image.width / 2, centreOf(face)[1] - image.height / 2);
  const better = rule === "central" ? (a, b) => away(a) < away(b) : (a, b) => areaOf(a) > areaOf(b) || (areaOf(a) === areaOf(b) && a.score > b.score);
  return faces.reduce((best, face) => (better(face, best) ? face : best));
}

// zoo.faces.detect.FaceDetector over `run`, which computes YuNet's outputs for a BGR tensor (1, 3, height, width);
// `known` are the constants of that module, by their names there.
export class Detector {
  constructor(run, known) {
    this.network = run;
    this.known = known;
  }

  // cv2.FaceDetectorYN.detect: rows of a box, landmarks and a score, best first.
  async run(image, least) {
    const [height, width] = [image.height, image.width].map((side) => 32 * Math.ceil(side / 32));
    const input = new Float32Array(3 * height * width);
    for (let y = 0, from = 0; y < image.height; y++) {
      for (let x = 0; x < image.width; x++, from += 3) {
        for (let channel = 0; channel < 3; channel++) input[((2 - channel) * height + y) * width + x] = image.data[from + channel];
      }
    }
    const out = await this.network(input, height, width);
    const rows = [];
    for (const stride of STRIDES) {
      const [cls, obj, bbox, kps] = ["cls", "obj", "bbox", "kps"].map((name) => out[`${name}_${stride}`]);
      const columns = width / stride;
      for (let place = 0; place < columns * (height / stride); place++) {
        const score = Math.sqrt(Math.min(1, Math.max(0, cls[place])) * Math.min(1, Math.max(0, obj[place])));
        if (score < least) continue;
        const [column, row] = [place % columns, Math.floor(place / columns)];
        const [w, h] = [Math.exp(bbox[4 * place + 2]) * stride, Math.exp(bbox[4 * place + 3]) * stride];
        const box = [(column + bbox[4 * place]) * stride - w / 2, (row + bbox[4 * place + 1]) * stride - h / 2, w, h];
        const landmarks = Array.from({ length: 5 }, (_, n) => [(kps[10 * place + 2 * n] + column) * stride, (kps[10 * place + 2 * n + 1] + row) * stride]);
        rows.push({ box, landmarks, score });
      }
    }
    const kept = distinct(rows.map(({ box }) => box.map(Math.trunc)), rows.map(({ score }) => score), 0.3);
    return kept.map((place) => rows[place]).filter(({ box }) => box[2] > 0 && box[3] > 0 && box.every(Number.isFinite));
  }

  async detect(image, thorough) {
    const { SURE, MARGIN } = this.known;
    const faces = await this.search(image, thorough);
    const largest = faces.length ? choose(faces, image, "largest") : null;
    if (largest && largest.score >= SURE) return faces;
    if (largest) {
      const scores = [];
      for (let turns = 0; turns < 4; turns++) scores.push((await this.look(image, largest, turns)).score);
      const turns = scores.indexOf(Math.max(...scores));
      if (!turns || scores[turns] < Math.max(scores[0], largest.score) + MARGIN) return faces;
      const better = await this.turned(image, turns, thorough);
      return better.length ? better : faces;
    }
    const found = [];
    for (const turns of [1, 2, 3]) found.push(await this.turned(image, turns, thorough));
    const best = (one) => (one.length ? one[0].score : 0);
    return found.reduce((kept, one) => (best(one) > best(kept) ? one : kept));
  }

  async refine(image, face) {
    const { SMALL_FACE, LOOKS, BOX_SIDE } = this.known;
    let found = face;
    for (let count = face.box[2] >= SMALL_FACE ? LOOKS : 0; count > 0; count--) {
      const { landmarks } = await this.look(image, found, face.turns);
      if (!landmarks) break;
      const [left, right, , ...corners] = landmarks;
      const mean = (a, b) => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
      const [eyes, mouth] = [mean(left, right), mean(...corners)];
      const side = BOX_SIDE * Math.max(Math.hypot(right[0] - left[0], right[1] - left[1]), Math.hypot(mouth[0] - eyes[0], mouth[1] - eyes[1]));
      const [x, y] = mean(eyes, mouth);
      found = { ...found, landmarks, box: [x - side / 2, y - side / 2, side, side] };
    }
    return { ...found, box: face.box };
  }

  async search(image, thorough) {
    const { WORKING_SIDE, SMALL_SIDE, LARGE_SIDE, LARGE_FACE } = this.known;
    let found = await this.pass(image, WORKING_SIDE);
    const scale = Math.max(image.height, image.width) / WORKING_SIDE;
    const small = !found.length || Math.max(...found.map(({ box }) => box[2])) > LARGE_FACE * scale;
    found = this.distinct([], [...found, ...(small ? await this.pass(image, SMALL_SIDE) : [])]);
    if (!thorough && found.length) return found;
    const more = [...(await this.pass(image, LARGE_SIDE)), ...(small ? [] : await this.pass(image, SMALL_SIDE))];
    return this.distinct(found, more);
  }

  distinct(kept, found) {
    const faces = [...kept, ...found];
    const places = distinct(faces.map(({ box }) => box), faces.map(({ score }, place) => score + (place < kept.length)), this.known.OVERLAP);
    return places.map((place) => faces[place]).sort((a, b) => b.score - a.score);
  }

  async turned(image, turns, thorough) {
    const size = [image.height, image.width];
    return (await this.search(turned(image, turns), thorough)).map(({ box: [left, top, width, height], landmarks, score }) => {
      const corners = [[left - 0.5, top - 0.5], [left + width - 0.5, top + height - 0.5]];
      const [[ax, ay], [bx, by]] = turnedBack(corners, turns, size);
      const box = [Math.min(ax, bx) + 0.5, Math.min(ay, by) + 0.5, Math.abs(ax - bx), Math.abs(ay - by)];
      return { box, landmarks: turnedBack(landmarks, turns, size), score, turns };
    });
  }

  async look(image, face, turns) {
    const { LOOK_SIDE, LOOK_WIDTH } = this.known;
    const side = Math.max(1, round((face.box[2 + (face.turns % 2)] * LOOK_SIDE) / LOOK_WIDTH));
    const [left, top] = centreOf(face).map((centre) => round(centre - side / 2));
    const rows = await this.run(turned(scaled(square(image, left, top, side), LOOK_SIDE, LOOK_SIDE), turns), 0.3);
    if (!rows.length) return { landmarks: null, score: 0 };
    const away = ({ box }) => Math.hypot(...middle(box).map((centre) => centre - LOOK_SIDE / 2));
    const row = rows.reduce((best, one) => (away(one) < away(best) ? one : best));
    const back = turnedBack(row.landmarks, turns, [LOOK_SIDE, LOOK_SIDE]);
    const landmarks = back.map(([x, y]) => [((x + 0.5) * side) / LOOK_SIDE - 0.5 + left, ((y + 0.5) * side) / LOOK_SIDE - 0.5 + top]);
    return { landmarks, score: row.score };
  }

  async pass(image, side) {
    const { MAXIMAL_ENLARGEMENT, SCORE } = this.known;
    const scale = Math.min(side / Math.max(image.height, image.width), MAXIMAL_ENLARGEMENT);
    const [height, width] = [image.height, image.width].map((length) => Math.max(1, round(length * scale)));
    const [fx, fy] = [image.width / width, image.height / height];
    return (await this.run(scaled(image, height, width), SCORE)).map(({ box, landmarks, score }) => ({
      box: [box[0] * fx, box[1] * fy, box[2] * fx, box[3] * fy],
      landmarks: landmarks.map(([x, y]) => [(x + 0.5) * fx - 0.5, (y + 0.5) * fy - 0.5]),
      score,
      turns: 0,
    }));
  }
}

// zoo.faces.align.similarity_transform: rotation, scale and shift as [a, b, x, y]: (x, y) → (ax − by + x, bx + ay + y).
function similarity(source, target) {
  const mean = (points) => [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
  const [sm, tm] = [mean(source), mean(target)];
  let [spread, cosine, sine] = [0, 0, 0];
  source.forEach(([x, y], n) => {
    const [zx, zy, wx, wy] = [x - sm[0], y - sm[1], target[n][0] - tm[0], target[n][1] - tm[1]];
    spread += zx * zx + zy * zy;
    cosine += zx * wx + zy * wy;
    sine += zx * wy - zy * wx;
  });
  const [a, b] = [cosine / spread, sine / spread];
  return [a, b, tm[0] - a * sm[0] + b * sm[1], tm[1] - b * sm[0] - a * sm[1]];
}

// zoo.faces.align.align: bilinear, black outside the picture.
export function align(image, landmarks, template, [height, width]) {
  const [a, b, tx, ty] = similarity(landmarks, template);
  const norm = a * a + b * b;
  const data = new Uint8Array(3 * height * width);
  const at = (x, y, channel) => (x >= 0 && y >= 0 && x < image.width && y < image.height ? image.data[3 * (y * image.width + x) + channel] : 0);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const sx = (a * (x - tx) + b * (y - ty)) / norm;
      const sy = (a * (y - ty) - b * (x - tx)) / norm;
      const [left, top] = [Math.floor(sx), Math.floor(sy)];
      const [fx, fy] = [sx - left, sy - top];
      for (let channel = 0; channel < 3; channel++, to++) {
        const above = at(left, top, channel) * (1 - fx) + at(left + 1, top, channel) * fx;
        const below = at(left, top + 1, channel) * (1 - fx) + at(left + 1, top + 1, channel) * fx;
        data[to] = byte(above * (1 - fy) + below * fy);
      }
    }
  }
  return { height, width, data };
}

// zoo.faces.quality._middle
function greyMiddle(crop) {
  const whole = crop.height === 112 ? crop : scaled(crop, 112, 112);
  const grey = new Float32Array(80 * 80);
  for (let y = 0, to = 0; y < 80; y++) {
    for (let x = 0; x < 80; x++, to++) {
      const from = 3 * ((y + 16) * whole.width + x + 16);
      grey[to] = round(0.299 * whole.data[from] + 0.587 * whole.data[from + 1] + 0.114 * whole.data[from + 2]);
    }
  }
  return grey;
}

// zoo.faces.quality.share_outside
function shareOutside(landmarks, image, known) {
  const [a, b, tx, ty] = similarity(known.ARCFACE_TEMPLATE, landmarks);
  let [outside, count] = [0, 0];
  for (let y = 32.5; y < 104; y++) {
    for (let x = 24.5; x < 88; x++, count++) {
      const [px, py] = [a * x - b * y + tx, b * x + a * y + ty];
      if (px < -0.5 || py < -0.5 || px > image.width - 0.5 || py > image.height - 0.5) outside++;
    }
  }
  return outside / count;
}

// zoo.faces.quality.blur_effect
function blurEffect(grey, side = 80) {
  const mirrored = (place) => side - 1 - Math.abs(side - 1 - Math.abs(place));
  let worst = 0;
  for (const [along, across] of [[1, side], [side, 1]]) {
    let [total, lost] = [0, 0];
    for (let line = 0; line < side; line++) {
      const values = Array.from({ length: side }, (_, place) => grey[line * across + place * along]);
      const blurred = values.map((_, place) => {
        let sum = 0;
        for (let step = -4; step <= 4; step++) sum += values[mirrored(place + step)];
        return sum / 9;
      });
      for (let place = 1; place < side; place++) {
        const variation = Math.abs(values[place] - values[place - 1]);
        total += variation;
        lost += Math.max(0, variation - Math.abs(blurred[place] - blurred[place - 1]));
      }
    }
    worst = Math.max(worst, total > 0 ? 1 - lost / total : 1);
  }
  return worst;
}

// zoo.faces.quality.measure and Quality.warnings; `known` are the constants of that module and ARCFACE_TEMPLATE.
function warnings(image, crop, landmarks, known) {
  const [left, right] = landmarks;
  const [a, b, tx, ty] = similarity(landmarks, known.ARCFACE_TEMPLATE);
  const [eyeL, eyeR, nose, mouthL, mouthR] = landmarks.map(([x, y]) => [a * x - b * y + tx, b * x + a * y + ty]);
  const mean = (p, q, axis) => (p[axis] + q[axis]) / 2;
  const height = mean(mouthL, mouthR, 1) - mean(eyeL, eyeR, 1);
  const turn = Math.abs((nose[0] - (mean(eyeL, eyeR, 0) + mean(mouthL, mouthR, 0)) / 2) / Math.max(Math.hypot(eyeR[0] - eyeL[0], eyeR[1] - eyeL[1]), 1e-6));
  const nod = height > 0 ? (nose[1] - mean(eyeL, eyeR, 1)) / height : 0;
  const eyes = Math.hypot(right[0] - left[0], right[1] - left[1]);
  const middle = greyMiddle(crop);
  const blur = blurEffect(middle);
  const brightness = middle.reduce((sum, value) => sum + value, 0) / middle.length;
  const outside = shareOutside(landmarks, image, known);
  const { LEAST_EYE_DISTANCE, MOST_BLUR, LEAST_BRIGHTNESS, MOST_CUT, MOST_TURN, NOD_RANGE } = known;
  const found = [];
  if (eyes < LEAST_EYE_DISTANCE) found.push(`small (${round(eyes)} pixels between the eyes, at least ${LEAST_EYE_DISTANCE} wanted)`);
  if (blur > MOST_BLUR) found.push(`blurred (${blur.toFixed(2)} on a scale from 0 to 1, at most ${MOST_BLUR} wanted)`);
  if (brightness < LEAST_BRIGHTNESS) found.push(`dark (mean grey level ${round(brightness)} of 255, at least ${LEAST_BRIGHTNESS} wanted)`);
  if (outside > MOST_CUT) found.push(`cut off by the picture's border (${round(100 * outside)}% of it lies outside)`);
  if (turn > MOST_TURN) found.push(`turned sideways (nose ${turn.toFixed(2)} eye distances off the midline, ${MOST_TURN} at most)`);
  if (nod < NOD_RANGE[0] || nod > NOD_RANGE[1]) found.push(`pitched up or down (nose at ${nod.toFixed(2)} from eyes to mouth, ${NOD_RANGE[0]} to ${NOD_RANGE[1]} wanted)`);
  return found;
}

// zoo.faces.finder.FaceFinder.crops: the faces that `rule` picks, each with its aligned crop and notes.
export async function crops(image, name, detector, { rule, aligned, size, template, known }) {
  const unchanged = () => {
    const notes = image.height === size[0] && image.width === size[1] ? [] : [`${name} is ${image.width}×${image.height}, resized to ${size[1]}×${size[0]}`];
    return [{ crop: scaled(image, ...size), box: null, landmarks: null, faces: 0, aligned: true, notes }];
  };
  if (aligned) return unchanged();
  const faces = await detector.detect(image, rule === "all");
  if (!faces.length) {
    throw new NoFace(`expected a face in ${name}, found none in its ${image.width}×${image.height} pixels; use a photo with a larger face, or --aligned if it is an aligned crop`);
  }
  const chosen = choose(faces, image, rule === "central" ? "central" : "largest");
  const away = choose(faces, image, "largest").landmarks.reduce((sum, [x, y], n) => sum + Math.hypot(x - template[n][0], y - template[n][1]), 0) / 5 / size[0];
  if (image.height === size[0] && image.width === size[1] && away <= known.CROP_DEVIATION) return unchanged();
  const cut = async (face, notes) => {
    const refined = await detector.refine(image, face);
    const crop = align(image, refined.landmarks, template, size);
    const lies = face.turns ? [`${name} lies ${known.LYING[face.turns]}: its faces were turned upright`] : [];
    const faults = warnings(image, crop, refined.landmarks, known).map((warning) => `the face in ${name} is ${warning}`);
    return { crop, box: refined.box, landmarks: refined.landmarks, score: face.score, faces: faces.length, aligned: false, notes: [...lies, ...notes, ...faults] };
  };
  if (rule === "all") {
    const found = [];
    for (const face of [...faces].sort((a, b) => centreOf(a)[0] - centreOf(b)[0])) found.push(await cut(face, []));
    return found;
  }
  const [x, y] = centreOf(chosen).map(round);
  const words = rule === "central" ? "the one nearest to the centre" : "the largest";
  return [await cut(chosen, faces.length === 1 ? [] : [`${name} shows ${faces.length} faces: ${words} was taken, around (${x}, ${y})`])];
}
