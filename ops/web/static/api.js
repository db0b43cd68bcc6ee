// Asks the server; an error is thrown with the words that a user reads.

export class Refusal extends Error {
  constructor(code, message, status) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

/** GET a record. */
export const get = (path, parameters = {}, signal = undefined) => ask(`${path}?${query(parameters)}`, { signal });

/** POST a record and return the answer. */
export const post = (path, body = {}) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

/** Return a query string; what is empty is left out, a list is repeated. */
export function query(parameters) {
  const said = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of [value].flat()) if (one !== null && one !== undefined && one !== "") said.append(name, one);
  }
  return said.toString();
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("UNREACHABLE", "Penstock does not answer: is `penstock serve` still running?", 0);
  }
  if (answer.status === 401) location.assign("/login");
  const record = await answer.json().catch(() => ({}));
  if (answer.ok) return record;
  const { code, message } = record.error ?? { code: "UNKNOWN", message: `the server answered ${answer.status}` };
  throw new Refusal(code, message, answer.status);
}
