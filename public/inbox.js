/**
 * A mailbox on an inbox server, and nothing of WebRTC. Any site may import it:
 *
 *     const inbox = new Inbox('https://example.org/inbox', {name: 'alice', password: 'secret'});
 *     inbox.addEventListener('message', event => console.log(event.detail.from, event.detail.data));
 *     inbox.start();
 *     await inbox.send('bob', {hello: 'there'}, {wait: 25});
 *
 * It polls with acknowledgements, so that a message is lost neither by a
 * broken network nor by a crash, but may come twice; it sends in order, and
 * keeps trying until the server has accepted or refused.
 */

import {INITIAL_DELAY, InboxError, basicAuth, decode, encode, responseError, retryAfter, retryDelay, toInboxError} from './codec.js';

export {InboxError};

/** Seconds a poll asks the server to hold it; the server may hold it less. */
const POLL_WAIT = 25;
/** Milliseconds a request may take beyond the time it asked to be held. */
const TIMEOUT_MARGIN = 10_000;
/** Milliseconds by which a knock hangs up before the server would end it. */
const ABORT_MARGIN = 1_000;
/** The most milliseconds between two knocks at a server that does not hold them. */
const MAX_RETRY_INTERVAL = 15_000;
/** Messages that may wait to be sent to one recipient. */
const MAX_QUEUE = 200;

/**
 * @typedef {{from: string, id: string, type: string, data: unknown}} Message
 *   data is what JSON holds, a string for text, an ArrayBuffer for the rest.
 * @typedef {'idle'|'open'|'retrying'|'superseded'|'closed'} Status
 */

/**
 * Events, all with a `detail`:
 * - message: a {@link Message}
 * - status: a {@link Status}, whenever it changes
 * - error: an {@link InboxError}; the inbox goes on by itself when `retryIn` is not 0
 * - superseded: another program reads this mailbox now; start() takes it back
 */
export class Inbox extends EventTarget {
  /** @type {Map<string, {length: number, tail: Promise<void>}>} sends under way, by recipient */
  #queues = new Map();
  /** @type {Status} */
  #status = 'idle';
  #closed = new AbortController();
  #lastId = '';
  /** The polling; a new start comes after the end of the one before. */
  #polling = Promise.resolve();
  /** Milliseconds that the server was seen to hold a knock. */
  #serverHold = POLL_WAIT * 1000;
  #url;
  #authorization;
  #fetch;

  /**
   * @param {string | URL} url the server's /inbox
   * @param {{name: string, password: string, fetch?: typeof fetch}} options
   */
  constructor(url, {name, password, fetch: customFetch}) {
    super();
    this.#url = String(url);
    this.#authorization = basicAuth(name, password);
    this.#fetch = customFetch ?? ((...request) => fetch(...request));
  }

  /** The value of the Authorization field, for the server's other routes. */
  get authorization() {
    return this.#authorization;
  }

  /** @returns {Status} */
  get status() {
    return this.#status;
  }

  /** Begins to poll. Does nothing while it polls already, or once closed. */
  start() {
    if (this.#status === 'idle' || this.#status === 'superseded') {
      this.#setStatus('retrying');
      this.#polling = this.#polling.then(() => this.#pollLoop());
    }
  }

  /** Ends everything under way. What was not sent yet is not sent. */
  close() {
    this.#setStatus('closed');
    this.#closed.abort();
  }

