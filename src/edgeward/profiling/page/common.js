// What all tasks share: the clock, errors, the model, the images, what can be seen of the machine.
import { sha256 } from "./sha256.js";

export class AgentError extends Error {
  constructor(kind, message) { super(message); this.kind = kind; }
}
export const clock = () => performance.now();
export const ns = ms => Math.round(ms * 1e6);

export const threadCount = request => {
  if (request.threads > 1 && !self.crossOriginIsolated)
    throw new AgentError("run", `${request.threads} threads need a page over https or on localhost`);
  return request.threads || (self.crossOriginIsolated ? navigator.hardwareConcurrency : 1);
};

export async function fetchModel(path, expected) {
  const answer = await fetch(path);
  if (!answer.ok) throw new AgentError("file", `${path}: ${answer.status} ${answer.statusText}`);
  const bytes = new Uint8Array(await answer.arrayBuffer()), found = await sha256(bytes);
  if (found !== expected) throw new AgentError("file", `its SHA-256 is ${found}, not ${expected}`);
  return bytes;
}

// Name and shape (batch, c, ...) of the one image or volume input of a session.
export function imageShape(session, batch) {
  const [[name, type, shape] = []] = session.inputs;
  if (session.inputs.length !== 1 || type !== "float32" || ![4, 5].includes(shape.length))
    throw new AgentError("input", `one float32 image (batch, c, h, w) or volume expected, found: ${JSON.stringify(session.inputs)}`);
  if (shape.slice(1).includes(null)) throw new AgentError("input", `only the batch may be dynamic, found ${JSON.stringify(shape)}`);
  if (shape[0] !== null && shape[0] !== batch)
    throw new AgentError("input", `the batch is fixed at ${shape[0]}, but ${batch} is asked for`);
  return [name, [batch, ...shape.slice(1)]];
}

export const product = shape => shape.reduce((a, b) => a * b, 1);

// Seeded uniform numbers in [0, 1) (mulberry32).
export function uniform(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

// Whole random numbers in request.input_range.
export function randomImage(shape, request) {
  const [low, high] = request.input_range, draw = uniform(request.seed);
  return Float32Array.from({ length: product(shape) }, () => low + Math.floor(draw() * (high - low + 1)));
}

const fromBase64 = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
function toBase64(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}

// The first output for given images, in batches of the session's size; the last one is filled up with the first images.
export async function logits(session, name, shape, inputs) {
  const raw = fromBase64(inputs.uint8), [n, ...one] = inputs.shape, size = product(one), batch = shape[0];
  if (JSON.stringify(one) !== JSON.stringify(shape.slice(1)))
    throw new AgentError("input", `images of ${one} given, the model takes ${shape.slice(1)}`);
  let found, each;
  for (let start = 0; start < n; start += batch) {
    const images = new Float32Array(batch * size);
    for (let i = 0; i < batch; i++) images.set(raw.subarray(((start + i) % n) * size, ((start + i) % n) * size + size), i * size);
    await (await session.bind(name, images, shape))();
    const [values, sides] = session.output();
    each = sides.slice(1);
    found ??= new Float32Array(n * product(each));
    found.set(values.subarray(0, Math.min(batch, n - start) * product(each)), start * product(each));
  }
  return { shape: [n, ...each], float32: toBase64(new Uint8Array(found.buffer)) };
}

// What a page cannot read stays null; the program that started the browser may know more.
export const conditions = () => ({
  load_average: null, own_cpu_s: null, preempted: null, major_faults: null, other_cpu_s: null, steal_s: null,
  throttled: null, clock_mhz: [null, null], hottest_c: [null, null], cooling: [null, null],
});

const WASM = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10]; // a function that returns a vector
const SIMD = [...WASM, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11]; // i8x16.splat, i8x16.popcnt
const RELAXED = [...WASM, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11]; // i8x16.relaxed_swizzle
const knows = code => WebAssembly.validate(Uint8Array.from(code));

export async function describeHost() {
  const data = navigator.userAgentData, high = await data?.getHighEntropyValues?.(["architecture", "bitness", "platformVersion", "fullVersionList"]).catch(() => null);
  const brands = high?.fullVersionList ?? data?.brands ?? [], brand = brands.find(b => b.brand === "Chromium") ?? brands[0];
  const arch = { "x86 64": "x86_64", "arm 64": "aarch64" }[`${high?.architecture} ${high?.bitness}`];
  return {
    machine: arch ?? high?.architecture ?? (navigator.platform || "unknown"),
    cpu: null,
    cores: navigator.hardwareConcurrency ?? null,
    cores_usable: self.crossOriginIsolated ? navigator.hardwareConcurrency : 1,
    instructions: [knows(SIMD) && "wasm_simd128", knows(RELAXED) && "wasm_relaxed_simd", self.crossOriginIsolated && "wasm_threads"].filter(Boolean),
    virtual: false,
    memory_bytes: null,
    system: high ? `${data.platform} ${high.platformVersion}`.trim() : navigator.platform || "unknown",
    python: null,
    browser: {
      name: brand ? `${brand.brand} ${brand.version}` : navigator.userAgent,
      isolated: self.crossOriginIsolated,
      secure: self.isSecureContext,
    },
  };
}
