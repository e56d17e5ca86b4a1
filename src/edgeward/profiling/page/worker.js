// One question, answered in a worker of its own: nothing of the one before is left.
import { AgentError } from "./common.js";
import { TASKS } from "./tasks.js";

onmessage = async ({ data: { request, session } }) => {
  const mark = () => fetch("mark", { method: "POST", headers: { "X-Session": session } });
  const tell = (text, result = false) => postMessage({ text, result });
  try {
    postMessage({ answer: { ok: true, ...(await TASKS[request.task](request, mark, tell)) } });
  } catch (error) {
    const kind = error instanceof AgentError ? error.kind : "run";
    postMessage({ answer: { ok: false, kind, message: String(error.message ?? error).slice(0, 2000) || "it said nothing" } });
  }
};
