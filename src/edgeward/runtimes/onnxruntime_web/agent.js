// onnxruntime-web in a page: WebAssembly, with as many threads as asked for.
import { AgentError } from "../common.js";

// A graph of one Identity: opening it starts the engine, so that loading a model does not include that.
const IDENTITY = "CAo6NwoQCgF4EgF5IghJZGVudGl0eRIBZ1oPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEBQ=";
const MOST_EVENTS = 200_000; // of one record, for more than one timed inference
const ENGINE_EVENTS = 950_000; // of one record at all: at a million the engine stops recording

// The engine's heap is the memory that it makes; it grows in steps and never shrinks.
const heaps = [];
const Memory = WebAssembly.Memory;
WebAssembly.Memory = class extends Memory {
  constructor(kind) { super(kind); heaps.push(this); }
};

// The engine writes the record of its kernels to the console, an event a line.
let record = null;
const print = console.log;
console.log = (...words) => { if (record) record.push(words.join(" ")); else print(...words); };

const ort = await import("./ort/ort.wasm.bundle.min.mjs");

class Session {
  constructor(session) {
    this.session = session;
    this.providers = ["wasm"];
    this.inputs = session.inputMetadata.map(i => [i.name, i.type, i.isTensor ? i.shape.map(side => (typeof side === "number" ? side : null)) : []]);
  }

  // Return a function that runs one inference; a page always pays for copying the input in and the output out.
  async bind(name, values, shape) {
    const feed = { [name]: new ort.Tensor(this.inputs[0][1], values, shape) };
    return async () => { this.found = await this.session.run(feed); };
  }

  // Values and shape of the first output of the latest inference.
  output() {
    const tensor = this.found[this.session.outputNames[0]];
    return [tensor.data, tensor.dims];
  }
}

export class Engine {
  name = "onnxruntime_web";
  providers = ["wasm"];
  version = ort.env.versions.web;

  async start(threads) {
    ort.env.wasm.numThreads = threads;
    ort.env.logLevel = "error";
    await ort.InferenceSession.create(Uint8Array.from(atob(IDENTITY), c => c.charCodeAt(0)));
  }

  heapBytes() { return heaps.reduce((sum, heap) => sum + heap.buffer.byteLength, 0); }

  async open(model, more = {}) {
    try {
      return new Session(await ort.InferenceSession.create(model, { executionProviders: ["wasm"], graphOptimizationLevel: "all", ...more }));
    } catch (error) { throw new AgentError("model", error.message ?? String(error)); }
  }

  // Return the number of timed inferences and the kernels, as the agent for onnxruntime does: tensors from a session that leaves
  // the weights as they are, times from one that packs them.
  async kernels(model, feed, asked) {
    const [total, shapes] = await this.#record(model, feed, 1, false);
    const runs = Math.max(1, Math.min(asked, Math.floor(MOST_EVENTS / Math.max(1, total)) - 1));
    if ((runs + 1) * total > ENGINE_EVENTS)
      throw new AgentError("run", `one inference runs ${shapes.length} kernels, too many for the engine's profiler`);
    const durations = new Map();
    for (const event of (await this.#record(model, feed, runs + 1, true))[1])
      durations.set(key(event), [...(durations.get(key(event)) ?? []), event.dur]);
    const inside = containers(shapes), kernels = new Map();
    for (const event of shapes) {
      if (kernels.has(key(event))) continue;
      const taken = durations.get(key(event)) ?? [], calls = taken.length / (runs + 1), { args } = event;
      if (!calls || !Number.isInteger(calls)) throw new AgentError("run", `kernel ${event.name} did not run equally often each time`);
      const sums = [];
      for (let i = calls; i < taken.length; i += calls) sums.push(taken.slice(i, i + calls).reduce((a, b) => a + b, 0));
      kernels.set(key(event), {
        name: event.name.slice(0, -"_kernel_time".length),
        operator: args.op_name,
        provider: args.provider ?? null,
        inputs: tensors(args.input_type_shape),
        outputs: tensors(args.output_type_shape),
        weight_bytes: args.parameter_size === undefined ? null : Number(args.parameter_size),
        calls,
        inside: inside.get(key(event)) ?? null,
        us: median(sums),
      });
    }
    return [runs, [...kernels.values()]];
  }

  // Profile some inferences in a session of their own; return the number of all events, and those of kernels.
  async #record(model, feed, runs, prepack) {
    const extra = prepack ? {} : { session: { disable_prepacking: "1" } };
    record = [];
    try {
      const { session, bind } = await this.open(model, { enableProfiling: true, extra }).then(s => ({ session: s, bind: feed(s) }));
      const run = await session.bind(...bind);
      for (let i = 0; i < runs; i++) await run();
      session.session.endProfiling();
      const events = record.map(line => line.trim().replace(/,$/, "")).filter(line => line.startsWith("{")).map(line => JSON.parse(line));
      return [events.length, events.filter(e => e.cat === "Node" && e.name.endsWith("_kernel_time"))];
    } finally { record = null; }
  }
}

const key = event => `${event.args.node_index} ${event.name}`;
const tensors = (entries = []) => entries.map(entry => Object.entries(entry)[0]);
const median = values => {
  const ordered = values.sort((a, b) => a - b), half = ordered.length >> 1;
  return ordered.length % 2 ? ordered[half] : (ordered[half - 1] + ordered[half]) / 2;
};

// Which kernels run inside another one (the body of a Scan, Loop or If), and its name.
function containers(events) {
  const found = new Map();
  let around = [];
  for (const event of [...events].sort((a, b) => a.ts - b.ts || b.dur - a.dur)) {
    const end = event.ts + event.dur;
    around = around.filter(a => a.end >= end && ["Scan", "Loop", "If"].includes(a.operator));
    if (around.length) found.set(key(event), around.at(-1).name);
    around.push({ end, operator: event.args.op_name, name: event.name.slice(0, -"_kernel_time".length) });
  }
  return found;
}
