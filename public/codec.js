/**
 * What an inbox's requests and answers carry: bodies, credentials, refusals,
 * and how long to pause after one.
 */

/** Pauses after failures, in milliseconds: the first, and the longest. */
export const INITIAL_DELAY = 500;
const MAX_DELAY = 15_000;

/** Why a request failed. `code` is the problem type's last word, 'network', 'closed' or 'queue-full'. */
export class InboxError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{status?: number, retryAfter?: number, cause?: unknown}} [details]
   */
  constructor(code, message, {status = 0, retryAfter = 0, cause} = {}) {
    super(message, {cause});
    this.name = 'InboxError';
    this.code = code;
    /** The HTTP status, 0 when there was no answer. */
    this.status = status;
    /** Seconds the server asked us to wait, 0 when it did not say. */
    this.retryAfter = retryAfter;
    /** Seconds until the next attempt, 0 when there is none. */
    this.retryIn = 0;
  }

  /** Whether the same request may well succeed later. */
  get passing() {
    return this.status === 0 ? this.code === 'network' : [408, 429].includes(this.status) || this.status >= 500;
  }
}

/**
 * How long to wait after a failure: doubling, spread at random so that a
 * server coming back is not met by everybody at once, and never less than it
 * asked for.
 * @param {InboxError} error
 * @param {number} failures
 * @returns {number} milliseconds
 */
export function retryDelay(error, failures) {
  const delay = Math.min(MAX_DELAY, INITIAL_DELAY * 2 ** failures);
  const minimum = error.retryAfter * 1000;
  return Math.ceil(minimum + delay * (0.5 + Math.random() / 2) * (minimum > 0 ? 0.5 : 1));
}

/**
 * Seconds or a date, as HTTP has it.
 * @param {Response} response
 */
export function retryAfter(response) {
  const field = response.headers.get('Retry-After');
  if (!field) return 0;
  const seconds = /^\d+$/.test(field) ? Number(field) : (Date.parse(field) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.min(Math.max(0, seconds), 3600) : 0;
}

/**
 * @param {Response} response
 * @param {ArrayBuffer} body
 */
export function responseError(response, body) {
  const details = {status: response.status, retryAfter: retryAfter(response)};
  try {
    const problem = JSON.parse(new TextDecoder().decode(body));
    return new InboxError(String(problem.type).split(':').at(-1) ?? '', String(problem.detail ?? problem.title), details);
  } catch {
    return new InboxError('refused', `the server answered ${response.status}`, details);
  }
}

/** @param {unknown} error */
export function toInboxError(error) {
  return error instanceof InboxError ? error : new InboxError('failed', String(error), {cause: error});
}

/**
 * btoa takes bytes, not text: UTF-8 comes first.
 * @param {string} name
 * @param {string} password
 */
export function basicAuth(name, password) {
  const bytes = new TextEncoder().encode(`${name}:${password}`);
  return `Basic ${btoa(String.fromCharCode(...bytes))}`;
}

/**
 * @param {unknown} data
 * @returns {{body: BodyInit, type: string}}
 */
export function encode(data) {
  if (typeof data === 'string') return {body: data, type: 'text/plain'};
  if (data instanceof ArrayBuffer || data instanceof Blob) return {body: data, type: 'application/octet-stream'};
  if (ArrayBuffer.isView(data)) return {body: /** @type {BodyInit} */ (data), type: 'application/octet-stream'};
  return {body: JSON.stringify(data), type: 'application/json'};
}

/**
 * @param {string} type
 * @param {ArrayBuffer} body
 */
export function decode(type, body) {
  if (type.startsWith('application/json')) return JSON.parse(new TextDecoder().decode(body));
  if (type.startsWith('text/') || type.startsWith('application/sdp')) return new TextDecoder().decode(body);
  return body;
}
