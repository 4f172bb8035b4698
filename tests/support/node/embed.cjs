// Embeds one aligned crop: node embed.cjs MODEL.onnx CROP PACKAGE, where CROP holds the RGB bytes of 112×112 pixels.
const fs = require('fs');
const ort = require(process.argv[4]);

const SIDE = 112;

async function main(model, crop) {
  const session = await ort.InferenceSession.create(model);
  const rgb = fs.readFileSync(crop);
  const plane = SIDE * SIDE;
  const input = new Float32Array(3 * plane);
  for (let pixel = 0; pixel < plane; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      input[channel * plane + pixel] = (rgb[3 * pixel + channel] - 127.5) / 127.5;
    }
  }
  const { embedding } = await session.run({ input: new ort.Tensor('float32', input, [1, 3, SIDE, SIDE]) });
  console.log(JSON.stringify(Array.from(embedding.data)));
}

main(process.argv[2], process.argv[3]);
