/**
 * Adapts the waits of requests to proxies, which abort a request that has no response for some
 * time.
 */

import {MAX_WAIT} from './codec.js';

/** Milliseconds below which a failure is not the timeout of a proxy. */
const MIN_TIMEOUT = 1_000;
/** The fraction of the time before a proxy timeout that the next request asks for. */
const MARGIN = 0.8;
/** Number of full waits before the time grows, without and after many proxy timeouts. */
const MIN_WAITS = 4;
const MAX_WAITS = 512;

/** @typedef {import('./codec.js').InboxError} InboxError */

const abortError = (/** @type {string} */ text) => new DOMException(text, 'AbortError');

/** The cause of a request that the client aborted because the network of the device changed. */
export const networkChange = abortError('another network');

/** The cause of a request that the client aborted to repeat it at once, because its connection can be dead. */
export const replaced = abortError('repeated');

/** The cause of a poll that the client aborted because a stream takes its place. */
export const takenOver = abortError('another transport');

/** The cause of a POST that the client aborted because its recipient does not exist yet. */
export const absent = abortError('no recipient yet');

/**
 * WaitTime is the time that the requests of one client ask the server to wait. Many
 * proxies abort a request that has no response after 60, 30 or 10 seconds; such a
 * timeout shortens it. A series of full waits doubles it; each timeout makes
 * the required series twice as long, so that a permanent limit is rarely exceeded.
 */
export class WaitTime {
  #seconds = MAX_WAIT;
  #completed = 0;
  #required = MIN_WAITS;

  /** Whole seconds, at most 25. 0 if a proxy aborted even the shortest wait. */
  get seconds() {
    return this.#seconds;
  }

  /**
   * Shortens the time if a proxy aborted a request, and reports whether it did.
   * @param {InboxError} error
   * @param {number} asked the seconds that the request asked for
   * @param {number} elapsed milliseconds until the error
   */
  shorten(error, asked, elapsed) {
    if (asked === 0 || elapsed < MIN_TIMEOUT || !isProxyTimeout(error)) return false;
    this.#seconds = Math.min(this.#seconds, Math.floor(MARGIN * Math.min(asked, elapsed / 1000)));
    this.#completed = 0;
    this.#required = Math.min(MAX_WAITS, 2 * this.#required);
    return true;
  }

  /**
   * Records a response without a message. It counts if the server waited for the
   * whole time.
   * @param {number} asked the seconds that the request asked for
   * @param {number} elapsed milliseconds until the response
   */
  complete(asked, elapsed) {
    if (asked < this.#seconds || elapsed < asked * 1000 - MIN_TIMEOUT / 2) return;
    if (this.#seconds === MAX_WAIT) this.#required = MIN_WAITS;
    if (++this.#completed < this.#required) return;
    this.#completed = 0;
    this.#seconds = Math.min(MAX_WAIT, Math.max(1, 2 * this.#seconds));
  }
}

/**
 * Reports whether an error can be the timeout of a proxy: a lost connection, or
 * an error status that is not from the inbox server and does not say when to retry.
 * @param {InboxError} error
 */
function isProxyTimeout({code, status, retryAfter, cause}) {
  if (code === 'network') return cause !== networkChange && cause !== replaced;
  return code === 'refused' && retryAfter === 0 && (status === 408 || status >= 500);
}
