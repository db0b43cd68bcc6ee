// The page: which view is shown, what the line to the server says, and the keys.

import { query as asQuery, get } from "./api.js";
import { jobView } from "./detail.js";
import { announce, arrange, el, recall, remember, say } from "./dom.js";
import { ACTIVE, jobsView } from "./jobs.js";
import { Live } from "./live.js";
import { repositoriesView, workersView } from "./places.js";
import { searchView } from "./search.js";

const main = document.getElementById("main");
const banner = document.getElementById("banner");
const field = document.getElementById("q");
const live = new Live();
const STATES = { connecting: "connecting", live: "live", blind: "no database", away: "reconnecting" };
const LOST = "The connection to Penstock is lost; what you see may be old. Trying again …";
let view = null;
let fault = "";

// --- views -----------------------------------------------------------------------------------------------------------

/** Return the view that an address names. */
function viewOf(address) {
  const [path, parameters] = address.slice(1).split("?");
  const context = { parameters: new URLSearchParams(parameters), say: complain };
  const [, place, id] = path.split("/");
  if (place === "jobs" && id) return ["jobs", jobView({ ...context, id })];
  if (place === "search") return ["search", searchView(context)];
  if (place === "repositories") return ["repositories", repositoriesView()];
  if (place === "workers") return ["workers", workersView()];
  return ["jobs", jobsView(context)];
}

function route({ first = false } = {}) {
  const address = location.hash || "#/";
  if (!address.startsWith("#/")) return;
  view?.close?.();
  const [name, next] = viewOf(address);
  view = next;
  complain("");
  arrange(main, [view.node]);
  if (live.snapshot) view.update?.(live.snapshot);
  for (const link of document.querySelectorAll("nav [data-view]")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (name === "search") field.value = new URLSearchParams(address.split("?")[1]).get("query") ?? "";
  entitle();
  if (!first && document.activeElement !== field) view.node.querySelector("h1")?.focus();
}

function entitle() {
  document.title = `${view.titled?.() ?? view.title} · Penstock`;
}

// --- the line --------------------------------------------------------------------------------------------------------

/** Show what went wrong, above everything; "" takes it away. */
function complain(text) {
  fault = text;
  tellBanner();
}

function tellBanner(trouble = "") {
  const text = fault || trouble || (live.state === "away" ? LOST : "");
  banner.hidden = !text;
  const again = trouble && !fault ? el("button", { type: "button", onclick: retry }, "Try now") : null;
  const dismiss = fault ? el("button", { type: "button", onclick: () => complain("") }, "Close") : null;
  if (banner.firstChild?.textContent !== text) arrange(banner, [el("span", {}, text), again, dismiss].filter(Boolean));
}

/** Ask as a user, for whom an embedded database is started; the stream only looks. */
function retry() {
  get("/api/workers").then(() => live.connect()).catch((error) => tellBanner(error.message));
}

live.addEventListener("state", ({ detail }) => {
  const line = document.getElementById("line");
  line.dataset.state = detail;
  say(line, STATES[detail]);
  if (detail !== "blind") tellBanner();
});
live.addEventListener("trouble", ({ detail }) => {
  tellBanner(detail);
  main.querySelector(".loading")?.remove();
});
live.addEventListener("snapshot", ({ detail }) => {
  view.update?.(detail);
  const active = detail.jobs.filter((job) => ACTIVE.has(job.status)).length;
  document.querySelector('[data-view="jobs"]').dataset.count = active || "";
  document.querySelector('[data-view="workers"]').dataset.count = detail.workers.length || "";
  entitle();
});

// --- search, colours, keys -------------------------------------------------------------------------------------------

document.getElementById("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!field.value.trim()) return;
  const kept = new URLSearchParams(location.hash.startsWith("#/search?") ? location.hash.split("?")[1] : "");
  kept.set("query", field.value.trim());
  const address = `#/search?${asQuery(Object.fromEntries(kept))}`;
  if (location.hash === address) route();
  else location.hash = address;
});

const THEMES = { auto: "◐", light: "☀", dark: "☾" };
const theme = document.getElementById("theme");

function paint(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  theme.textContent = THEMES[name];
  theme.setAttribute("aria-label", `Colours: ${name}`);
  theme.title = `Colours: ${name}`;
}

theme.addEventListener("click", () => {
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(recall("theme") ?? "auto") + 1) % names.length];
  remember("theme", next);
  paint(next);
  announce(`Colours: ${next}`);
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "Escape" && typing) event.target.blur();
  if (typing) return;
  if (event.key === "/") { event.preventDefault(); field.focus(); field.select(); }
  if (event.key === "n") { event.preventDefault(); begin(); }
});

/** Put the cursor where a job is begun. */
function begin() {
  if (!main.querySelector("form.start")) { history.pushState(null, "", "#/"); route(); }
  main.querySelector("form.start input").focus();
}

paint(recall("theme") in THEMES ? recall("theme") : "auto");
window.addEventListener("hashchange", () => route());
route({ first: true });
live.start();
