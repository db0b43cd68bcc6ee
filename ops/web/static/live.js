// The line to the server: snapshots as they come, a new connection when it breaks, none while nobody looks.

import { get } from "./api.js";

const SILENCE = 25_000; // the server beats every 10 s
const HIDDEN = 60_000;
const DELAYS = [300, 1_000, 2_000, 4_000, 8_000];

/** Emits `snapshot` (detail: the record), `trouble` (detail: the error's text) and `state` (detail: its name). */
export class Live extends EventTarget {
  #source = null;
  #failures = 0;
  #timers = {};
  state = "connecting";
  snapshot = null;

  start() {
    document.addEventListener("visibilitychange", () => this.#look());
    window.addEventListener("online", () => this.connect());
    window.addEventListener("pagehide", () => this.#close());
    window.addEventListener("pageshow", (event) => event.persisted && this.connect());
    this.connect();
  }

  connect() {
    this.#close();
    const source = (this.#source = new EventSource("/api/events"));
    source.addEventListener("snapshot", (event) => this.#heard("live", "snapshot", JSON.parse(event.data)));
    source.addEventListener("trouble", (event) => this.#heard("blind", "trouble", JSON.parse(event.data).error.message));
    source.addEventListener("beat", () => this.#watch());
    source.onerror = () => this.#lost();
    this.#watch();
  }

  #heard(state, kind, detail) {
    this.#failures = 0;
    this.#watch();
    if (kind === "snapshot") this.snapshot = detail;
    this.#become(state);
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }

  #lost() {
    this.#close();
    this.#become("away");
    if (this.#failures === 1) get("/api/workers").catch(() => {}); // asks for the token where it is that
    const delay = DELAYS[Math.min(this.#failures++, DELAYS.length - 1)];
    this.#timers.retry = setTimeout(() => this.connect(), delay);
  }

  /** Give the connection up when nothing was heard of it for too long. */
  #watch() {
    clearTimeout(this.#timers.silence);
    this.#timers.silence = setTimeout(() => this.#lost(), SILENCE);
  }

  #look() {
    clearTimeout(this.#timers.hidden);
    if (document.hidden) this.#timers.hidden = setTimeout(() => this.#close(), HIDDEN);
    else if (!this.#source && !this.#timers.retry) this.connect();
  }

  #close() {
    clearTimeout(this.#timers.silence);
    clearTimeout(this.#timers.retry);
    this.#timers.retry = null;
    this.#source?.close();
    this.#source = null;
  }

  #become(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }
}
