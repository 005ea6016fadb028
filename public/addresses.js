/**
 * The addresses at which other devices open this server. A page that was opened
 * under localhost asks the server for them, because a link with localhost opens
 * nothing on another device.
 */

import {parseURL} from './room.js';

const LOOPBACK = /^(localhost|.+\.localhost|127\.\d+\.\d+\.\d+|0\.0\.0\.0|\[::1?\]|\[::ffff:(7f[\da-f]{2}:[\da-f]+|0:0)\])\.?$/;
/** Milliseconds before a request that failed is repeated. */
const RETRY_DELAYS = [1_000, 3_000, 8_000];

/**
 * Reports whether a host leads to the device itself, on every device.
 * @param {string} hostname as in {@link URL}
 */
export function isLoopback(hostname) {
  return LOOPBACK.test(hostname.toLowerCase());
}

/**
 * Returns a link at another origin.
 * @param {string} link
 * @param {string} origin
 */
export function linkAt(link, origin) {
  const url = new URL(origin);
  ({pathname: url.pathname, search: url.search, hash: url.hash} = new URL(link));
  return url.href;
}

/**
 * Asks the server for the origins at which other devices open it, the most useful
 * first. Returns null if the server refuses: a proxy is in front of it, for example.
 * The list is empty if no other device can reach it.
 * @param {string | URL} url the /addresses endpoint of the server
 * @param {{fetch?: typeof fetch, delays?: number[]}} [options]
 * @returns {Promise<string[] | null>}
 */
export async function fetchOrigins(url, {fetch: customFetch = fetch, delays = RETRY_DELAYS} = {}) {
  for (const delay of [...delays, 0]) {
    try {
      const response = await customFetch(url, {cache: 'no-store', credentials: 'omit', redirect: 'error'});
      if (response.ok) return parseOrigins(await response.json());
      if (response.status !== 429 && response.status < 500) return null;
    } catch {
      // The server does not respond, or something else does.
    }
    if (delay > 0) await new Promise(resolve => setTimeout(resolve, delay));
  }
  return null;
}

/**
 * Returns the origins of a response, without those that are not valid.
 * @param {any} response
 */
export function parseOrigins(response) {
  const addresses = Array.isArray(response?.addresses) ? response.addresses : [];
  const origins = addresses.map(originOf).filter((/** @type {string} */ origin) => origin !== '');
  return /** @type {string[]} */ ([...new Set(origins)]);
}

/** @param {any} address */
function originOf(address) {
  const text = `${address?.scheme}://${address?.host}:${address?.port}`;
  const url = /^https?:\/\/[^/?#@\\]+:\d+$/.test(text) ? parseURL(text) : null;
  return url && !isLoopback(url.hostname) ? url.origin : '';
}
