// Asks for one question after the other, has a fresh worker answer each, and posts the answers.
const show = (id, text) => { document.getElementById(id).textContent = text; };
const line = text => { const item = document.createElement("li"); item.textContent = text; document.getElementById("results").append(item); };
const NAMES = { describe: "looking around", operators: "kernels", time: "latency", cold: "cold start", energy: "energy", interleave: "models in turns", sustain: "minutes without a pause", decide: "deciding on images", ceilings: "ceilings" };
const PATIENCE = 60 * 60e3; // how long to look for the next measurement, ms
let session = "", hidden = 0;
document.addEventListener("visibilitychange", () => { hidden += document.hidden; });

const post = (what, body = "") => fetch(what, { method: "POST", body, headers: { "X-Session": session } });

function answer(request) {
  return new Promise(resolve => {
    const worker = new Worker("worker.js", { type: "module" });
    const done = found => { worker.terminate(); resolve(found); };
    worker.onmessage = ({ data }) => {
      if (data.answer) return done(data.answer);
      show("now", data.text);
      if (data.result) line(data.text);
    };
    worker.onerror = event => done({ ok: false, kind: "engine", message: event.message || "the worker could not be started" });
    worker.postMessage({ request, session });
  });
}

async function main() {
  const hello = await post("hello");
  if (!hello.ok) return show("state", await hello.text());
  session = await hello.text();
  show("state", "Measuring. Leave this page open and in front, and the device alone.");
  const awake = await navigator.wakeLock?.request("screen").catch(() => null);
  for (;;) {
    const next = await post("next");
    if (next.status === 204) { show("now", "waiting"); continue; }
    if (next.status === 410) {
      show("state", await next.text());
      show("now", "");
      await awake?.release();
      return follow(next.headers.get("X-Following"));
    }
    if (!next.ok) throw new Error(await next.text());
    const request = await next.json();
    show("now", NAMES[request.task]);
    hidden = Number(document.hidden);
    const found = await answer(request);
    if (found.conditions) found.conditions.hidden = hidden;
    for (const seen of found.windows ?? []) seen.conditions.hidden = hidden;
    const taken = await post("answer", JSON.stringify(found));
    if (!taken.ok) throw new Error(await taken.text());
    if (!found.ok) line(found.message);
  }
}

// A sweep may measure more here: the next measurement has an address of its own.
async function follow(token) {
  for (const end = Date.now() + PATIENCE; token && Date.now() < end;) {
    await new Promise(resolve => setTimeout(resolve, 3000));
    const there = await fetch(`../${token}/`).catch(() => null);
    if (there?.ok) return location.replace(`../${token}/#now`);
  }
}

const start = () => {
  document.getElementById("start").hidden = true;
  main().catch(error => { show("state", `Ended: ${error.message || "the connection was lost"}`); show("now", ""); });
};
const facts = [self.crossOriginIsolated ? `up to ${navigator.hardwareConcurrency} threads` : "one thread and a coarse clock (not over https or localhost)", self.isSecureContext ? "" : "the file is checked by this page's own SHA-256"];
show("facts", facts.filter(Boolean).join("; "));
document.getElementById("start").onclick = start;
if (location.hash === "#now") start();