  /**
   * Leaves data in another mailbox. Resolves once the server has it, rejects
   * when it refused for good. With `wait` it waits for the mailbox to exist,
   * that many seconds, or Infinity.
   * @param {string} to
   * @param {unknown} data a string, an ArrayBuffer or view, a Blob, or anything JSON can hold
   * @param {{wait?: number}} [options]
   * @returns {Promise<void>}
   */
  async send(to, data, {wait = 0} = {}) {
    const queue = this.#queues.get(to) ?? {length: 0, tail: Promise.resolve()};
    if (queue.length >= MAX_QUEUE) {
      throw new InboxError('queue-full', `${MAX_QUEUE} messages wait to be sent to this recipient already`);
    }
    const message = encode(data);
    this.#queues.set(to, queue);
    queue.length++;
    const sent = queue.tail.then(() => this.#deliver(to, message, wait));
    queue.tail = sent.catch(() => {}); // a refusal concerns its own message alone
    try {
      await sent;
    } finally {
      if (--queue.length === 0) this.#queues.delete(to);
    }
  }

  /**
   * Sends once, past the queue, in a way that outlives the page; for a goodbye.
   * @param {string} to
   * @param {unknown} data
   */
  sendLast(to, data) {
    const options = {...this.#requestOptions('POST', encode(data)), keepalive: true};
    this.#fetch(this.#urlWith({to}), options).catch(() => {}); // nobody is left to tell
  }

  /** Polls until superseded or closed; one poll at a time. */
  async #pollLoop() {
    let failures = 0;
    while (!this.#stopped) {
      try {
        await this.#poll(failures > 0 || this.#status !== 'open' ? 0 : POLL_WAIT);
        failures = 0;
      } catch (error) {
        if (this.#stopped) return;
        await this.#backOff(toInboxError(error), failures++);
      }
    }
  }

  get #stopped() {
    return this.#status === 'closed' || this.#status === 'superseded';
  }

  /**
   * One poll. The first, and each after a failure, asks not to be held: it
   * tells at once that the server is there.
   * @param {number} hold seconds
   */
  async #poll(hold) {
    const started = Date.now();
    const query = {after: this.#lastId, wait: String(hold)};
    const {response, body} = await this.#request(query, this.#requestOptions('GET'), hold * 1000 + TIMEOUT_MARGIN);
    if (this.#stopped) return;
    if (response.headers.get('X-Poll-Ended') === 'superseded') {
      this.#setStatus('superseded');
      this.dispatchEvent(new Event('superseded'));
      return;
    }
    const pause = retryAfter(response);
    if (pause > 0) throw new InboxError('stopping', 'the server is stopping', {status: 204, retryAfter: pause});
    this.#setStatus('open');
    if (response.status === 200) this.#dispatchMessage(response, body);
    else if (hold > 0) await this.#throttle(Date.now() - started);
  }

  /**
   * A server without long polling answers at once; asking again at once would be a flood.
   * @param {number} elapsed milliseconds
   */
  async #throttle(elapsed) {
    if (elapsed < INITIAL_DELAY) await this.#sleep(2 * INITIAL_DELAY);
  }

  /**
   * Hands a message out. It is acknowledged by the next poll, so not if a
   * crash comes before.
   * @param {Response} response
   * @param {ArrayBuffer} body
   */
  #dispatchMessage(response, body) {
    const type = response.headers.get('Content-Type') ?? '';
    const id = response.headers.get('X-Message-Id') ?? '';
    this.#lastId = id;
    try {
      const from = decodeURIComponent(response.headers.get('X-From') ?? '');
      this.dispatchEvent(new CustomEvent('message', {detail: {from, id, type, data: decode(type, body)}}));
    } catch (cause) {
      this.#emitError(new InboxError('unreadable', 'a message came that cannot be read; it is skipped', {cause}));
    }
  }

  /**
   * @param {string} to
   * @param {{body: BodyInit, type: string}} message
   * @param {number} wait seconds
   */
  async #deliver(to, message, wait) {
    const until = Date.now() + wait * 1000;
    for (let failures = 0, attempts = 0; ; ) {
      if (this.#status === 'closed') throw new InboxError('closed', 'the inbox was closed before the message was sent');
      const started = Date.now();
      try {
        await this.#post(to, message, Math.max(0, until - started));
        if (this.#status === 'retrying') this.#setStatus('open');
        return;
      } catch (cause) {
        const error = toInboxError(cause);
        const absent = error.code === 'no-inbox' && until > Date.now();
        if (absent) await this.#waitToRetry(Date.now() - started, attempts++, to, until);
        else if (error.passing) await this.#backOff(error, failures++);
        else if (error.code !== 'recipient-absent') throw this.#emitError(error);
      }
    }
  }

  /**
   * One POST. While nobody is there it is held; the browser would write the
   * 404 at the end into its console, so a knock that will be repeated hangs up a
   * moment before. A message that arrived in that moment arrives twice.
   * @param {string} to
   * @param {{body: BodyInit, type: string}} message
   * @param {number} remaining milliseconds
   */
  async #post(to, message, remaining) {
    const hold = Math.min(POLL_WAIT, Math.ceil(remaining / 1000));
    const willRetry = remaining > this.#serverHold && this.#serverHold >= 2 * ABORT_MARGIN;
    /** @type {Record<string, string>} */
    const query = hold > 0 ? {to, wait: String(hold)} : {to};
    const limit = willRetry ? this.#serverHold - ABORT_MARGIN : hold * 1000 + TIMEOUT_MARGIN;
    await this.#request(query, this.#requestOptions('POST', message), limit, willRetry);
  }

