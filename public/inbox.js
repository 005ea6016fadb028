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

import {FIRST_PAUSE, InboxError, asInboxError, basic, decode, encode, pauseFor, refusal, retryAfter} from './wire.js';

export {InboxError};

/** Seconds a poll asks the server to hold it; the server may hold it less. */
const HOLD = 25;
/** Milliseconds a request may take beyond the time it asked to be held. */
const SLACK = 10_000;
/** Milliseconds by which a knock hangs up before the server would end it. */
const EARLY = 1_000;
/** The most milliseconds between two knocks at a server that does not hold them. */
const RARELY = 15_000;
/** Messages that may wait to be sent to one recipient. */
const QUEUE = 200;

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
  #closing = new AbortController();
  #last = '';
  /** The polling; a new start comes after the end of the one before. */
  #run = Promise.resolve();
  /** Milliseconds that the server was seen to hold a knock. */
  #holds = HOLD * 1000;
  #url;
  #authorization;
  #fetch;

  /**
   * @param {string | URL} url the server's /inbox
   * @param {{name: string, password: string, fetch?: typeof fetch}} options
   */
  constructor(url, {name, password, fetch: fetchWith}) {
    super();
    this.#url = String(url);
    this.#authorization = basic(name, password);
    this.#fetch = fetchWith ?? ((...request) => fetch(...request));
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
      this.#become('retrying');
      this.#run = this.#run.then(() => this.#pollOn());
    }
  }

  /** Ends everything under way. What was not sent yet is not sent. */
  close() {
    this.#become('closed');
    this.#closing.abort();
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
    if (queue.length >= QUEUE) {
      throw new InboxError('queue-full', `${QUEUE} messages wait to be sent to this recipient already`);
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
    const options = {...this.#options('POST', encode(data)), keepalive: true};
    this.#fetch(this.#at({to}), options).catch(() => {}); // nobody is left to tell
  }

  /** Polls until superseded or closed; one poll at a time. */
  async #pollOn() {
    let failures = 0;
    while (!this.#ended) {
      try {
        await this.#poll(failures > 0 || this.#status !== 'open' ? 0 : HOLD);
        failures = 0;
      } catch (error) {
        if (this.#ended) return;
        await this.#pauseAfter(asInboxError(error), failures++);
      }
    }
  }

  get #ended() {
    return this.#status === 'closed' || this.#status === 'superseded';
  }

  /**
   * One poll. The first, and each after a failure, asks not to be held: it
   * tells at once that the server is there.
   * @param {number} hold seconds
   */
  async #poll(hold) {
    const asked = Date.now();
    const query = {after: this.#last, wait: String(hold)};
    const {response, body} = await this.#ask(query, this.#options('GET'), hold * 1000 + SLACK);
    if (this.#ended) return;
    if (response.headers.get('X-Poll-Ended') === 'superseded') {
      this.#become('superseded');
      this.dispatchEvent(new Event('superseded'));
      return;
    }
    const stopping = retryAfter(response);
    if (stopping > 0) throw new InboxError('stopping', 'the server is stopping', {status: 204, retryAfter: stopping});
    this.#become('open');
    if (response.status === 200) this.#accept(response, body);
    else if (hold > 0) await this.#pace(Date.now() - asked);
  }

  /**
   * A server without long polling answers at once; asking again at once would be a flood.
   * @param {number} took milliseconds
   */
  async #pace(took) {
    if (took < FIRST_PAUSE) await this.#pause(2 * FIRST_PAUSE);
  }

  /**
   * Hands a message out. It is acknowledged by the next poll, so not if a
   * crash comes before.
   * @param {Response} response
   * @param {ArrayBuffer} body
   */
  #accept(response, body) {
    const type = response.headers.get('Content-Type') ?? '';
    const id = response.headers.get('X-Message-Id') ?? '';
    this.#last = id;
    try {
      const from = decodeURIComponent(response.headers.get('X-From') ?? '');
      this.dispatchEvent(new CustomEvent('message', {detail: {from, id, type, data: decode(type, body)}}));
    } catch (cause) {
      this.#complain(new InboxError('unreadable', 'a message came that cannot be read; it is skipped', {cause}));
    }
  }

  /**
   * @param {string} to
   * @param {{body: BodyInit, type: string}} message
   * @param {number} wait seconds
   */
  async #deliver(to, message, wait) {
    const until = Date.now() + wait * 1000;
    for (let failures = 0, inVain = 0; ; ) {
      if (this.#status === 'closed') throw new InboxError('closed', 'the inbox was closed before the message was sent');
      const asked = Date.now();
      try {
        await this.#knock(to, message, Math.max(0, until - asked));
        if (this.#status === 'retrying') this.#become('open');
        return;
      } catch (error) {
        const reason = asInboxError(error);
        const absent = reason.code === 'no-inbox' && until > Date.now();
        if (absent) await this.#restAfter(Date.now() - asked, inVain++, to, until);
        else if (reason.passing) await this.#pauseAfter(reason, failures++);
        else if (reason.code !== 'still-absent') throw this.#complain(reason);
      }
    }
  }

  /**
   * One POST. While nobody is there it is held; the browser would write the
   * 404 at the end into its console, so a knock that will be repeated hangs up a
   * moment before. A message that arrived in that moment arrives twice.
   * @param {string} to
   * @param {{body: BodyInit, type: string}} message
   * @param {number} left milliseconds
   */
  async #knock(to, message, left) {
    const hold = Math.min(HOLD, Math.ceil(left / 1000));
    const again = left > this.#holds && this.#holds >= 2 * EARLY;
    /** @type {Record<string, string>} */
    const query = hold > 0 ? {to, wait: String(hold)} : {to};
    await this.#ask(query, this.#options('POST', message), again ? this.#holds - EARLY : hold * 1000 + SLACK, again);
  }

  /**
   * The server answered a knock before its time: it holds less than it was
   * asked to, or nothing. In the latter case each knock ends in the console, so
   * they become rare; a message of the recipient shows that it is there now.
   * @param {number} held milliseconds
   * @param {number} inVain how many knocks were before it
   * @param {string} to
   * @param {number} until when to give up
   */
  async #restAfter(held, inVain, to, until) {
    this.#holds = Math.min(this.#holds, held);
    const rest = this.#holds >= 2 * EARLY ? EARLY : Math.min(RARELY, 2 ** inVain * EARLY);
    await this.#pause(Math.min(rest, until - Date.now()), to);
  }

  /**
   * One request with its whole answer, or an InboxError.
   * @param {Record<string, string>} query
   * @param {RequestInit} options
   * @param {number} limit milliseconds
   * @param {boolean} [knocking] whether running out of time means only that nobody is there yet
   */
  async #ask(query, options, limit, knocking = false) {
    const abort = new AbortController();
    const stop = () => abort.abort();
    const timer = setTimeout(stop, limit);
    // A held request outlives its network in silence: asking again tells at once how things are.
    globalThis.addEventListener?.('offline', stop);
    globalThis.addEventListener?.('online', stop);
    this.#closing.signal.addEventListener('abort', stop);
    try {
      const response = await this.#fetch(this.#at(query), {...options, signal: abort.signal});
      const body = await response.arrayBuffer();
      if (!response.ok) throw refusal(response, body);
      return {response, body};
    } catch (cause) {
      if (cause instanceof InboxError) throw cause;
      if (knocking && abort.signal.aborted) throw new InboxError('still-absent', 'nobody is there yet');
      throw new InboxError('network', 'the server cannot be reached', {cause});
    } finally {
      clearTimeout(timer);
      globalThis.removeEventListener?.('offline', stop);
      globalThis.removeEventListener?.('online', stop);
      this.#closing.signal.removeEventListener('abort', stop);
    }
  }

  /** @param {Record<string, string>} query */
  #at(query) {
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
  #options(method, message) {
    /** @type {Record<string, string>} */
    const headers = {Authorization: this.#authorization};
    if (message) headers['Content-Type'] = message.type;
    return {method, headers, body: message?.body, cache: 'no-store', credentials: 'omit'};
  }

  /**
   * @param {InboxError} error
   * @param {number} failures how many came before it
   */
  async #pauseAfter(error, failures) {
    const milliseconds = pauseFor(error, failures);
    error.retryIn = milliseconds / 1000;
    if (this.#status === 'open') this.#become('retrying');
    if (this.#status !== 'closed') this.#complain(error);
    await this.#pause(milliseconds);
  }

  /**
   * @param {number} milliseconds
   * @param {string} [from] whose message ends the pause
   */
  #pause(milliseconds, from) {
    return new Promise(resolve => {
      if (this.#status === 'closed') return resolve(undefined);
      const done = () => {
        clearTimeout(timer);
        globalThis.removeEventListener?.('online', done);
        this.#closing.signal.removeEventListener('abort', done);
        this.removeEventListener('message', heard);
        resolve(undefined);
      };
      const heard = (/** @type {Event} */ event) => /** @type {CustomEvent} */ (event).detail.from === from && done();
      const timer = setTimeout(done, milliseconds);
      this.addEventListener('message', heard);
      globalThis.addEventListener?.('online', done);
      this.#closing.signal.addEventListener('abort', done);
    });
  }

  /** @param {Status} status */
  #become(status) {
    if (this.#status === status || this.#status === 'closed') return;
    this.#status = status;
    this.dispatchEvent(new CustomEvent('status', {detail: status}));
  }

  /** @param {InboxError} error */
  #complain(error) {
    this.dispatchEvent(new CustomEvent('error', {detail: error}));
    return error;
  }
}
