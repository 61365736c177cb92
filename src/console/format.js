// Numbers, sizes, times and names as people read them.

const NARROW = "\u202f";
const SCALES = [["G", 1e9], ["M", 1e6], ["k", 1e3]];
const SIZES = [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]];
export const NONE = "–";

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** Three significant digits, without a trailing zero behind the point. */
function short(value) {
  const digits = value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  const fixed = value.toFixed(digits);
  return digits > 0 ? fixed.replace(/\.?0+$/, "") : fixed;
}

/** A count: whole up to 9,999, then `12.3 k`. */
export function count(value) {
  if (!isNumber(value)) return NONE;
  if (value < 10_000) return Math.round(value).toLocaleString("en");
  const [unit, size] = SCALES.find(([, size]) => value >= size);
  return `${short(value / size)}${NARROW}${unit}`;
}

/** All digits of a count. */
export const whole = (value) => (isNumber(value) ? Math.round(value).toLocaleString("en") : NONE);

/** Something a second. */
export function rate(value) {
  if (!isNumber(value)) return NONE;
  if (value > 0 && value < 0.01) return "<0.01";
  return value < 1_000 ? short(value) : count(value);
}

export function bytes(value) {
  if (!isNumber(value)) return NONE;
  const scale = SIZES.find(([, size]) => value >= size);
  return scale ? `${short(value / scale[1])}${NARROW}${scale[0]}` : `${whole(value)}${NARROW}B`;
}

/** A time of up to some seconds, from microseconds. */
export function micros(value) {
  if (!isNumber(value)) return NONE;
  if (value < 1_000) return `${short(value)}${NARROW}µs`;
  if (value < 1e6) return `${short(value / 1_000)}${NARROW}ms`;
  return `${short(value / 1e6)}${NARROW}s`;
}

/** A time of any length, from milliseconds. */
export function duration(ms) {
  if (!isNumber(ms)) return NONE;
  if (ms < 1_000) return `${Math.round(ms)}${NARROW}ms`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 60) return ms < 10_000 ? `${short(ms / 1_000)}${NARROW}s` : `${seconds}${NARROW}s`;
  const parts = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3_600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "m"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([number]) => number > 0);
  const [one, two] = parts.slice(first, first + 2);
  const second = two && two[0] > 0 ? String(two[0]).padStart(2, "0") + two[1] : "";
  return `${one[0]}${one[1]}${second}`;
}

/** A moment, from RFC 3339, a Date, or a Unix time in seconds or milliseconds. */
export function moment(value) {
  if (value instanceof Date) return value;
  return new Date(isNumber(value) && value < 1e11 ? value * 1_000 : value);
}

const two = (number) => String(number).padStart(2, "0");

/** `12:03:11` of this place's day. */
export function clock(value) {
  const at = moment(value);
  if (Number.isNaN(at.getTime())) return NONE;
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** `2026-03-01 12:03:11`. */
export function dateTime(value) {
  if (value === null || value === undefined) return NONE;
  const at = moment(value);
  if (Number.isNaN(at.getTime())) return NONE;
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(at)}`;
}

/** `4m12s ago`, or `in 3h`. */
export function ago(value, now = Date.now()) {
  if (value === null || value === undefined) return NONE;
  const ms = now - moment(value).getTime();
  if (Number.isNaN(ms)) return NONE;
  if (Math.abs(ms) < 1_000) return "now";
  return ms > 0 ? `${duration(ms)} ago` : `in ${duration(-ms)}`;
}

/** Both ends of a long name. */
export function middle(name, most = 28) {
  const chars = [...String(name)];
  if (chars.length <= most) return chars.join("");
  const head = Math.ceil((most - 1) * 0.6);
  return `${chars.slice(0, head).join("")}…${chars.slice(head - most + 1).join("")}`;
}

/** What is shown of the id of a key. */
export const shortKey = (keyId) => middle(keyId, 24);

/** One thing, or several of them. */
export const plural = (number, one, many = `${one}s`) =>
  `${whole(number)} ${number === 1 ? one : many}`;

/** `slow_consumer` as words. */
export const words = (name) => String(name).replaceAll("_", " ");

/** `durationMs` as words. */
export const label = (name) => {
  const bare = name.replace(/(Ms|Us)$/, "");
  const spaced = bare.replace(/([A-Z])/g, (letter) => ` ${letter.toLowerCase()}`);
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
};
