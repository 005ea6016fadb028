/**
 * Opens the streams of one client, says how each ends, and remembers which of them a proxy
 * breaks. This module imports nothing but the code of WebSockets: see transports.js, which
 * has its types.
 */

import {open as openWebSocket} from './transport-websocket.js';

/** Milliseconds between two looks whether a better transport can be tried again. */
const UPGRADE_INTERVAL = 60_000;
/** Milliseconds before a transport that failed is tried again. Each failure in a row makes them four times as many. */
const FIRST_RETRY = 60_000;
const MAX_RETRY = 3_600_000;
/** Milliseconds below which the life of a stream is short, and the number of short lives in a row that are a failure. */
const SHORT_LIFE = 10_000;
const MAX_SHORT_LIVES = 3;
/** Milliseconds between the failure of a transport and the loss of the server that was its cause. */
const OUTAGE_TIME = 15_000;
/** Milliseconds after a switch between transports in which a request from before it can arrive. */
const SWITCH_TIME = 1_000;
/** An acknowledgement is sent after this many messages, or milliseconds. */
const ACK_COUNT = 8;
const ACK_DELAY = 50;

/**
 * @typedef {import('./transports.js').Stream} Stream
 * @typedef {import('./transports.js').StreamEnd} StreamEnd
 * @typedef {import('./transports.js').StreamName} StreamName
 * @typedef {import('./transports.js').Problem} Problem
 * @typedef {StreamEnd | 'offline' | 'replaced' | 'taken-over'} End how a stream ended: by the
 *   server, by the network, or by this client, which went offline, doubts the connection, or
 *   has a better stream
 * @typedef {object} Host the inbox that has the streams
 * @property {StreamName[]} names of the transports, in order of preference
 * @property {import('./transports.js').Connection} connection
 * @property {typeof import('./transports.js').broken} broken
 * @property {() => boolean} isConnected whether the server has answered the last request
 * @property {() => Promise<string>} takeOver ends the present poll, and returns the ID of the last message
 * @property {(message: import('./transports.js').WireMessage) => Promise<void>} onMessage resolves when it was handled
 * @property {() => void} onTransport called when another transport receives
 * @property {() => void} onLost called when a stream was lost, before its pending messages are
 * @property {() => void} onOtherReceiver called when another client has the mailbox
 * @property {() => void} upgrade calls upgrade of the streams
 * @property {(listener: (online: boolean, minAge: number) => void) => () => void} onWake calls a
 *   listener when the connection can be dead, if it is older than minAge milliseconds
 * @property {(problem: Problem) => string} codeOf
 */

/** @type {Record<StreamName, import('./transports.js').OpenStream>} */
const openers = {
  websocket: openWebSocket,
  stream: async options => (await import('./transport-stream.js')).open(options),
};

/** Streams has at most one stream at a time. */
export class Streams {
  /** The open stream. @type {Stream | null} */
  current = null;
  /** @type {import('./transports.js').Transport} */
  transport = 'poll';
  /** Settles when the stream that takes over is open, or has failed. Polls wait for it. @type {Promise<void> | null} */
  takingOver = null;
  /** Settles when the stream has ended. @type {Promise<End>} */
  ended = Promise.resolve('lost');
  /** When the stream was opened, and when its last message came, in milliseconds. */
  #openedAt = 0;
  #activeAt = 0;
  /** When a stream began to take over, or failed to, in milliseconds. */
  #switchedAt = 0;
  #shortLives = 0;
  /** The last failure of each transport, and what was known of it before. @type {Map<string, {at: number, before?: {until: number, failures: number}}>} */
  #failures = new Map();
  /** Why this client closes the stream. @type {End | null} */
  #closing = null;
  #host;

  /** @param {Host} host */
  constructor(host) {
    this.#host = host;
  }

  /** Milliseconds since the stream was opened. */
  get age() {
    return Date.now() - this.#openedAt;
  }

  /**
   * Whether the mailbox can have been superseded by a request of this client that was
   * delayed: the one before the last switch between transports.
   */
  get hasSwitched() {
    return Date.now() - this.#switchedAt < SWITCH_TIME;
  }

