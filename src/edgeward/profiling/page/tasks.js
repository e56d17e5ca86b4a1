// The tasks of edgeward.profiling.agent, for a page: the same requests, the same answers.
import { AgentError, clock, conditions, describeHost, fetchModel, imageShape, logits, ns, product, randomImage, threadCount, uniform } from "./common.js";
import { GROWTH, enough } from "./stopping.js";

const CAPACITY = 1_000_000; // samples
const KEPT = 500; // samples of a window of `sustain` at most
const NO_COUNTER = "a page cannot read a power counter";

const loadEngine = async request => {
  try { return new (await import("./engine/agent.js")).Engine(request.engine); }
  catch (error) { throw new AgentError("engine", `the engine cannot be loaded: ${error.message}`); }
};
const about = engine => ({ name: engine.name, version: engine.version });

async function opened(request) {
  const engine = await loadEngine(request), model = await fetchModel(request.model, request.sha256);
  const threads = threadCount(request);
  await engine.start(threads);
  const baseline = engine.heapBytes(), before = clock();
  const session = await engine.open(model);
  const load = clock() - before, [name, shape] = imageShape(session, request.batch);
  return { engine, session, threads, name, shape, baseline, load };
}

// [cost of reading the clock, its smallest step], ms.
function clockFacts() {
  const reads = 20_000, begin = clock();
  for (let i = 0; i < reads; i++) clock();
  const cost = (clock() - begin) / reads, steps = [];
  for (let last = clock(), end = last + 50; last < end;) {
    const now = clock();
    if (now > last) { steps.push(now - last); last = now; }
  }
  return [cost, Math.min(...steps)];
}

async function warmUp(run, least) {
  const begin = clock();
  let count = 0;
  while (count < least.min_count || clock() - begin < least.min_duration_s * 1e3) { await run(); count++; }
  return count;
}

async function timedWindow(run, request, peak) {
  const samples = new Float64Array(CAPACITY), { stop } = request;
  const least = request.min_duration_s * 1e3, most = request.max_duration_s * 1e3;
  let count = 0, timed = 0, target = Math.min(request.min_count, CAPACITY), top = 0;
  for (;;) {
    const begin = clock();
    for (;;) { // timed: nothing in it but the inference, the clock and the store
      const t0 = clock();
      await run();
      const t1 = clock();
      samples[count++] = t1 - t0;
      const passed = t1 - begin;
      if ((count >= target && passed >= least - timed) || passed >= most - timed || count === CAPACITY) break;
    }
    timed += clock() - begin;
    top ||= peak();
    const taken = samples.subarray(0, count), precise = !stop || enough(taken, stop);
    if (precise || timed >= most || count === CAPACITY) return { taken, timed, precise, top };
    target = Math.min(Math.floor(count * GROWTH) + 1, CAPACITY);
    await run(); // the look has cooled the caches
  }
}

async function time(request, mark, tell) {
  const o = await opened(request), { engine, session, name, shape } = o;
  const [cost, step] = clockFacts(), image = randomImage(shape, request);
  let run = await session.bind(name, image, shape);
  const first = clock();
  await run();
  const firstMs = clock() - first;
  const answers = request.inputs ? await logits(session, name, shape, request.inputs) : null;
  run = await session.bind(name, image, shape);
  tell(`${o.threads} ${o.threads === 1 ? "thread" : "threads"}, batch ${request.batch}: warming up, then timing`);
  const warmups = 1 + (await warmUp(run, request.warmup));
  await mark();
  const { taken, timed, precise, top } = await timedWindow(run, request, () => engine.heapBytes());
  await mark();
  const middle = Float64Array.from(taken).sort()[(taken.length - 1) >> 1];
  if (!(middle > 0)) throw new AgentError("run", `an inference takes less than a step of the page's clock, ${step} ms`);
  tell(`${o.threads} ${o.threads === 1 ? "thread" : "threads"}, batch ${request.batch}: median ${middle.toFixed(3)} ms of ${taken.length}`, true);
  return {
    engine: about(engine), providers: session.providers, host: await describeHost(), threads: o.threads, resolution: shape.slice(2),
    load_ns: ns(o.load), first_ns: ns(firstMs), warmups, duration_ns: ns(timed), timer_ns: ns(cost), step_ns: ns(step),
    samples_ns: Array.from(taken, ns), precise, logits: answers, baseline_bytes: o.baseline, peak_bytes: top, peak_reset: true,
    conditions: conditions(),
  };
}

async function cold(request) {
  const begin = clock(), engine = await loadEngine(request);
  await engine.start(threadCount(request));
  const imported = clock() - begin, model = await fetchModel(request.model, request.sha256), before = clock();
  const session = await engine.open(model), load = clock() - before, [name, shape] = imageShape(session, request.batch);
  const run = await session.bind(name, randomImage(shape, request), shape), first = clock();
  await run();
  return { import_ns: ns(imported), load_ns: ns(load), first_ns: ns(clock() - first) };
}

async function decide(request) {
  const { engine, session, name, shape } = await opened(request);
  return { engine: about(engine), logits: await logits(session, name, shape, request.inputs) };
}

async function operators(request, mark, tell) {
  const engine = await loadEngine(request), model = await fetchModel(request.model, request.sha256);
  const threads = threadCount(request);
  await engine.start(threads);
  tell("recording the kernels");
  const feed = session => { const [name, shape] = imageShape(session, request.batch); return [name, randomImage(shape, request), shape]; };
  const [runs, kernels] = await engine.kernels(model, feed, request.runs);
  return { threads, runs, kernels };
}

