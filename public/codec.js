/** Encodes requests to an inbox server, decodes its responses, and computes retry delays. */

/** Milliseconds before the first retry. */
export const INITIAL_DELAY = 500;
/** Maximum milliseconds before a retry, by default. */
export const MAX_RETRY_DELAY = 15_000;
/** Maximum seconds that a request asks the server to wait. The server can respond earlier. */
export const MAX_WAIT = 25;
/** Milliseconds that a request can take beyond its wait before it times out. */
export const TIMEOUT_MARGIN = 10_000;
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
  const minimum = error.retryAfter * 1000;
  return minimum + Math.min(max, INITIAL_DELAY * 2 ** failures) * (0.5 + Math.random() / 2) * (minimum > 0 ? 0.5 : 1);
}

/**
 * Returns Retry-After in seconds, 0 if it is absent or invalid. The field holds
 * seconds or an HTTP date. The result is at most one hour.
 * @param {Response} response
 */
export function retryAfter(response) {
  const field = response.headers.get('Retry-After') ?? '';
  const seconds = /^\d*$/.test(field) ? Number(field) : (Date.parse(field) - Date.now()) / 1000;
  return Math.min(Math.max(0, seconds), 3600) || 0;
}

/**
 * Returns the body of a response of an inbox server. Throws an InboxError if the response is an
 * error, or is not from an inbox server, which sends no redirects: a poll returns a message with
 * its ID, or 204. An ID that the poll acknowledged comes from a cache. The caller must abort
 * the request after an error: the body of a login page can be endless.
 * @param {Response} response
 * @param {string} method
 * @param {Record<string, string | number>} query of the request: a poll acknowledges `after`, a POST `upTo`
 */
export async function readResponse(response, method, {after, upTo}) {
  const {ok, status, redirected, headers} = response;
  const intercepted = new InboxError('intercepted', `status ${status}`, {status});
  const id = headers.get('X-Message-Id') ?? '';
  const isPost = method === 'POST';
  const isExpected = isPost ? status === (upTo === undefined ? 200 : 204) : status === 204 || (status === 200 && /^\d+$/.test(id) && id !== after);
  if (redirected || (ok ? !isExpected : status < 400)) throw intercepted; // 0 for a redirect
  const body = await response.arrayBuffer();
  if (!ok) throw problemError(new TextDecoder().decode(body), {status, retryAfter: retryAfter(response)});
  if (isPost && body.byteLength > 0) throw intercepted;
  return body;
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
    return new InboxError('refused', `status ${details?.status}`, details);
  }
}

/**
 * Returns the error of what a mailbox that has ended cannot do.
 * @param {{status: string, refusal: InboxError | null}} inbox
 */
export function endError({status, refusal}) {
  return status === 'refused' && refusal || new InboxError(status);
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
  return crypto.getRandomValues(new Uint32Array(4)).join('-');
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
  const body = JSON.stringify(data);
  return {body, type: 'application/json'};
}

/**
 * Decodes the body of a message by its media type.
 * @param {string} type
 * @param {ArrayBuffer | Uint8Array<ArrayBuffer>} body
 * @returns {any}
 */
export function decode(type, body) {
  const isJSON = type.startsWith('application/json');
  if (!isJSON && !/^(text|application\/sdp)/.test(type)) return body;
  const text = new TextDecoder('utf-8', {ignoreBOM: !isJSON}).decode(body);
  return isJSON ? JSON.parse(text) : text;
}
