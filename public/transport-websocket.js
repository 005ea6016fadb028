/** Receives and sends messages over a WebSocket (subprotocol inbox.1, docs/protocol.md). */

import {mediaTypes} from './media-types.js';

/** Milliseconds in which the server must welcome the client. Polls receive until then. */
const WELCOME_LIMIT = 15_000;
/** Milliseconds in which the server must answer a message beyond its wait, and a check of the connection. */
const ANSWER_LIMIT = 10_000;
const CHECK_LIMIT = 2_000;
/** Maximum number of messages that wait for their recipients on one connection, as at the server. */
const MAX_WAITING = 16;
/** A connection is checked when nothing arrived for this many ping intervals of the server. */
const SILENT_PINGS = 2;

/**
 * @typedef {import('./transports.js').Connection & import('./transports.js').StreamListener} StreamOptions
 * @typedef {import('./transports.js').Stream} Stream
 * @typedef {{wait: number, resolve: () => void, reject: (error?: unknown) => void, timer: ReturnType<typeof setTimeout>}} Pending
 */

/**
 * Opens a WebSocket.
 * @type {import('./transports.js').OpenStream}
 */
export const open = options => new Socket(options);

/** @implements {Stream} */
class Socket {
  maxBodyBytes = 0;
  /** The messages without an answer, by their number. @type {Map<number, Pending>} */
  #pending = new Map();
  #ref = 0;
  #isOpen = false;
  #isClosed = false;
  #isChecking = false;
  /** Whether something arrived since the last look. */
  #isAlive = false;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #watch;
  #options;
  #socket;

  /** @param {StreamOptions} options */
  constructor(options) {
    const {url, WebSocket, limit, end} = options;
    this.#options = options;
    const socket = new (/** @type {typeof globalThis.WebSocket} */ (WebSocket))(url.replace(/^http/, 'ws'), 'inbox.1');
    this.#socket = socket;
    socket.binaryType = 'arraybuffer';
    socket.addEventListener('open', () => this.#hello());
    socket.addEventListener('message', ({data}) => this.#isClosed || this.#receive(data));
    socket.addEventListener('close', () => end('lost'));
    limit(WELCOME_LIMIT);
  }

  async #hello() {
    const {name, password, client, inbox, takeOver} = this.#options;
    const after = this.#isClosed ? '' : await takeOver();
    if (this.#isClosed) return this.#socket.close();
    const invite = inbox.invite && ` invite=${encodeURIComponent(inbox.invite)}`;
    this.#socket.send(`hello ${encodeURIComponent(name)} ${encodeURIComponent(password)} after=${after} client=${client} resume=1${invite}`);
  }

  /** @param {string | ArrayBuffer} data */
  #receive(data) {
    this.#isAlive = true;
    this.#isChecking = false;
    if (this.#isOpen) this.#options.limit();
    // The fields are ASCII, so a character is a byte, which is true of the rest in Latin-1 only.
    const frame = typeof data === 'string' ? data : new TextDecoder('latin1').decode(data);
    const fields = frame.split(' ', 5);
    const after = (/** @type {number} */ count) => data.slice(fields.slice(0, count).join(' ').length + 1);
    const [verb, first, second, third, fourth] = fields;
    if (verb === 'welcome') this.#onWelcome(Number(second), Number(fourth) || 25);
    if (verb === 'msg') this.#options.onMessage({id: first, from: second, type: mediaTypes[third] ?? mediaTypes.bytes, body: after(4)});
    if (verb === 'ok') this.#onOk(Number(first));
    if (verb === 'fail') this.#onFail(Number(first), String(after(2)));
    if (verb === 'end') this.#options.end(/** @type {import('./transports.js').EndReason} */ (first));
  }

  /**
   * @param {number} maxBodyBytes
   * @param {number} ping seconds between the pings of the server
   */
  #onWelcome(maxBodyBytes, ping) {
    this.#isOpen = true;
    this.#isAlive = false;
    this.maxBodyBytes = maxBodyBytes;
    this.#options.limit();
    this.#watch = setInterval(() => {
      if (!this.#isAlive) this.check(ANSWER_LIMIT);
      this.#isAlive = false;
    }, 1000 * SILENT_PINGS * ping);
    this.#options.onOpen();
  }

  /** Resolves a message, and the earlier ones without wait. @param {number} number */
  #onOk(number) {
    for (const [earlier, {wait}] of this.#pending) {
      if (earlier === number || (earlier < number && !wait)) this.#take(earlier)?.resolve();
    }
  }

  /** @param {number} number @param {string} problem */
  #onFail(number, problem) {
    const error = this.#options.problemError(problem);
    if (this.#isOpen) this.#take(number)?.reject(error);
    else this.#options.end('lost', error);
  }

  /** @param {number} number */
  #take(number) {
    const message = this.#pending.get(number);
    clearTimeout(message?.timer);
    this.#pending.delete(number);
    return message;
  }

  /**
   * @param {string} to
   * @param {import('./transports.js').Sendable} message
   * @param {number} wait seconds
   * @returns {Promise<void> | null}
   */
  send(to, {type, body}, wait) {
    if (wait && [...this.#pending.values()].filter(pending => pending.wait).length >= MAX_WAITING) return null;
    return new Promise((resolve, reject) => {
      if (this.#isClosed) return reject();
      const kind = Object.keys(mediaTypes).find(key => mediaTypes[key] === type) ?? 'bytes';
      const timer = setTimeout(() => this.#options.end('silent'), wait * 1000 + ANSWER_LIMIT);
      this.#pending.set(++this.#ref, {wait, resolve, reject, timer});
      this.#socket.send(join(`send ${this.#ref} ${encodeURIComponent(to)}${wait ? `?wait=${wait}` : ''} ${kind} `, body));
    });
  }

  /** @param {string} id */
  ack(id) {
    this.#socket.send(`ack ${id}`);
  }

  /** Asks for an answer: a page does not see the pings of the server. */
  check(milliseconds = CHECK_LIMIT) {
    if (this.#isChecking) return;
    this.#isChecking = true;
    this.#options.limit(milliseconds);
    this.#socket.send('ping');
  }

  /** @param {import('./transports.js').End} reason */
  close(reason) {
    this.#isClosed = true;
    clearInterval(this.#watch);
    // A browser warns of a socket that is closed while it connects.
    if (this.#socket.readyState > 0 || reason === 'silent') this.#socket.close();
    for (const number of this.#pending.keys()) this.#take(number)?.reject();
  }
}

/**
 * @param {string} start
 * @param {string | Uint8Array} body
 */
function join(start, body) {
  if (typeof body === 'string') return start + body;
  const frame = new Uint8Array(start.length + body.length);
  new TextEncoder().encodeInto(start, frame);
  frame.set(body, start.length);
  return frame;
}
