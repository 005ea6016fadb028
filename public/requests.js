/**
 * The HTTP requests of a client of an inbox server. A request that waits does not notice that
 * its connection is dead, so it is repeated when the page becomes active or is online again.
 */

import {InboxError, basicAuth, networkChange, readResponse, replaced} from './codec.js';
import {after, on, onAbort} from './events.js';

/** Milliseconds that a request can take beyond its wait before it times out. */
export const TIMEOUT_MARGIN = 10_000;
/** Age in milliseconds of a request that is repeated when the page becomes active, or is online again. */
const MIN_AGE_ACTIVE = 3_000;
const MIN_AGE_ONLINE = 500;

/**
 * @typedef {{body: BodyInit, type: string}} Body an encoded message
 * @typedef {object} RequestOptions
 * @property {string} [path] below that of the mailboxes, such as /ack
 * @property {Body} [message]
 * @property {number} [limit] timeout in milliseconds
 * @property {boolean} [willRetry] whether a timeout means that the recipient does not exist yet
 * @property {(AbortSignal | undefined)[]} [signals] abort the request
 */

/** Requests sends requests with the credentials of one mailbox. */
export class Requests {
  /** The invitation or guest pass for a private server, '' for none. */
  invite;
  /** The value of the field Authorization. */
  authorization;
  #url;
  #fetch;

  /**
   * @param {string} url
   * @param {{name: string, password: string, invite: string, fetch?: typeof globalThis.fetch}} options
   */
  constructor(url, {name, password, invite, fetch = (...request) => globalThis.fetch(...request)}) {
    this.#url = url;
    this.authorization = basicAuth(name, password);
    this.invite = invite;
    this.#fetch = fetch;
  }

  /**
   * Sends a request and reads the whole response. Throws an InboxError.
   * @param {string} method
   * @param {Record<string, string>} query
   * @param {RequestOptions} [options]
   */
  async send(method, query, {path = '', message, limit = TIMEOUT_MARGIN, willRetry = false, signals = []} = {}) {
    const abort = new AbortController();
    const scope = new AbortController();
    const started = Date.now();
    after(limit, () => abort.abort(), scope.signal);
    on(globalThis, 'offline', () => abort.abort(networkChange), scope.signal);
    onWake((_online, minAge) => Date.now() - started >= minAge && abort.abort(replaced), scope.signal);
    for (const signal of signals) onAbort(signal, reason => abort.abort(reason), scope.signal);
    try {
      const response = await this.open(method, query, {path, message, signal: abort.signal});
      return {response, body: await readResponse(response, method, query)};
    } catch (cause) {
      if (cause instanceof InboxError) throw cause;
      if (willRetry && abort.signal.aborted) throw new InboxError('recipient-absent');
      throw new InboxError('network', 'the server cannot be reached', {cause: abort.signal.reason ?? cause});
    } finally {
      scope.abort();
    }
  }

  /**
   * Sends a request that outlives the page and is not repeated. Its response does not matter.
   * @param {string} method
   * @param {Record<string, string>} query
   * @param {Body} [message]
   */
  sendLast(method, query, message) {
    this.open(method, query, {message, keepalive: true}).catch(() => {}); // the page is closing
  }

  /**
   * Sends a request. no-store keeps identical GETs of two tabs from waiting for the browser's
   * cache lock. omit keeps a 401 from opening the browser's login dialog. manual keeps the
   * password from the target of a redirect, which is never an inbox server.
   * @param {string} method
   * @param {Record<string, string>} query
   * @param {{path?: string, message?: Body, accept?: string} & RequestInit} options
   */
  open(method, query, {path = '', message, accept, ...options}) {
    /** @type {Record<string, string>} */
    const headers = {Authorization: this.authorization};
    if (accept) headers.Accept = accept;
    if (this.invite) headers['Inbox-Invite'] = encodeURIComponent(this.invite); // a broken one must not break the request
    if (message) headers['Content-Type'] = message.type;
    // URLSearchParams would encode a space as +, which some servers do not decode.
    const fields = Object.entries(query).map(([key, value]) => `${key}=${encodeURIComponent(value)}`);
    const fetch = this.#fetch; // that of a browser must not be called as a method
    return fetch(`${this.#url}${path}?${fields.join('&')}`, {
      method, headers, body: message?.body, cache: 'no-store', credentials: 'omit', redirect: 'manual', ...options,
    });
  }
}

/**
 * Calls a listener when the page becomes active again or the device comes back
 * online: its connections can be dead without notice, if they are older than minAge
 * milliseconds.
 * @param {(online: boolean, minAge: number) => void} listener
 * @param {AbortSignal} signal removes the listener
 */
export function onWake(listener, signal) {
  const {document} = globalThis;
  const onActive = () => document?.visibilityState !== 'hidden' && listener(false, MIN_AGE_ACTIVE);
  on(globalThis, 'online', () => listener(true, MIN_AGE_ONLINE), signal);
  on(globalThis, 'pageshow', onActive, signal);
  on(document, 'visibilitychange', onActive, signal);
  on(document, 'resume', onActive, signal);
}
