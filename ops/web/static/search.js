// The search: filters, results with coloured code, and links into the editor.

import { get, query as asQuery } from "./api.js";
import { announce, arrange, el, say } from "./dom.js";
import { EDITORS, choose, editor, opens } from "./editors.js";
import { codeLines, queryPattern } from "./highlight.js";
import { percent, plural } from "./words.js";

const PAGE = 10;
const SHOWN = 16;
const KINDS = "function class method interface struct enum type variable module section table text".split(" ");
const LANGUAGES = ("bash c cpp csharp css go html java javascript json kotlin lua markdown php python ruby rust "
  + "scala sql swift toml tsx typescript yaml").split(" ");
const EXAMPLES = ["where are retries limited", "which settings are read once at the start", "parse_config"];
const FILTERS = ["repo", "language", "kind", "path"];

/** The view of a search; what is asked stands in the address, after the #, where no server and no log sees it. */
export function searchView({ parameters }) {
  const asked = Object.fromEntries(["query", ...FILTERS].map((name) => [name, parameters.get(name) ?? ""]));
  const results = el("div.results", { role: "list", "aria-label": "Results" });
  const note = el("p.note", { role: "status" });
  const more = el("button.more", { type: "button", hidden: true }, "Show more");
  const heading = el("h1", { tabindex: -1 }, asked.query ? "Results" : "Search");
  const node = el("section.search", {}, heading, filterForm(asked), note, results, more);
  const abort = new AbortController();
  const pattern = queryPattern(asked.query);
  let shown = 0;

  const load = async () => {
    more.disabled = true;
    try {
      const found = await get("/api/search", { ...asked, limit: PAGE, offset: shown }, abort.signal);
      shown += found.results.length;
      results.append(...found.results.map((hit) => card(hit, pattern)));
      say(note, noteOf(found, shown));
      more.hidden = found.results.length < PAGE;
      if (shown === found.results.length) announce(shown ? plural(shown, "result") : "Nothing was found");
    } catch (error) {
      if (error.name !== "AbortError") { say(note, error.message); note.dataset.fault = "true"; }
    }
    more.disabled = false;
  };
  more.addEventListener("click", load);
  if (asked.query) { say(note, "Searching …"); load(); } else arrange(results, [hint()]);
  return { title: asked.query ? `${asked.query} · search` : "Search", node, close: () => abort.abort() };
}

function hint() {
  const example = (query) => el("li", {}, el("a", { href: `#/search?${asQuery({ query })}` }, query));
  return el("div.empty", {}, el("h2", {}, "Ask in your own words, or in code"), el("ul", {}, EXAMPLES.map(example)),
    el("p", {}, "Works while a job runs, on what is written already. Press ", el("kbd", {}, "/"), " anywhere to begin."));
}

function noteOf(found, shown) {
  if (!shown) return "Nothing was found; try other words, or fewer filters.";
  const note = found.note ?? "";
  if (found.index_state === "complete") return note;
  const share = percent(Math.round(1000 * found.coverage) / 10);
  return `The index is ${found.index_state}: ${share} of the known files can be found. ${note}`;
}

/** The filters; a change searches anew. */
function filterForm(asked) {
  const plain = { autocomplete: "off", spellcheck: "false" };
  const input = (name, list, placeholder) => el("input", { name, list, placeholder, value: asked[name], ...plain });
  const field = (label, control) => el("label", {}, el("span", {}, label), control);
  const form = el("form.filters", { "aria-label": "Filters" },
    field("Repository", repositoryChoice(asked.repo)),
    field("Language", input("language", "languages", "any")),
    field("Kind", input("kind", "kinds", "any")),
    field("Path", input("path", null, "src/**")),
    field("Open in", editorChoice()),
    choices("languages", LANGUAGES),
    choices("kinds", KINDS),
    el("button.unseen", { type: "submit", tabindex: -1 }, "Search"));
  const again = (event) => { event.preventDefault(); go(form, asked); };
  form.addEventListener("submit", again);
  form.addEventListener("change", again);
  return form;
}

function editorChoice() {
  const options = Object.entries(EDITORS).map(([value, [name]]) => el("option", { value, selected: value === editor() }, name));
  return el("select", { name: "editor", onchange: (event) => choose(event.target.value) }, options);
}

function repositoryChoice(asked) {
  const choice = el("select", { name: "repo" }, el("option", { value: "" }, "all"));
  const option = (value) => el("option", { value, selected: value === asked }, value);
  if (asked) choice.append(option(asked));
  const fill = ({ repositories }) => {
    const others = new Set(repositories.map((one) => one.root_path));
    others.delete(asked);
    choice.append(...[...others].map(option));
  };
  get("/api/repositories").then(fill).catch(() => {});
  return choice;
}

const choices = (id, values) => el("datalist", { id }, values.map((value) => el("option", { value })));

function go(form, asked) {
  const data = new FormData(form);
  const next = Object.fromEntries(FILTERS.map((name) => [name, (data.get(name) ?? asked[name]).trim()]));
  const address = `#/search?${asQuery({ query: asked.query, ...next })}`;
  if (location.hash === address) window.dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = address;
}

/** One result. */
function card(hit, pattern) {
  const place = `${hit.path}:${hit.best_line}`;
  const address = opens(hit);
  const title = address
    ? el("a.place", { href: address, title: `Open in ${EDITORS[editor()][0]}` }, place)
    : el("span.place", {}, place);
  const copy = el("button.quiet", { type: "button", "aria-label": `Copy ${place}` }, "Copy");
  copy.addEventListener("click", () => copied(copy, `${hit.repository}/${place}`));
  const facts = [hit.symbol && el("span.symbol", {}, hit.symbol), hit.kind, hit.language, hit.revision?.slice(0, 8), hit.score.toFixed(4),
    ...hit.matched];
  const lines = codeLines(hit.content, hit.language, pattern, hit.start_line);
  const from = Math.max(0, Math.min(hit.best_line - hit.start_line, lines.length - SHOWN));
  const code = el("code", {}, lines.slice(from, from + SHOWN));
  return el("article.hit", { role: "listitem" },
    el("header", {}, el("h2", {}, title), el("span.path", { title: hit.repository }, hit.repository), copy),
    el("p.facts", {}, facts.filter(Boolean).map((fact) => el("span", {}, fact))),
    around(hit),
    from ? unfold(code, "prepend", lines.slice(0, from), "earlier line") : null,
    el("pre", { tabindex: 0, "aria-label": place }, code),
    lines.length > from + SHOWN ? unfold(code, "append", lines.slice(from + SHOWN), "more line") : null);
}

/** Return the lines of the definitions that hold a result; null where it begins with its own. */
function around(hit) {
  if (!hit.context.length) return null;
  const lines = hit.context.map((line) => {
    const end = line.indexOf(": ");
    return codeLines(line.slice(end + 2), hit.language, null, line.slice(0, end));
  });
  return el("pre.around", { "aria-label": "Lies in" }, el("code", {}, lines.flat()));
}

/** Return the button that shows the lines of a result that do not fit. */
function unfold(code, where, hidden, what) {
  const button = el("button.rest", { type: "button" }, plural(hidden.length, what));
  button.addEventListener("click", () => { code[where](...hidden); button.remove(); });
  return button;
}

async function copied(button, text) {
  try { await navigator.clipboard.writeText(text); say(button, "Copied"); } catch { say(button, text); }
  announce(`copied ${text}`);
  setTimeout(() => say(button, "Copy"), 2_000);
}
