/**
 * A client for a mailbox on an inbox server, independent of WebRTC. Any site can
 * import it:
 *
 *     const inbox = new Inbox('https://example.org/inbox', {name: 'alice', password: 'secret'});
 *     inbox.addEventListener('message', event => console.log(event.detail.from, event.detail.data));
 *     inbox.start();
 *     await inbox.send('bob', {hello: 'there'}, {wait: 25});
 *
 * The client acknowledges messages: one survives network failures and crashes, but
 * can arrive twice. Messages to a recipient are sent in order. Each is retried until
 * the server accepts or rejects it. It receives by long polling; stream-inbox.js adds
 * WebSockets and event streams.
 *
 * Of several clients of one mailbox, the one that was started last gets the
 * messages. The others are superseded, also if they had no network at that time.
 * A client that returns after an outage continues if it was not superseded.
 *
 * A response that is not from an inbox server, such as a login page, is an error:
 * see the codes of {@link InboxError}.
 */

import {
  INITIAL_DELAY, InboxError, MAX_RETRY_DELAY, MAX_WAIT, TIMEOUT_MARGIN, basicAuth, decode, encode, endError, randomClient, readResponse, retryDelay, toInboxError,
} from './codec.js';
import {after, emit, on, onAbort, pause, serial, unlessAborted, until} from './events.js';

export {InboxError};

/** Milliseconds between two requests to a recipient that does not exist, if the server does not wait for it. */
const ABSENT_DELAY = 5_000;
/** Maximum number of queued messages per recipient. */
const MAX_QUEUE = 200;

/**
 * @typedef {{from: string, id: string, type: string, data: any}} Message
 *   data is the parsed value of JSON, a string for text, else an ArrayBuffer.
 * @typedef {'idle'|'open'|'retrying'|'superseded'|'refused'|'closed'} Status
 *   refused: the server is private, and the invitation is missing or has expired. `refusal` is
 *   the error; start() tries again
 * @typedef {'replaced'|'other-receiver'} SupersededReason
 *   replaced: another client was started while this one received; other-receiver: it was
 *   started before, for example while this device had no network
 * @typedef {{message: CustomEvent<Message>, status: CustomEvent<Status>, error: CustomEvent<InboxError>, connection: CustomEvent<'lost'|'restored'>,
 *   transport: CustomEvent<import('./transports.js').Transport>, superseded: CustomEvent<SupersededReason>}} InboxEvents
 *
 * @typedef {Record<string, string | number>} Query
 *
 * @typedef {object} Options
 * @property {string} name
 * @property {string} password
 * @property {string | undefined} [client] distinguishes the clients of a mailbox: 1 to 64 letters,
 *   digits, hyphens or underscores, random by default
 * @property {typeof globalThis.fetch | undefined} [fetch]
 * @property {string | undefined} [invite] an invitation to a private server, or a guest pass
 *
 * @typedef {object} Delivery a message on its way to the server
 * @property {string} to
 * @property {import('./transports.js').Sendable} message
 * @property {number} end when a recipient that does not exist is an error, in milliseconds
 * @property {AbortSignal | undefined} signal
 *
 * @typedef {object} RequestOptions
 * @property {string} [path] below that of the mailboxes, such as /ack
 * @property {{body: BodyInit, type: string}} [message]
 * @property {number} [limit] timeout in milliseconds
 * @property {AbortSignal | undefined} [signal]
 */

/**
 * Inbox is a mailbox. Events, all with a `detail`:
 * - message: a received {@link Message}
 * - status: the new {@link Status}
 * - error: an {@link InboxError}; if `retryIn` is not 0, the request is retried automatically
 * - superseded: another client now has this mailbox, for a {@link SupersededReason}.
 *   Sends are rejected; start() reclaims the mailbox
 */
export class Inbox extends /** @type {import('./events.js').TypedTarget<InboxEvents>} */ (/** @type {unknown} */ (EventTarget)) {
  /** The /inbox endpoint of the server. @readonly */
  url;
  /** @readonly */
  name;
  /** The Authorization value, for other endpoints of the server. @readonly */
  authorization;
  /** The invitation or guest pass. A new one is used from the next request or stream on. */
  invite;
  /**
   * Maximum milliseconds before a failed request is retried, unless Retry-After is
   * longer. It can be lowered while a call depends on the server.
   */
  maxRetryDelay = MAX_RETRY_DELAY;
  /** Why the server refuses this client, in the status `refused`. @type {InboxError | null} */
  refusal = null;
  /** @internal @readonly */
  client;
  /** The ID of the last message that was handled, which the next poll or stream acknowledges. @internal */
  lastId = '';
  /** Ends the pending requests when the inbox is superseded or closed. @internal */
  stop = new AbortController();
  /** @type {Map<string, {length: number, run: ReturnType<typeof serial>}>} pending sends, by recipient */
  #queues = new Map();
  /** @type {Status} */
  #status = 'idle';
  /** Whether the next poll leaves the mailbox to another client that was started meanwhile. */
  #resume = false;
  /** Settles when the receive loop ends. A restart waits for it, so that only one loop runs. */
  #receiving = Promise.resolve();
  #fetch;