async function interleave(request, mark, tell) {
  const engine = await loadEngine(request), threads = threadCount(request), runs = [], refused = [];
  await engine.start(threads);
  for (const [index, path] of request.models.entries()) {
    const model = await fetchModel(path, request.sha256s[index]);
    try {
      const session = await engine.open(model), [name, shape] = imageShape(session, request.batch);
      runs.push(await session.bind(name, randomImage(shape, request), shape));
    } catch (error) {
      if (error.kind !== "model") throw error;
      refused.push([index, error.message]);
    }
  }
  if (runs.length < 2 || refused[0]?.[0] === 0) runs.length = 0;
  const draw = uniform(request.seed), orders = [], rounds = [], order = [...runs.keys()];
  tell(`${runs.length} models in turns`);
  for (const run of runs) await warmUp(run, request.warmup);
  await mark();
  const begin = clock(), end = begin + request.max_duration_s * 1e3;
  while (runs.length && rounds.length < request.rounds && clock() < end) {
    for (let i = order.length - 1; i > 0; i--) { const j = Math.floor(draw() * (i + 1)); [order[i], order[j]] = [order[j], order[i]]; }
    const found = [];
    for (const index of order) {
      const run = runs[index], times = [];
      for (let i = 0; i < request.settle; i++) await run();
      for (let i = 0; i < request.block; i++) { const t0 = clock(); await run(); times.push(ns(clock() - t0)); }
      found[index] = times;
    }
    orders.push([...order]);
    rounds.push(found);
  }
  const duration = clock() - begin;
  await mark();
  return {
    engine: about(engine), providers: engine.providers, host: await describeHost(), threads, duration_ns: ns(duration), order: orders,
    samples_ns: rounds, refused, conditions: conditions(),
  };
}

async function sustain(request, mark, tell) {
  const o = await opened(request), answers = await logits(o.session, o.name, o.shape, request.inputs);
  const run = await o.session.bind(o.name, randomImage(o.shape, request), o.shape), windows = [], length = request.window_s * 1e3;
  await warmUp(run, request.warmup);
  await mark();
  const start = clock(), end = start + request.duration_s * 1e3;
  let every = 1;
  while (clock() < end) {
    let samples = [], count = 0, t1;
    const begin = clock();
    do {
      const t0 = clock();
      await run();
      t1 = clock();
      if (count++ % every === 0) samples.push(ns(t1 - t0));
    } while (t1 - begin < length);
    const thin = Math.ceil(samples.length / KEPT);
    every = Math.ceil(count / KEPT);
    samples = samples.filter((_, i) => i % thin === 0);
    await mark();
    tell(`${Math.round((t1 - start) / 1e3)} of ${request.duration_s} s without a pause`);
    windows.push({ start_ns: ns(begin - start), duration_ns: ns(t1 - begin), n: count, samples_ns: samples, energy_j: null, conditions: conditions() });
  }
  return { host: await describeHost(), threads: o.threads, logits: answers, counter: null, reason: NO_COUNTER, windows };
}

async function bestSeconds(run, seconds) {
  await run();
  const first = clock();
  await run();
  const calls = Math.max(1, Math.floor((seconds * 100) / Math.max(clock() - first, 0.01)));
  let best = Infinity;
  for (const end = clock() + seconds * 1e3; best === Infinity || clock() < end;) {
    const begin = clock();
    for (let i = 0; i < calls; i++) await run();
    best = Math.min(best, (clock() - begin) / calls / 1e3);
  }
  return best;
}

async function ceilings(request, mark, tell) {
  const engine = await loadEngine(request), threads = threadCount(request), seconds = [], copy = [];
  if (threads > 1) throw new AgentError("run", "a page copies memory in one thread: let `threads` begin with 1");
  await engine.start(threads);
  tell("the ceilings of this device");
  for (const [index, path] of request.models.entries()) {
    const session = await engine.open(await fetchModel(path, request.sha256s[index])), [name, type, shape] = session.inputs[0];
    const make = { float32: Float32Array, uint8: Uint8Array }[type];
    if (!make || shape.includes(null)) throw new AgentError("input", `${name} ${type} ${shape} is no input to fill`);
    seconds.push(await bestSeconds(await session.bind(name, new make(product(shape)).fill(1), shape), request.duration_s));
  }
  for (const size of request.copy_bytes) {
    const length = size >> 1, source = new Uint8Array(length).fill(1), target = new Uint8Array(length);
    copy.push({ bytes: size, bytes_per_s: (2 * length) / (await bestSeconds(() => target.set(source), request.duration_s)) });
  }
  return { engine: about(engine), host: await describeHost(), threads, seconds, copy };
}

async function describe(request) {
  const engine = await loadEngine(request), threads = threadCount(request);
  const readable = Object.fromEntries(["machine", "throttles", "clock_mhz", "hottest_c", "cooling"].map(name => [name, false]));
  return { host: await describeHost(), engine: about(engine), available: engine.providers, threads, readable, counters: { page: NO_COUNTER } };
}

const energy = async () => ({ reason: NO_COUNTER });

export const TASKS = { describe, time, cold, decide, operators, interleave, sustain, energy, ceilings };
