// Builds the page: text is only ever text, so nothing of a repository can become markup or script.

/** Make an element: `el("p.note", {title: "…"}, "text", child)`; keys like `onclick` are listeners. */
export function el(name, options = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(" ");
  for (const [key, value] of Object.entries(options)) set(node, key, value);
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

function set(node, key, value) {
  if (value === null || value === undefined || value === false) return;
  if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
  else node.setAttribute(key, value === true ? "" : String(value));
}

/** Set the text of a node when it differs, so that nothing is announced or selected anew without a reason. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Have exactly these children in this order, moving only those that are not in place: focus stays where it is. */
export function arrange(parent, children) {
  let place = parent.firstChild;
  for (const child of children) {
    if (child === place) place = place.nextSibling;
    else parent.insertBefore(child, place);
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

/** Return a table that scrolls by itself where it is too large. */
export function table(name, titles, rows) {
  const head = el("tr", {}, titles.map((title) => el("th", { scope: "col" }, title)));
  const body = rows.map((cells) => el("tr", {}, cells.map((cell) => el("td", {}, cell))));
  return el("div.scroll", { tabindex: 0, role: "region", "aria-label": name },
    el("table", {}, el("thead", {}, head), el("tbody", {}, body)));
}

/** Tell a screen reader something, politely. */
export function announce(text) {
  document.getElementById("said").textContent = text;
}

const STORE = "penstock.";

/** Return what this browser remembers under a name. */
export function recall(name) {
  try { return localStorage.getItem(STORE + name); } catch { return null; }
}

/** Remember something in this browser, where that is allowed. */
export function remember(name, value) {
  try { localStorage.setItem(STORE + name, value); } catch { /* then it is forgotten with the page */ }
}