  /** The transports to try in place of the present one, in order. */
  get due() {
    const {names, broken} = this.#host;
    const better = names.slice(0, this.transport === 'poll' ? undefined : names.indexOf(this.transport));
    return better.filter(name => Date.now() >= (broken.get(this.#key(name))?.until ?? 0));
  }

  /**
   * Opens the best transport that is due. The present one receives meanwhile.
   * @param {AbortSignal} signal ends the stream
   */
  async upgrade(signal) {
    for (const name of this.due) {
      if (signal.aborted || !this.#host.isConnected() || await this.#open(name, signal)) break;
    }
  }

  /**
   * Ends the stream.
   * @param {End} reason
   */
  #close(reason) {
    this.#closing = reason;
    this.current?.close();
    this.#closing = null;
  }

  /**
   * @param {StreamName} name
   * @param {AbortSignal} signal
   */
  async #open(name, signal) {
    let takenOver = () => {};
    let onEnd = (/** @type {StreamEnd} */ _end) => {};
    const acks = new Acks(id => this.current?.ack(id));
    try {
      const stream = await openers[name]({
        ...this.#host.connection, signal,
        takeOver: async () => {
          this.takingOver = new Promise(resolve => { takenOver = () => resolve(undefined); });
          this.#close('taken-over');
          const after = await this.#host.takeOver();
          this.#switchedAt = Date.now();
          return after;
        },
        onMessage: message => {
          this.#activeAt = Date.now();
          void this.#host.onMessage(message).then(() => acks.add(message.id));
        },
        onEnd: end => { acks.stop(); onEnd(end); },
      });
      onEnd = this.#opened(name, stream);
      return true;
    } catch (reason) {
      if (!signal.aborted) this.#onRefusal(name, /** @type {{problem?: Problem}} */ (reason));
      return false;
    } finally {
      if (this.takingOver) this.#switchedAt = Date.now();
      this.takingOver = null;
      takenOver();
    }
  }

  /**
   * Notes that a stream is open. Returns the listener for its end.
   * @param {StreamName} name
   * @param {Stream} stream
   */
  #opened(name, stream) {
    let settle = (/** @type {End} */ _end) => {};
    this.ended = new Promise(resolve => { settle = resolve; });
    this.current = stream;
    this.#openedAt = this.#activeAt = Date.now();
    this.#setTransport(name);
    const stopWatching = this.#watch();
    return (/** @type {StreamEnd} */ end) => {
      stopWatching();
      this.current = null;
      const reason = this.#closing ?? end;
      const isLost = reason === 'lost' || reason === 'silent';
      if (isLost) this.#onLost(name, reason === 'silent');
      if (isLost || reason === 'offline' || reason === 'replaced') this.#host.onLost();
      if (reason !== 'taken-over') this.#setTransport('poll');
      settle(reason);
    };
  }

  /**
   * Ends or checks the stream when its connection can be dead, and looks for a better one from
   * time to time. Returns a function that ends this.
   */
  #watch() {
    const timer = setInterval(() => this.#host.upgrade(), UPGRADE_INTERVAL);
    const onOffline = () => this.#close('offline');
    const unsubscribe = this.#host.onWake((online, minAge) => {
      if (Date.now() - this.#activeAt < minAge) return;
      if (online || !this.current?.check) this.#close('replaced');
      else this.current.check();
    });
    globalThis.addEventListener?.('offline', onOffline);
    return () => {
      clearInterval(timer);
      unsubscribe();
      globalThis.removeEventListener?.('offline', onOffline);
    };
  }

  /**
   * Notes that a transport was refused by the server, or does not work.
   * @param {StreamName} name
   * @param {{problem?: Problem}} reason
   */
  #onRefusal(name, {problem}) {
    if (problem && this.#host.codeOf(problem) === 'other-receiver') return this.#host.onOtherReceiver();
    const busy = problem?.status === 429 || problem?.status === 503;
    this.#failed(name, busy ? 1000 * Math.max(1, problem.retryAfter ?? 0) : 0);
  }

  /**
   * Notes that a stream has ended without a reason of the server. One that carries nothing, or
   * ends soon each time, does not work.
   * @param {StreamName} name
   * @param {boolean} silent whether nothing arrived any more
   */
  #onLost(name, silent) {
    const isShort = this.age < SHORT_LIFE;
    this.#shortLives = isShort ? this.#shortLives + 1 : 0;
    if (silent || this.#shortLives >= MAX_SHORT_LIVES) {
      this.#shortLives = 0;
      this.#failed(name);
    } else if (!isShort) {
      this.#host.broken.delete(this.#key(name));
    }
  }

  /**
   * Notes that a transport does not work.
   * @param {StreamName} name
   * @param {number} [retryAfter] milliseconds that the server asked for: it works, but not now
   */
  #failed(name, retryAfter = 0) {
    const key = this.#key(name);
    const before = this.#host.broken.get(key);
    this.#failures.set(key, {at: Date.now(), before});
    const failures = before?.failures ?? 0;
    const delay = retryAfter || Math.min(MAX_RETRY, FIRST_RETRY * 4 ** failures);
    this.#host.broken.set(key, {until: Date.now() + delay, failures: failures + (retryAfter ? 0 : 1)});
  }

  /** Notes that the server cannot be reached: what failed shortly before does not show that a proxy breaks it. */
  forgive() {
    for (const [key, {at, before}] of this.#failures) {
      if (Date.now() - at > OUTAGE_TIME) continue;
      if (before) this.#host.broken.set(key, before);
      else this.#host.broken.delete(key);
    }
    this.#failures.clear();
    this.#shortLives = 0;
  }

  /** @param {StreamName} name */
  #key(name) {
    return `${name} ${this.#host.connection.url}`;
  }

  /** @param {import('./transports.js').Transport} transport */
  #setTransport(transport) {
    this.transport = transport;
    this.#host.onTransport();
  }
}

/** Acks delays the acknowledgements of one stream: one covers all earlier messages. */
class Acks {
  #last = '';
  #sent = '';
  #count = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #send;

  /** @param {(id: string) => void} send */
  constructor(send) {
    this.#send = send;
  }

  /** @param {string} id of a message that was handled */
  add(id) {
    this.#last = id;
    this.#count++;
    if (this.#count >= ACK_COUNT) this.#flush();
    else this.#timer ??= setTimeout(() => this.#flush(), ACK_DELAY);
  }

  /** Sends none any more: the next stream or poll acknowledges when it begins. */
  stop() {
    clearTimeout(this.#timer);
    this.#send = () => {};
  }

  #flush() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#count = 0;
    if (this.#last === this.#sent) return; // a repeated message
    this.#sent = this.#last;
    this.#send(this.#last);
  }
}
