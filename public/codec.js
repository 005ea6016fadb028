/**
 * Encodes requests to an inbox server, decodes its responses, and computes their
 * times: retry delays, and how long a request asks the server to wait.
 */

/** Milliseconds before the first retry. */
export const INITIAL_DELAY = 500;
/** Maximum milliseconds before a retry, by default. */
export const MAX_RETRY_DELAY = 15_000;
/** Maximum seconds that a request asks the server to wait. The server can respond earlier. */
export const MAX_WAIT = 25;
/** Milliseconds below which a failure is not the timeout of a proxy. */
const MIN_TIMEOUT = 1_000;
/** The fraction of the time before a proxy timeout that the next request asks for. */
const MARGIN = 0.8;
/** Number of full waits before the time grows, without and after many proxy timeouts. */
const MIN_WAITS = 4;
const MAX_WAITS = 512;
/** The type of the problem documents of an inbox server; its last part is the code. */
const PROBLEM_TYPE = /^urn:inbox:problem:([\w-]+)$/;

/**
 * InboxError is a failed request. `code` is the last part of the problem type
 * (RFC 9457) that the inbox server sent, or a code of the client:
 * - invitation-required: the server is private, and the invitation is missing or wrong
 * - invitation-expired: it has expired, or was revoked
 * - network: there was no response, or the connection was lost
 * - refused: an error status without a problem document of an inbox server. A
 *   proxy, a CDN or a firewall in front of the server responded; `status` is its status
 * - intercepted: a redirect, or a success that an inbox server does not send. A
 *   login page, a captive portal, a service worker or a cache responded
 * - stopping: the server is shutting down
 * - unreadable: a received message cannot be decoded
 * - closed: the inbox was closed
 * - superseded: another client of the mailbox was started
 * - queue-full: too many messages to one recipient are pending
 */
export class InboxError extends Error {
  /**
   * @param {string} code
   * @param {string} [message] by default the code
   * @param {{type?: string, status?: number, retryAfter?: number, cause?: unknown}} [details]
   */
  constructor(code, message = code, {type = '', status = 0, retryAfter = 0, cause} = {}) {
    super(message, {cause});
    this.name = 'InboxError';
    this.code = code;
    /** The type of the problem document, '' for a code of the client. */
    this.type = type;
    /** The HTTP status, 0 without a response. */
    this.status = status;
    /** Retry-After in seconds, 0 if the response has none. */
    this.retryAfter = retryAfter;
    /** Seconds until the next attempt, 0 if the request is not retried. */
    this.retryIn = 0;
  }

  /** Whether the failure is temporary, so that a retry can succeed. */
  get temporary() {
    if (this.code === 'network' || this.code === 'intercepted') return true;
    return [408, 425, 429].includes(this.status) || this.status >= 500;
  }
}

/**
 * Returns the delay before the next attempt: exponential backoff with jitter,
 * so that clients do not retry in step after an outage. The delay is never
 * shorter than Retry-After.
 * @param {InboxError} error
 * @param {number} failures
 * @param {number} [max] milliseconds
 * @returns {number} milliseconds
 */
export function retryDelay(error, failures, max = MAX_RETRY_DELAY) {
  const delay = Math.min(max, INITIAL_DELAY * 2 ** failures);
  const minimum = error.retryAfter * 1000;
  return Math.ceil(minimum + delay * (0.5 + Math.random() / 2) * (minimum > 0 ? 0.5 : 1));
}

/**
 * Returns Retry-After in seconds, 0 if it is absent or invalid. The field holds
 * seconds or an HTTP date. The result is at most one hour.
 * @param {Response} response
 */
