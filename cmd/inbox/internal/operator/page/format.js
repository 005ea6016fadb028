/** Numbers and times as text. The language is English, like that of the page. */

const integer = new Intl.NumberFormat('en', {maximumFractionDigits: 0});

/**
 * Formats a count.
 * @param {number} n
 */
export function count(n) {
  return integer.format(n);
}

/**
 * Formats a number of things.
 * @param {number} n
 * @param {string} noun
 */
export function plural(n, noun) {
  if (n === 1) return `1 ${noun}`;
  return `${count(n)} ${noun}${noun.endsWith('x') ? 'es' : 's'}`;
}

/**
 * Formats a rate, with one digit behind the point if it is small.
 * @param {number} x
 */
export function perSecond(x) {
  if (x > 0 && x < 0.05) return '<0.1';
  return x < 9.95 ? x.toFixed(1) : count(x);
}

/**
 * Formats a number with the largest unit that fits.
 * @param {number} x
 * @param {number} base
 * @param {string[]} units
 */
function scaled(x, base, units) {
  let i = 0;
  for (; x >= 999.5 && i < units.length - 1; i++) x /= base;
  return `${x.toFixed(i > 0 && x < 9.95 ? 1 : 0).replace('.0', '')}\u00a0${units[i]}`;
}

/** @param {number} n */
export function memory(n) {
  return scaled(n, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB']);
}

/** @param {number} n */
export function traffic(n) {
  return scaled(n, 1000, ['B', 'kB', 'MB', 'GB', 'TB']);
}

/** @param {number} n */
export function bitRate(n) {
  return scaled(n, 1000, ['bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s']);
}

/** @param {number} share of 1 */
export function percent(share) {
  return `${Math.round(100 * share)}\u00a0%`;
}

const units = /** @type {const} */ ([[86400, 'day'], [3600, 'hour'], [60, 'minute']]);

/**
 * Formats a duration in its largest unit.
 * @param {number} seconds
 */
export function span(seconds) {
  const length = Math.abs(seconds);
  for (const [size, noun] of units) {
    if (length >= 2 * size) return plural(Math.floor(length / size), noun);
  }
  return plural(Math.floor(length), 'second');
}

const day = new Intl.DateTimeFormat('en-GB', {day: 'numeric', month: 'short', year: 'numeric'});
const dayAndTime = new Intl.DateTimeFormat('en-GB', {day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit'});
const clock = new Intl.DateTimeFormat('en-GB', {hour: '2-digit', minute: '2-digit', second: '2-digit'});

/** @param {Date} time */
export function date(time) {
  return day.format(time);
}

/**
 * Formats a time of the past: the time of day, and the date if it is another one.
 * @param {Date} time
 * @param {Date} now
 */
export function moment(time, now) {
  return time.toDateString() === now.toDateString() ? clock.format(time) : dayAndTime.format(time);
}
