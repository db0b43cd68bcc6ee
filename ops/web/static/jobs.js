// The list of jobs: those under way as water through gates, those that ended as lines; and the form that begins one.

import { get, post } from "./api.js";
import { announce, arrange, el, say } from "./dom.js";
import { Flow } from "./flow.js";
import { ago, count, duration, left, moment, percent } from "./words.js";

export const ACTIVE = new Set(["pending", "running", "paused", "blocked"]);
const FILTERS = { all: [], active: [...ACTIVE], completed: ["completed"], failed: ["failed"], cancelled: ["cancelled"] };
const PAGE = 20;
const KEPT = "What it has indexed stays searchable. It cannot be continued, but a new job skips what is done.";
const SIGNS = { completed: "✓", failed: "✕", cancelled: "–", paused: "❙❙", blocked: "!", pending: "…", running: "≈" };

/** The view of all jobs. */
export function jobsView({ parameters, say: tell }) {
  const state = parameters.get("state") ?? "all";
  const offset = Number(parameters.get("offset")) || 0;
  const cards = new Map();
  const list = el("div.jobs", { role: "list", "aria-label": "Jobs" }, el("p.loading", {}, "Loading …"));
  const more = el("nav.pages", { "aria-label": "Pages" });
  const empty = emptyNote(state);
  const node = el("section", {}, el("h1", { tabindex: -1 }, "Jobs"), startForm(tell), filters(state), empty, list, more);

  const show = (jobs, total) => {
    const shown = jobs.map((job) => cards.get(job.job_id) ?? cards.set(job.job_id, new Card(tell)).get(job.job_id));
    shown.forEach((card, index) => card.update(jobs[index]));
    arrange(list, shown.map((card) => card.node));
    empty.hidden = jobs.length > 0;
    arrange(more, pages(state, offset, jobs.length, total));
  };
  const ask = throttled(async () => {
    const page = await get("/api/jobs", { status: FILTERS[state] ?? [], limit: PAGE, offset });
    show(page.jobs, page.total_count);
  });
  const plain = state === "all" && offset === 0;
  const update = (snapshot) => (plain ? show(front(snapshot.jobs), snapshot.total_count) : ask());
  return { title: "Jobs", node, update };
}

/** Return the jobs of the first page: what is under way first, wherever it stands. */
function front(jobs) {
  return [...jobs.filter((job) => ACTIVE.has(job.status)), ...jobs.filter((job) => !ACTIVE.has(job.status)).slice(0, PAGE)];
}

/** Return a function that runs at once and then at most once a second; the last call is never lost. */
export function throttled(work) {
  let busy = false;
  let again = false;
  return async function run() {
    if (busy) { again = true; return; }
    busy = true;
    try { await work(); } catch { /* the banner says what is wrong, and the next snapshot asks again */ }
    setTimeout(() => { busy = false; if (again) { again = false; run(); } }, 1_000);
  };
}

/** One job: a card while it is under way, a line when it has ended. */
class Card {
  #parts;
  #flow = new Flow();
  #told = null;

  constructor(tell) {
    const parts = (this.#parts = {
      sign: el("span.sign", { "aria-hidden": "true" }),
      name: el("a.name"),
      path: el("span.path"),
      pill: el("span.pill"),
      percent: el("span.percent"),
      message: el("p.message"),
      rest: el("p.rest"),
    });
    parts.actions = new Actions(tell);
    this.node = el("article.job", { role: "listitem" },
      el("header", {}, parts.sign, el("h2", {}, parts.name), parts.path, parts.pill, parts.percent),
      this.#flow.node, el("footer", {}, el("div.words", {}, parts.message, parts.rest), parts.actions.node));
  }

  update(job) {
    const { sign, name, path, pill, percent: share, message, rest, actions } = this.#parts;
    this.node.dataset.status = job.status;
    this.node.dataset.active = ACTIVE.has(job.status);
    name.href = `#/jobs/${job.job_id}`;
    say(name, job.name);
    say(sign, SIGNS[job.status]);
    say(path, job.repo_path);
    path.title = job.repo_path;
    say(pill, job.stall_reason ? "waiting" : job.status);
    this.node.dataset.stalled = job.stall_reason !== null;
    say(share, percent(job.progress_percentage));
    say(message, job.progress_message);
    say(rest, restOf(job));
    rest.title = `submitted ${moment(job.created_at)}`;
    this.#flow.node.hidden = !ACTIVE.has(job.status);
    if (!this.#flow.node.hidden) this.#flow.update(job);
    actions.update(job);
    this.#speak(job);
  }

  /** Announce each change of state and each quarter, and nothing of the many changes between. */
  #speak(job) {
    const news = `${job.status} ${Math.floor(job.progress_percentage / 25)}`;
    if (this.#told && this.#told !== news) announce(`${job.name}: ${percent(job.progress_percentage)}, ${job.progress_message}`);
    this.#told = news;
  }
}

function restOf(job) {
  if (ACTIVE.has(job.status)) return left(job.estimated_remaining_seconds);
  const ran = job.duration_seconds === null ? "" : `${duration(job.duration_seconds)} · `;
  return ran + ago(job.finished_at);
}

/** The buttons of a job; a cancel asks, in place. */
export class Actions {
  #job = null;
  #buttons;

