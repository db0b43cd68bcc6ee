// One job: its water, its facts, what happened to it, and the files that were passed over.

import { get } from "./api.js";
import { arrange, el, say, table } from "./dom.js";
import { Flow } from "./flow.js";
import { ACTIVE, Actions, throttled } from "./jobs.js";
import { ago, bytes, count, duration, left, moment, percent } from "./words.js";

const FILES = 500;
const OUTCOMES = ["indexed", "unchanged", "removed", "skipped", "failed"];

/** The view of the job with this id. */
export function jobView({ id, say: tell }) {
  const page = new Page(tell);
  let seen = "";
  const ask = throttled(async () => {
    try {
      page.show(await get(`/api/jobs/${encodeURIComponent(id)}`, { files: FILES }));
    } catch (error) {
      if (error.status && error.status < 500) page.miss(error.message);
      else throw error;
    }
  });
  const update = (snapshot) => {
    const job = snapshot.jobs.find((one) => one.job_id === id);
    if (job) page.move(job);
    page.age();
    const mark = job ? `${job.updated_at} ${job.status}` : "settled";
    if (mark !== seen) ask();
    seen = mark;
  };
  return { title: "Job", node: page.node, update, titled: () => page.title };
}

class Page {
  title = "Job";
  #parts;
  #card;
  #flow = new Flow();

  constructor(tell) {
    const parts = (this.#parts = {
      name: el("h1", { tabindex: -1 }, "Job"),
      path: el("span.path"),
      pill: el("span.pill"),
      percent: el("span.percent"),
      message: el("p.message", {}, "Loading …"),
      rest: el("p.rest"),
      facts: el("dl.facts"),
      trace: el("details.trace", { hidden: true }),
      events: el("ol.events"),
      files: el("div.files"),
    });
    parts.actions = new Actions(tell);
    this.#card = el("article.job", { "data-active": true },
      el("header", {}, parts.name, parts.path, parts.pill, parts.percent),
      this.#flow.node,
      el("footer", {}, el("div.words", {}, parts.message, parts.rest), parts.actions.node),
      parts.trace);
    this.node = el("section.detail", {}, back(), this.#card,
      el("div.columns", {}, titled("What happened", parts.events), titled("Facts", parts.facts)),
      titled("Files passed over", parts.files));
  }

  /** Show what a snapshot knows. */
  move(job) {
    const { name, path, pill, percent: share, message, rest, actions } = this.#parts;
    this.title = `${ACTIVE.has(job.status) ? percent(job.progress_percentage) : job.status} · ${job.name}`;
    this.#card.dataset.status = job.status;
    this.#card.dataset.stalled = job.stall_reason !== null;
    say(name, job.name);
    say(path, job.repo_path);
    say(pill, job.stall_reason ? "waiting" : job.status);
    say(share, percent(job.progress_percentage));
    say(message, job.progress_message);
    say(rest, left(job.estimated_remaining_seconds));
    this.#flow.update(job);
    actions.update(job);
  }

  /** Show all there is to know. */
  show(job) {
    this.move(job);
    const { facts, events, files, trace } = this.#parts;
    arrange(facts, factsOf(job).flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, value)]));
    arrange(events, job.events.map(eventLine));
    arrange(files, filesOf(job));
    trace.hidden = !job.error_traceback;
    if (!trace.hidden && !trace.firstChild) trace.append(...traceOf(job));
  }

  /** Have the ages of things grow. */
  age() {
    for (const time of this.#parts.facts.querySelectorAll("time")) say(time, ago(time.dateTime));
  }

  miss(text) {
    arrange(this.node, [back(), el("p.empty", { role: "alert" }, text)]);
  }
}

const back = () => el("p.back", {}, el("a", { href: "#/" }, "← Jobs"));

const titled = (title, content) => el("section", {}, el("h2", {}, title), content);

function factsOf(job) {
  const number = (name) => count(job[name]);
  const busy = job.stages.map((stage) => `${stage.stage} ${duration(stage.busy_seconds)}`).join(", ");
  return [
    ["Job", el("code", {}, job.job_id)],
    ["Project", job.project_id],
    job.revision && ["Revision", el("code", {}, job.revision)],
    ["Embedder", `${job.embedder} ${job.model}`],
    ["Submitted", when(job.created_at)],
    job.started_at && ["Started", when(job.started_at)],
    job.finished_at && ["Finished", when(job.finished_at)],
    job.duration_seconds !== null && ["Ran for", duration(job.duration_seconds)],
    ["Busy", busy],
    job.resumed_from && ["Resumes", el("a", { href: `#/jobs/${job.resumed_from}` }, job.resumed_from)],
    job.force_reindex && ["Forced", "every file, changed or not"],
    ["Files", OUTCOMES.map((outcome) => `${number(`files_${outcome}`)} ${outcome}`).join(", ")],
    ["Chunks", `${number("chunks_written")} written; ${number("chunks_embedded")} embedded, ${number("chunks_reused")} reused`],
    ["Read", bytes(job.bytes_scanned)],
    ["Batches", `${number("batches_done")} of ${number("batches_total")}`],
    job.passages_truncated > 0 && ["Cut", `${number("passages_truncated")} passages were longer than the model takes`],
  ].filter(Boolean);
}

const when = (text) => el("time", { datetime: text, title: moment(text) }, ago(text));

function eventLine(event) {
  const said = Object.entries(event.detail).map(([name, value]) =>
    el("span.detail", {}, el("i", {}, name.replaceAll("_", " ")), ` ${value}`));
  const at = el("time", { datetime: event.at, title: moment(event.at) }, new Date(event.at).toLocaleTimeString());
  return el("li", { "data-type": event.type }, at, el("b", {}, event.type), said);
}

function filesOf(job) {
  const total = job.files_skipped + job.files_failed;
  if (!job.files.length) return [el("p.muted", {}, total ? `${count(total)}, not named yet.` : "None.")];
  const rows = job.files.map((file) => [file.outcome, el("span.path", {}, file.path), file.reason]);
  const more = total - job.files.length;
  const rest = more > 0 ? el("p.muted", {}, `${count(more)} more: penstock status ${job.job_id} --files ${total}`) : null;
  return [table("Skipped and failed files", ["Outcome", "File", "Reason"], rows), rest].filter(Boolean);
}

const traceOf = (job) => [
  el("summary", {}, `Traceback (${job.error_type})`),
  el("pre", { tabindex: 0 }, el("code", {}, job.error_traceback)),
];
