/**
 * The report of the self-test, which users send to the operator of a server. It is
 * built from known words and numbers only, so that it cannot contain an address or a
 * name, whatever a server or a device calls itself.
 */

import * as strings from './strings.js';

/** Browsers by their part of navigator.userAgent. The order matters: many pretend to be others. */
const browsers = /** @type {const} */ ([
  ['Edge', /Edg(?:e|A|iOS)?\/(\d{1,3})/], ['Opera', /OPR\/(\d{1,3})/], ['Samsung Internet', /SamsungBrowser\/(\d{1,3})/],
  ['Firefox', /(?:Firefox|FxiOS)\/(\d{1,3})/], ['Chrome', /(?:Chrome|CriOS)\/(\d{1,3})/], ['Safari', /Version\/(\d{1,3}).*Safari/],
]);
const systems = /** @type {const} */ ([
  ['Android', /Android/], ['iOS', /iPhone|iPad|iPod/], ['Windows', /Windows/], ['macOS', /Mac OS X/], ['ChromeOS', /CrOS/], ['Linux', /Linux/],
]);

/**
 * Returns the report as text.
 * @param {import('./self-test.js').Row[]} rows
 * @param {{userAgent: string, time: Date}} environment
 */
export function report(rows, {userAgent, time}) {
  const date = Number.isNaN(time.getTime()) ? 'unknown time' : `${time.toISOString().slice(0, 16).replace('T', ' ')} UTC`;
  return [`inbox self-test, ${date}`, `${browserOf(userAgent)} on ${systemOf(userAgent)}`, ...rows.map(line)].join('\n');
}

/** @param {string} userAgent */
function browserOf(userAgent) {
  for (const [name, pattern] of browsers) {
    const [, version] = pattern.exec(userAgent) ?? [];
    if (version) return `${name} ${version}`;
  }
  return 'Other browser';
}

/** @param {string} userAgent */
function systemOf(userAgent) {
  return systems.find(([, pattern]) => pattern.test(userAgent))?.[0] ?? 'another system';
}

/** @param {import('./self-test.js').Row} row */
function line({check, number, state, finding, ms, code}) {
  const {checks, states} = strings.test;
  const name = `${Object.hasOwn(checks, check) ? checks[check] : 'Other'}${Number.isInteger(number) && number > 1 ? ` ${number}` : ''}`;
  const parts = [Object.hasOwn(states, state) ? state : 'unknown'];
  if (Object.hasOwn(strings.test.findings, finding)) parts.push(finding);
  if (isCount(code) && code > 0 && code < 1000) parts.push(`error ${code}`);
  if (isCount(ms) && ms > 0) parts.push(`${ms} ms`);
  return `${name}: ${parts.join(', ')}`;
}

/**
 * @param {unknown} value
 * @returns {value is number}
 */
function isCount(value) {
  return Number.isInteger(value) && Number(value) >= 0 && Number(value) < 1e7;
}