  constructor(tell) {
    const button = (word, act, extra = "") => el(`button${extra}`, { type: "button", onclick: act }, word);
    const move = (verb, body) => async () => {
      const { job_id: id, name } = this.#job;
      try {
        const job = await post(`/api/jobs/${id}/${verb}`, body);
        announce(`${name}: ${job.progress_message}`);
        if (job.job_id !== id) location.hash = `#/jobs/${job.job_id}`;
      } catch (error) { tell(error.message); }
    };
    const cancel = move("cancel", { confirm: true });
    const ask = async () => { if (await confirmed(`Cancel the job of ${this.#job.name}?`, KEPT, "Cancel the job")) await cancel(); };
    this.#buttons = {
      pause: button("Pause", move("pause")),
      resume: button("Resume", move("resume")),
      cancel: button("Cancel", ask, ".danger"),
    };
    this.node = el("div.actions", {}, Object.values(this.#buttons));
  }

  update(job) {
    this.#job = job;
    const { pause, resume, cancel } = this.#buttons;
    pause.hidden = !["pending", "running", "blocked"].includes(job.status);
    resume.hidden = !["paused", "failed", "cancelled"].includes(job.status);
    cancel.hidden = !ACTIVE.has(job.status);
    for (const button of Object.values(this.#buttons)) button.setAttribute("aria-label", `${button.textContent} ${job.name}`);
  }
}

/** Ask before something is lost; resolves to true for a yes. */
function confirmed(question, text, yes) {
  const answers = el("div.actions", {},
    el("button", { value: "no", autofocus: true }, "Keep the job"),
    el("button.danger", { value: "yes" }, yes));
  const dialog = el("dialog", { "aria-labelledby": "question" },
    el("form", { method: "dialog" }, el("h2", { id: "question" }, question), el("p", {}, text), answers));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => { dialog.remove(); resolve(dialog.returnValue === "yes"); });
  });
}

function filters(state) {
  const current = (name) => (name === state ? "true" : null);
  const link = (name) => el("a", { href: name === "all" ? "#/" : `#/?state=${name}`, "aria-current": current(name) }, name);
  return el("nav.filters", { "aria-label": "States" }, Object.keys(FILTERS).map(link));
}

function pages(state, offset, shown, total) {
  if (offset === 0 && shown >= total) return [];
  const link = (text, to) => el("a", { href: `#/?state=${state}&offset=${to}` }, text);
  const next = Math.max(PAGE, offset + PAGE);
  return [
    offset > 0 ? link("Newer", Math.max(0, offset - PAGE)) : null,
    el("span", {}, offset > 0 ? `${count(offset + 1)} to ${count(offset + shown)} of ${count(total)}` : `${count(total)} in all`),
    offset + shown < total ? link("Older", next) : null,
  ].filter(Boolean);
}

function emptyNote(state) {
  if (state !== "all") return el("p.empty", { hidden: true }, `No job is ${state}.`);
  return el("div.empty", { hidden: true }, el("h2", {}, "Nothing has been indexed yet"),
    el("p", {}, "Name a folder or a git URL above, such as ", el("code", {}, "/home/you/src/project"), ", and press Start. Or in a terminal:"),
    el("pre", {}, el("code", {}, "penstock index ~/src/project")),
    el("p", {}, "You can search as soon as the first files are written."));
}

/** The form that begins a job. */
function startForm(tell) {
  const said = el("p.said", { role: "status" });
  const path = el("input", {
    name: "repo_path", required: true, placeholder: "/path/to/a/repository, or a git URL", list: "known",
    autocomplete: "off", spellcheck: "false", "aria-label": "Folder or git URL to index", "aria-keyshortcuts": "n",
  });
  const form = el("form.start", {},
    el("div.entry", {}, path, el("button.primary", { type: "submit" }, "Start")),
    el("details", {}, el("summary", {}, "Options"), options()),
    said,
    known());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    say(said, "");
    try {
      const job = await post("/api/jobs", request(new FormData(form)));
      say(said, job.message);
      form.reset();
    } catch (error) { tell(error.message); path.focus(); }
  });
  return form;
}

function options() {
  const field = (label, input) => el("label", {}, el("span", {}, label), input);
  const text = (name, placeholder) => el("input", { name, placeholder, autocomplete: "off", spellcheck: "false" });
  return el("div.options", {},
    field("Project", text("project_id", "default")), field("Name", text("name", "the folder's")),
    field("Only files that match", text("include", "src/**, *.py")), field("No files that match", text("exclude", "docs/**")),
    el("label.check", {}, el("input", { type: "checkbox", name: "force_reindex" }), "Index every file again, changed or not"),
    el("label.check", {}, el("input", { type: "checkbox", name: "flat" }), "Leave out the folders below"));
}

/** Return what the form asks for, as the API takes it. */
function request(data) {
  const globs = (name) => data.get(name).split(",").map((glob) => glob.trim()).filter(Boolean);
  return {
    repo_path: data.get("repo_path").trim(),
    project_id: data.get("project_id").trim() || "default",
    name: data.get("name").trim() || null,
    include: globs("include"),
    exclude: globs("exclude"),
    force_reindex: data.has("force_reindex"),
    recursive: !data.has("flat"),
  };
}

/** Return the list from which the path field completes: what is indexed already. */
function known() {
  const list = el("datalist", { id: "known" });
  const fill = ({ repositories }) => {
    const roots = new Set(repositories.map((one) => one.root_path));
    list.append(...[...roots].map((value) => el("option", { value })));
  };
  get("/api/repositories").then(fill).catch(() => {});
  return list;
}