export function retryAfter(response) {
  const field = response.headers.get('Retry-After');
  if (!field) return 0;
  const seconds = /^\d+$/.test(field) ? Number(field) : (Date.parse(field) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.min(Math.max(0, seconds), 3600) : 0;
}

/**
 * Returns the body of a response of an inbox server. Throws an InboxError if the
 * response is an error, or is not from an inbox server.
 * @param {Response} response
 * @param {string} method
 * @param {Record<string, string>} query of the request: a poll acknowledges `after`, a POST `upTo`
 */
export async function readResponse(response, method, query) {
  if (isRedirect(response) || (response.ok && !isExpected(response, method, query))) {
    void response.body?.cancel().catch(() => {}); // it can be endless
    throw interceptedError(response);
  }
  const body = await response.arrayBuffer();
  if (!response.ok) throw problemError(new TextDecoder().decode(body), {status: response.status, retryAfter: retryAfter(response)});
  if (method === 'POST' && body.byteLength > 0) throw interceptedError(response);
  return body;
}

/**
 * Reports whether a response is a redirect or the result of one. An inbox server
 * sends none for a mailbox.
 * @param {Response} response
 */
function isRedirect({type, status, redirected}) {
  return type === 'opaqueredirect' || redirected || (status >= 300 && status < 400);
}

/**
 * Reports whether an inbox server can have sent a successful response. A poll
 * returns a message with its ID, or 204. An ID that the poll acknowledged comes
 * from a cache.
 * @param {Response} response
 * @param {string} method
 * @param {Record<string, string>} query
 */
function isExpected({status, headers}, method, {after, upTo}) {
  if (method === 'POST') return status === (upTo === undefined ? 200 : 204);
  const id = headers.get('X-Message-Id') ?? '';
  return status === 204 || (status === 200 && /^\d+$/.test(id) && id !== after);
}

/** @param {Response} response */
function interceptedError({status}) {
  return new InboxError('intercepted', 'not the response of an inbox server', {status});
}

/**
 * Converts a problem document (RFC 9457) to an InboxError.
 * @param {string} json any text that arrived
 * @param {{status?: number, retryAfter?: number}} [details] of the response
 */
export function problemError(json, details) {
  try {
    const {type, title, detail, status, retryAfter} = {...JSON.parse(json), ...details};
    const [, code] = /** @type {RegExpExecArray} */ (PROBLEM_TYPE.exec(type));
    return new InboxError(code, String(detail ?? title), {type, status, retryAfter});
  } catch { // not JSON, or a problem of another program
    return new InboxError('refused', `a proxy responded with status ${details?.status}`, details);
  }
}

/**
 * Returns the error of what a mailbox that has ended cannot do.
 * @param {{status: string, refusal: InboxError | null}} inbox
 */
export function endError({status, refusal}) {
  return status === 'refused' && refusal || new InboxError(status, `the mailbox is ${status}`);
}

/**
 * Returns the bytes of a buffer or a view, which share its memory.
 * @param {any} data
 */
export function bytesOf(data) {
  return new Uint8Array(data.buffer ?? data, data.byteOffset, data.byteLength);
}

/** @param {unknown} error */
export function toInboxError(error) {
  return error instanceof InboxError ? error : new InboxError('failed', String(error), {cause: error});
}

/**
 * Returns the Authorization value of Basic authentication (RFC 7617). The
 * credentials are encoded as UTF-8 first, because btoa accepts only bytes.
 * @param {string} name
 * @param {string} password
 */
export function basicAuth(name, password) {
  const bytes = new TextEncoder().encode(`${name}:${password}`);
  return `Basic ${btoa(String.fromCharCode(...bytes))}`;
}

/** Returns 128 random bits as an identifier of a client. */
export function randomClient() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), byte => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * Encodes data as a request body with its media type.
 * @param {unknown} data
 * @returns {{body: BodyInit, type: string}}
 */
export function encode(data) {
  if (typeof data === 'string') return {body: data, type: 'text/plain'};
  const isBuffer = data instanceof ArrayBuffer || ArrayBuffer.isView(data);
  if (isBuffer || data instanceof Blob) return {body: isBuffer ? bytesOf(data) : data, type: 'application/octet-stream'};
  return {body: JSON.stringify(data), type: 'application/json'};
}

/**
 * Decodes the body of a message by its media type.
 * @param {string} type
 * @param {ArrayBuffer | string} body
 */
export function decode(type, body) {
  const text = (/** @type {boolean} */ ignoreBOM) => (typeof body === 'string' ? body : new TextDecoder('utf-8', {ignoreBOM}).decode(body));
  if (type.startsWith('application/json')) return JSON.parse(text(false));
  if (type.startsWith('text/') || type.startsWith('application/sdp')) return text(true); // as over a WebSocket
  return typeof body === 'string' ? new TextEncoder().encode(body).buffer : body;
}

const abortError = (/** @type {string} */ text) => new DOMException(text, 'AbortError');

/** The cause of a request that the client aborted because the network of the device changed. */
export const networkChange = abortError('another network');

/** The cause of a request that the client aborted to repeat it at once, because its connection can be dead. */
export const replaced = abortError('repeated');

/** The cause of a poll that the client aborted because a stream takes its place. */
export const takenOver = abortError('another transport');

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