  /**
   * @param {string | URL} url the /inbox endpoint of the server
   * @param {Options} options
   */
  constructor(url, {name, password, client = randomClient(), fetch = (...request) => globalThis.fetch(...request), invite = ''}) {
    super();
    this.url = new URL(url, globalThis.document?.baseURI).href;
    this.name = name;
    this.authorization = basicAuth(name, password);
    this.client = client;
    this.invite = invite;
    this.#fetch = fetch;
  }

  /** @returns {Status} */
  get status() {
    return this.#status;
  }

  /** @internal */
  get stopped() {
    return ['closed', 'superseded', 'refused'].includes(this.#status);
  }

  /**
   * Starts to receive, and takes the mailbox over from other clients. With `resume`, it
   * does not: if another client has the mailbox, this one is superseded. Does nothing
   * if the inbox is already receiving or closed.
   *
   * Resolves when the server has answered: true if this client has the mailbox. A
   * request that fails temporarily is retried first.
   * @param {{resume?: boolean}} [options]
   * @returns {Promise<boolean>}
   */
  async start({resume = false} = {}) {
    if (this.#status === 'idle' || this.stopped) {
      this.#resume = false;
      if (resume) this.doubt();
      this.stop = new AbortController();
      this.#setStatus('retrying');
      this.#receiving = this.#receiving.then(() => this.#receiveLoop());
    }
    while (this.#status === 'retrying') await until((resolve, _reject, scope) => on(this, 'status', resolve, scope));
    return this.#status === 'open';
  }

  /** Aborts all requests. Queued messages are not sent. */
  close() {
    this.end('closed');
  }

  /**
   * Closes the inbox and releases its name: the server deletes the mailbox with its
   * messages, unless another client has it by now. The request outlives the page and
   * is not retried; if it fails, the claim expires a minute later.
   */
  release() {
    this.close();
    this.#requestLast('DELETE', {client: this.client});
  }

  /** @param {Status} status @internal */
  end(status) {
    this.#setStatus(status);
    this.stop.abort();
  }

  /** @param {SupersededReason} reason @internal */
  supersede(reason) {
    this.end('superseded');
    emit(this, 'superseded', reason);
  }

  /** Notes that another client can have been started without the knowledge of this one. @internal */
  doubt() {
    this.#resume = true;
  }

  /** Notes that this client has the mailbox. @param {Response} [_response] of a poll @internal */
  confirm(_response) {
    this.#resume = true;
    this.#setStatus('open');
  }

  /**
   * Sends data to another mailbox. Resolves when the server has stored it, and
   * rejects on a permanent error. With `wait`, a missing mailbox is an error only
   * after that many seconds; Infinity waits without limit. An aborted signal rejects with
   * its reason; the message can arrive nevertheless.
   * @param {string} to
   * @param {unknown} data a string, an ArrayBuffer or view, a Blob, or a value that JSON can represent
   * @param {{wait?: number, signal?: AbortSignal | undefined}} [options]
   * @returns {Promise<void>}
   */
  async send(to, data, {wait = 0, signal} = {}) {
    const queue = this.#queues.get(to) ?? {length: 0, run: serial()};
    if (queue.length >= MAX_QUEUE) throw new InboxError('queue-full');
    const message = /** @type {import('./transports.js').Sendable} */ (encode(data));
    this.#queues.set(to, queue);
    queue.length++;
    const sent = queue.run(async () => this.#deliver(to, message, wait, signal)).finally(() => {
      if (--queue.length === 0) this.#queues.delete(to);
    });
    return unlessAborted(sent, signal);
  }

  /**
   * Sends a last message when the page closes. The request bypasses the queue and
   * the sealer, which would need more time than a closing page has. It outlives the
   * page and is not retried.
   * @param {string} to
   * @param {unknown} data
   */
  sendLast(to, data) {
    this.#requestLast('POST', {to}, encode(data));
  }

  /**
   * Receives until the inbox is superseded or closed. The first poll, and each one after a
   * failure, does not wait, so that its response confirms the connection immediately.
   */
  async #receiveLoop() {
    let failures = 0;
    let confirming = true;
    while (!this.stopped) {
      const wait = confirming || this.#status !== 'open' ? 0 : this.maxWait;
      const started = Date.now();
      try {
        const isUncertain = await this.receiveOnce(wait, confirming);
        if (!confirming) failures = 0;
        confirming = !!isUncertain;
      } catch (cause) {
        if (this.stopped) return;
        const error = toInboxError(cause);
        const {code} = error;
        if (code === 'other-receiver') return this.supersede(code);
        if (code === 'invitation-required' || code === 'invitation-expired') return this.refuse(error);
        confirming = true;
        if (code === 'network') this.doubt();
        if (this.isExpected(error, wait, Date.now() - started)) await this.sleep(retryDelay(error, 0));
        else await this.#backOff(error, failures++);
      }
    }
  }

