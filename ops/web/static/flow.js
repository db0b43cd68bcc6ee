// A job as water through four gates: how much of each stage is done, and how fast it goes.

import { el, say } from "./dom.js";
import { count, duration } from "./words.js";

const STAGES = ["scan", "chunk", "embed", "write"];
const WINDOW = 8_000;
const MOVING = new Set(["running"]);

/** Keeps what each stage of a job had done in the last seconds, and tells its rate. */
class Rates {
  #samples = new Map();

  note(stage, done, now = performance.now()) {
    const kept = (this.#samples.get(stage) ?? []).filter((sample) => now - sample.at < WINDOW);
    if (kept.at(-1)?.done > done) kept.length = 0;
    this.#samples.set(stage, [...kept, { at: now, done }]);
  }

  of(stage) {
    const [first, ...later] = this.#samples.get(stage) ?? [];
    const last = later.at(-1);
    return last && last.at - first.at > 900 ? (1000 * (last.done - first.done)) / (last.at - first.at) : 0;
  }
}

/** The pipe of one job; `update` moves the water. */
export class Flow {
  #rates = new Rates();
  #reaches;

  constructor() {
    this.#reaches = STAGES.map(reach);
    this.node = el("div.flow", { role: "group", "aria-label": "Progress of the stages" }, this.#reaches.map((one) => one.node));
  }

  update(job) {
    this.node.dataset.status = job.status;
    job.stages.forEach((stage, index) => {
      this.#rates.note(stage.stage, stage.done);
      const rate = MOVING.has(job.status) ? this.#rates.of(stage.stage) : 0;
      fill(this.#reaches[index], stage, rate, job);
    });
  }
}

function reach(stage) {
  const parts = {
    water: el("div.water"),
    amount: el("span.amount"),
    rate: el("span.rate"),
  };
  parts.bar = el("div.reach", { role: "progressbar", "aria-label": stage, "aria-valuemin": 0, "aria-valuemax": 100 }, parts.water);
  parts.node = el("div.stage", { "data-stage": stage }, el("i.gate", { "aria-hidden": "true" }), parts.bar,
    el("div.gauge", {}, el("b", {}, stage), parts.amount, parts.rate));
  return parts;
}

function fill(parts, stage, rate, job) {
  const share = shareOf(stage, job);
  const known = stage.total === null ? "" : ` / ${count(stage.total)}`;
  const text = `${count(stage.done)}${known} ${stage.unit}`;
  parts.water.style.inlineSize = `${share}%`;
  parts.node.dataset.level = stage.done === 0 && share === 0 ? "dry" : share >= 100 ? "full" : "filling";
  parts.bar.setAttribute("aria-valuenow", Math.round(share));
  parts.bar.setAttribute("aria-valuetext", text);
  say(parts.amount, text);
  parts.rate.dataset.moving = rate >= 0.5;
  say(parts.rate, rate >= 0.5 ? `${count(rate)}/s` : share >= 100 && stage.busy_seconds ? `${duration(stage.busy_seconds)} busy` : "");
}

/** Return how much of a stage is done, of 100; while its total is not known yet, against the best guess there is. */
function shareOf(stage, job) {
  if (job.status === "completed") return 100;
  if (stage.total) return Math.min(100, (100 * stage.done) / stage.total);
  if (!stage.done) return 0;
  const due = stage.stage === "embed" ? job.chunks_created / Math.max(share(job), 0.01) : job.files_listed;
  return due ? Math.min(99, (100 * stage.done) / due) : 0;
}

/** Return the share of the files that are cut into chunks by now. */
function share(job) {
  const chunked = job.stages[1];
  return chunked.done / Math.max(1, chunked.total ?? job.files_listed);
}