  /**
   * The server answered a knock before its time: it holds less than it was
   * asked to, or nothing. In the latter case each knock ends in the console, so
   * they become rare; a message of the recipient shows that it is there now.
   * @param {number} held milliseconds
   * @param {number} attempts how many knocks were before it
   * @param {string} to
   * @param {number} until when to give up
   */
  async #waitToRetry(held, attempts, to, until) {
    this.#serverHold = Math.min(this.#serverHold, held);
    const delay = this.#serverHold >= 2 * ABORT_MARGIN
      ? ABORT_MARGIN
      : Math.min(MAX_RETRY_INTERVAL, 2 ** attempts * ABORT_MARGIN);
    await this.#sleep(Math.min(delay, until - Date.now()), to);
  }

  /**
   * One request with its whole answer, or an InboxError.
   * @param {Record<string, string>} query
   * @param {RequestInit} options
   * @param {number} limit milliseconds
   * @param {boolean} [willRetry] whether running out of time means only that nobody is there yet
   */
  async #request(query, options, limit, willRetry = false) {
    const abort = new AbortController();
    const stop = () => abort.abort();
    const timer = setTimeout(stop, limit);
    // A held request outlives its network in silence: asking again tells at once how things are.
    globalThis.addEventListener?.('offline', stop);
    globalThis.addEventListener?.('online', stop);
    this.#closed.signal.addEventListener('abort', stop);
    try {
      const response = await this.#fetch(this.#urlWith(query), {...options, signal: abort.signal});
      const body = await response.arrayBuffer();
      if (!response.ok) throw responseError(response, body);
      return {response, body};
    } catch (cause) {
      if (cause instanceof InboxError) throw cause;
      if (willRetry && abort.signal.aborted) throw new InboxError('recipient-absent', 'nobody is there yet');
      throw new InboxError('network', 'the server cannot be reached', {cause});
    } finally {
      clearTimeout(timer);
      globalThis.removeEventListener?.('offline', stop);
      globalThis.removeEventListener?.('online', stop);
      this.#closed.signal.removeEventListener('abort', stop);
    }
  }

  /** @param {Record<string, string>} query */
  #urlWith(query) {
    // encodeURIComponent, not URLSearchParams: a space as + is another name to some servers.
    const fields = Object.entries(query).map(([key, value]) => `${key}=${encodeURIComponent(value)}`);
    return `${this.#url}?${fields.join('&')}`;
  }

  /**
   * no-store, because identical GETs of two tabs else queue on the browser's
   * cache lock; omit, because a 401 else waits on the browser's login dialog.
   * @param {string} method
   * @param {{body: BodyInit, type: string}} [message]
   * @returns {RequestInit}
   */
  #requestOptions(method, message) {
    /** @type {Record<string, string>} */
    const headers = {Authorization: this.#authorization};
    if (message) headers['Content-Type'] = message.type;
    return {method, headers, body: message?.body, cache: 'no-store', credentials: 'omit'};
  }

  /**
   * @param {InboxError} error
   * @param {number} failures how many came before it
   */
  async #backOff(error, failures) {
    const delay = retryDelay(error, failures);
    error.retryIn = delay / 1000;
    if (this.#status === 'open') this.#setStatus('retrying');
    if (this.#status !== 'closed') this.#emitError(error);
    await this.#sleep(delay);
  }

  /**
   * @param {number} milliseconds
   * @param {string} [from] whose message ends the pause
   */
  #sleep(milliseconds, from) {
    return new Promise(resolve => {
      if (this.#status === 'closed') return resolve(undefined);
      const done = () => {
        clearTimeout(timer);
        globalThis.removeEventListener?.('online', done);
        this.#closed.signal.removeEventListener('abort', done);
        this.removeEventListener('message', onMessage);
        resolve(undefined);
      };
      const onMessage = (/** @type {Event} */ event) => /** @type {CustomEvent} */ (event).detail.from === from && done();
      const timer = setTimeout(done, milliseconds);
      this.addEventListener('message', onMessage);
      globalThis.addEventListener?.('online', done);
      this.#closed.signal.addEventListener('abort', done);
    });
  }

  /** @param {Status} status */
  #setStatus(status) {
    if (this.#status === status || this.#status === 'closed') return;
    this.#status = status;
    this.dispatchEvent(new CustomEvent('status', {detail: status}));
  }

  /** @param {InboxError} error */
  #emitError(error) {
    this.dispatchEvent(new CustomEvent('error', {detail: error}));
    return error;
  }
}