  /**
   * Ends the inbox because the server is private, and refuses this client.
   * @param {InboxError} error
   * @internal
   */
  refuse(error) {
    this.refusal = error;
    this.end('refused');
    emit(this, 'error', error);
  }

  /** Maximum seconds that a request asks the server to wait. @internal */
  get maxWait() {
    return MAX_WAIT;
  }

  /**
   * Whether an error does not show a failure of the server. @internal
   * @param {InboxError} _error
   * @param {number} _wait seconds that the request asked for
   * @param {number} _elapsed milliseconds until the error
   */
  isExpected(_error, _wait, _elapsed) {
    return false;
  }

  /**
   * Sends one poll, and handles its message. Each but the first of a start has `resume`: a
   * client that is started meanwhile keeps the mailbox, whichever poll the server gets first.
   * Resolves to true if the next one must confirm the connection.
   * @param {number} wait seconds that the server should wait
   * @param {boolean} confirming whether the poll only confirms the connection
   * @param {AbortSignal} [signal]
   * @returns {Promise<boolean | void>}
   * @internal
   */
  async receiveOnce(wait, confirming, signal) {
    const started = Date.now();
    const query = {after: this.lastId, client: this.client, ...this.#resume && {resume: '1'}, wait};
    const {response, body} = await this.request('GET', query, {limit: wait * 1000 + TIMEOUT_MARGIN, signal});
    if (this.stopped) return;
    const [ended, id, from, type] = ['X-Poll-Ended', 'X-Message-Id', 'X-From', 'Content-Type'].map(name => response.headers.get(name) ?? '');
    if (ended === 'superseded') return this.supersede('replaced');
    this.confirm(response);
    if (response.status === 200) await this.onMessage({id, from, type, body});
    else if (!confirming) await this.onEmptyPoll(wait, Date.now() - started);
  }

  /**
   * Limits the rate of polls: a server without long polling responds immediately.
   * @param {number} _wait seconds that the poll asked for
   * @param {number} elapsed milliseconds
   * @internal
   */
  async onEmptyPoll(_wait, elapsed) {
    if (elapsed < INITIAL_DELAY) await this.sleep(2 * INITIAL_DELAY);
  }

  /**
   * Dispatches a message. The next poll, or an acknowledgement of the stream, acknowledges it
   * later, so a message that is being handled during a crash is delivered again.
   * @param {import('./transports.js').WireMessage} message
   * @internal
   */
  async onMessage({id, from: encodedFrom, type, body}) {
    try {
      const from = decodeURIComponent(encodedFrom);
      const data = await this.decode(type, body, from);
      if (!this.stopped) emit(this, 'message', {from, id, type, data});
    } catch (cause) {
      emit(this, 'error', new InboxError('unreadable', String(cause), {cause}));
    }
    this.lastId = id;
  }

  /**
   * @param {string} type
   * @param {any} body
   * @param {string} _from
   * @returns {any}
   * @internal
   */
  decode(type, body, _from) {
    return decode(type, body);
  }

  /**
   * Sends a message, with retries.
   * @param {string} to
   * @param {import('./transports.js').Sendable} message
   * @param {number} wait seconds to wait for the recipient
   * @param {AbortSignal} [signal]
   */
  async #deliver(to, message, wait, signal) {
    const delivery = {to, message, end: Date.now() + wait * 1000, signal};
    for (let failures = 0; ;) {
      signal?.throwIfAborted();
      if (this.stopped) throw endError(this);
      try {
        if (!await this.deliverOnce(delivery)) continue;
        if (this.#status === 'retrying') this.#setStatus('open');
        return;
      } catch (cause) {
        const error = toInboxError(cause);
        if (this.stopped || signal?.aborted) continue;
        if (error.temporary) {
          await this.#backOff(error, failures++);
        } else {
          emit(this, 'error', error);
          throw error;
        }
      }
    }
  }

  /**
   * Sends a POST, which waits for its recipient. Resolves to whether the server has the message.
   * @param {Delivery} delivery
   * @internal
   */
  async deliverOnce(delivery) {
    const {to, message, end, signal} = delivery;
    const started = Date.now();
    const wait = Math.min(MAX_WAIT, Math.ceil(Math.max(0, end - started) / 1000));
    try {
      await this.request('POST', wait > 0 ? {to, wait} : {to}, {message, limit: wait * 1000 + TIMEOUT_MARGIN, signal});
      return true;
    } catch (error) {
      if (/** @type {InboxError} */ (error).code !== 'no-inbox' || end <= Date.now()) throw error;
      await this.sleep(Math.min(started + ABSENT_DELAY, end) - Date.now());
      return false;
    }
  }

  /**
   * Reports a temporary failure and waits before the next attempt.
   * @param {InboxError} error
   * @param {number} failures number of earlier failures
   */
  async #backOff(error, failures) {
    const delay = retryDelay(error, failures, this.maxRetryDelay);
    error.retryIn = delay / 1000;
    if (this.#status === 'open') this.#setStatus('retrying');
    emit(this, 'error', error);
    await this.sleep(delay, {minimum: error.retryAfter * 1000});
  }

  /**
   * Waits. The end of the inbox ends the delay early.
   * @param {number} milliseconds
   * @param {{minimum?: number}} [_options] see stream-inbox.js
   * @returns {Promise<void>}
   * @internal
   */
  sleep(milliseconds, _options) {
    return pause(milliseconds, this.stop.signal);
  }

  /**
   * Sends a request and reads the whole response. Throws an InboxError.
   * @param {string} method
   * @param {Query} query
   * @param {RequestOptions} [options]
   * @internal
   */
  async request(method, query, {path, message, limit = TIMEOUT_MARGIN, signal} = {}) {
    const controller = new AbortController();
    const scope = controller.signal;
    const abort = (/** @type {unknown} */ reason = undefined) => controller.abort(reason);
    after(limit, abort, scope);
    onAbort(this.stop.signal, abort, scope);
    onAbort(signal, abort, scope);
    try {
      const response = await this.open(this.urlOf(query, path), {method, message, signal: scope});
      return {response, body: await readResponse(response, method, query)};
    } catch (cause) {
      if (cause instanceof InboxError) throw cause;
      throw new InboxError('network', undefined, {cause: scope.reason ?? cause});
    } finally {
      abort();
    }
  }

  /**
   * Sends a request that outlives the page and is not repeated. Its response does not matter.
   * @param {string} method
   * @param {Query} query
   * @param {{body: BodyInit, type: string}} [message]
   */
  #requestLast(method, query, message) {
    this.open(this.urlOf(query), {method, message, keepalive: true}).catch(() => {}); // the page is closing
  }

