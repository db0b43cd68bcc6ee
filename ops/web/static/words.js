// Numbers, spans and moments as people say them; the same words as the command line's.

const whole = new Intl.NumberFormat("en");

export const count = (number) => whole.format(Math.round(number));

export const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

/** Return a share of 100 with one decimal while it is under way. */
export function percent(share) {
  return share === 100 || share === 0 ? `${share} %` : `${share.toFixed(1)} %`;
}

/** Return a span of time: 0.4 s, 42 s, 3 min 05 s, 2 h 10 min. */
export function duration(seconds) {
  const all = Math.round(seconds);
  if (all < 10) return `${seconds.toFixed(1)} s`;
  if (all < 60) return `${all} s`;
  if (all < 3600) return `${Math.floor(all / 60)} min ${two(all % 60)} s`;
  return `${Math.floor(all / 3600)} h ${two(Math.floor((all % 3600) / 60))} min`;
}

/** Return what is left, in words that do not pretend to be exact. */
export function left(seconds) {
  return seconds === null ? "" : `about ${duration(Math.max(1, Math.round(seconds)))} left`;
}

/** Return how long ago a moment was. */
export function ago(moment) {
  const seconds = Math.max(0, (Date.now() - Date.parse(moment)) / 1000);
  if (seconds < 5) return "just now";
  if (seconds < 3600) return `${duration(Math.floor(seconds / 60) * 60 || seconds).replace(" 00 s", "")} ago`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} days ago`;
}

export const moment = (text) => new Date(text).toLocaleString();

export function bytes(number) {
  if (number < 1000) return `${number} B`;
  const [size, unit] = number < 1e6 ? [1e3, "kB"] : number < 1e9 ? [1e6, "MB"] : [1e9, "GB"];
  return `${(number / size).toFixed(1)} ${unit}`;
}

const two = (number) => String(number).padStart(2, "0");
