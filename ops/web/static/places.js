// What is indexed, and who works.

import { get, query as asQuery } from "./api.js";
import { arrange, el, table } from "./dom.js";
import { throttled } from "./jobs.js";
import { ago, count, moment } from "./words.js";

const NOBODY = "No worker is online. Without DATABASE_URL the next job calls local ones; else start some: ";

/** The view of the repositories. */
export function repositoriesView() {
  const body = el("div", {}, el("p.loading", {}, "Loading …"));
  let seen = null;
  const ask = throttled(async () => arrange(body, repositories((await get("/api/repositories")).repositories)));
  const update = (snapshot) => {
    const mark = snapshot.jobs.map((job) => job.job_id + job.status).join();
    if (mark !== seen) ask();
    seen = mark;
  };
  return { title: "Repositories", node: el("section", {}, el("h1", { tabindex: -1 }, "Repositories"), body), update };
}

function repositories(found) {
  if (!found.length) return [el("p.empty", {}, "Nothing is indexed. ", el("a", { href: "#/" }, "Start a job"), " first.")];
  return [table("Repositories", ["Repository", "State", "Files", "Chunks", "Embedder", "Indexed"], found.map((one) => [
    [el("a", { href: `#/search?${asQuery({ repo: one.root_path })}`, title: "Search here" }, one.name), el("span.path", {}, placeOf(one))],
    el("span.pill", { "data-state": one.index_state }, one.index_state),
    count(one.files),
    count(one.chunks),
    one.model ? `${one.embedder} ${one.model}, ${one.dimension}` : "–",
    one.indexed_at ? el("time", { datetime: one.indexed_at, title: moment(one.indexed_at) }, ago(one.indexed_at)) : "never",
  ]))];
}

const placeOf = (one) => (one.project_id === "default" ? one.root_path : `${one.project_id}: ${one.root_path}`);

/** The view of the workers. */
export function workersView() {
  const body = el("div", {}, el("p.loading", {}, "Loading …"));
  const update = (snapshot) => arrange(body, workers(snapshot.workers));
  return { title: "Workers", node: el("section", {}, el("h1", { tabindex: -1 }, "Workers"), body), update };
}

function workers(found) {
  if (!found.length) return [el("p.empty", {}, NOBODY, el("code", {}, "penstock worker --help"))];
  const rows = [...found].sort((a, b) => a.host.localeCompare(b.host) || a.pid - b.pid);
  return [table("Workers", ["Stages", "Busy", "Host", "Process", "Started", "Last seen"], rows.map((one) => [
    el("b", {}, one.stages.join(" + ")),
    `${one.busy} of ${one.threads}`,
    one.host,
    String(one.pid),
    ago(one.started_at),
    ago(one.seen_at),
  ]))];
}