  /** @param {Query} query @internal */
  urlOf(query, path = '') {
    return `${this.url}${path}?${new URLSearchParams(/** @type {Record<string, string>} */ (query))}`;
  }

  /**
   * Sends a request to the server with the credentials of the mailbox. no-store keeps identical
   * GETs of two tabs from waiting for the browser's cache lock. omit keeps a 401 from opening
   * the browser's login dialog. manual keeps the password from the target of a redirect, which
   * is never an inbox server.
   * @param {string | URL} url
   * @param {{message?: {body: BodyInit, type: string} | undefined, headers?: Record<string, string>} & RequestInit} options
   * @internal
   */
  open(url, {message, headers, ...options}) {
    const fetch = this.#fetch; // that of a browser must not be called as a method
    return fetch(url, {
      headers: {
        Authorization: this.authorization,
        ...this.invite && {'Inbox-Invite': encodeURIComponent(this.invite)}, // a broken one must not break the request
        ...message && {'Content-Type': message.type}, ...headers,
      },
      body: message?.body, cache: 'no-store', credentials: 'omit', redirect: 'manual', ...options,
    });
  }

  /** @param {Status} status */
  #setStatus(status) {
    if (this.#status === status || this.#status === 'closed') return;
    this.#status = status;
    emit(this, 'status', status);
  }
}
