/**
 * Adapts the time that requests are held open to the proxies on the way. Many
 * proxies cut a request that has no response after 60, 30 or 10 seconds.
 */

/** Seconds that a request asks the server to wait. The server can respond earlier. */
const MAX_HOLD = 25;
/** Milliseconds below which a failure is not the timeout of a proxy. */
const MIN_CUT = 1_000;
/** The part of the time before a cut that the next request asks for. */
const MARGIN = 0.8;
/** Number of complete holds before the time grows, without and after many cuts. */
const MIN_HOLDS = 4;
const MAX_HOLDS = 512;

/** The cause of a request that the client aborted because the network of the device changed. */
export const networkChange = new DOMException('the network of this device has changed', 'AbortError');

/**
 * HoldTime is the time that the requests of one client ask the server to wait. A
 * cut shortens it. A series of complete holds doubles it; each cut makes the
 * required series twice as long, so that a permanent limit is rarely exceeded.
 */
export class HoldTime {
  #seconds = MAX_HOLD;
  #completed = 0;
  #required = MIN_HOLDS;

  /** Whole seconds, at most 25. 0 if even the shortest hold was cut. */
  get seconds() {
    return this.#seconds;
  }

  /**
   * Shortens the time if a held request was cut, and reports whether it was.
   * @param {import('./codec.js').InboxError} error
   * @param {number} asked the seconds that the request asked for
   * @param {number} elapsed milliseconds until the error
   */
  shorten(error, asked, elapsed) {
    if (asked === 0 || elapsed < MIN_CUT || !isCut(error)) return false;
    this.#seconds = Math.min(this.#seconds, Math.floor(MARGIN * Math.min(asked, elapsed / 1000)));
    this.#completed = 0;
    this.#required = Math.min(MAX_HOLDS, 2 * this.#required);
    return true;
  }

  /**
   * Records a response without a message. It counts if the request was held for
   * the whole time.
   * @param {number} asked the seconds that the request asked for
   * @param {number} elapsed milliseconds until the response
   */
  complete(asked, elapsed) {
    if (asked < this.#seconds || elapsed < asked * 1000 - MIN_CUT / 2) return;
    if (this.#seconds === MAX_HOLD) this.#required = MIN_HOLDS;
    if (++this.#completed < this.#required) return;
    this.#completed = 0;
    this.#seconds = Math.min(MAX_HOLD, Math.max(1, 2 * this.#seconds));
  }
}

/**
 * Reports whether an error can be the timeout of a proxy: a lost connection, or
 * an error status that is not from the inbox server and does not say when to retry.
 * @param {import('./codec.js').InboxError} error
 */
function isCut({code, status, retryAfter, cause}) {
  if (code === 'network') return cause !== networkChange;
  return code === 'refused' && retryAfter === 0 && (status === 408 || status >= 500);
}
