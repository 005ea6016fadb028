/** Opens the streams of one client, says how each ends, and remembers which of them a proxy breaks. */

import {open as openEventStream} from './transport-stream.js';
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
 * @typedef {import('./transports.js').End} End
 * @typedef {import('./transports.js').StreamName} StreamName
 * @typedef {import('./transports.js').Failure} Failure
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
 * @property {typeof import('./events.js').on} on
 * @property {typeof import('./wake.js').onWake} onWake calls a listener when the connection can
 *   be dead, if it is older than minAge milliseconds
 */

const openers = {websocket: openWebSocket, stream: openEventStream};

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
  /** The last failure of each transport, and what was known of it before. @type {Map<string, {at: number, before?: Failure}>} */
  #failures = new Map();
  /** Ends the open stream. */
  #close = (/** @type {End} */ _reason) => {};
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
    const present = names.indexOf(/** @type {StreamName} */ (this.transport));
    return names.filter((name, i) => (present < 0 || i < present) && Date.now() >= (broken.get(this.#key(name))?.until ?? 0));
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
   * Opens a stream. Resolves to whether it is open.
   * @param {StreamName} name
   * @param {AbortSignal} signal
   * @returns {Promise<boolean>}
   */
  #open(name, signal) {
    return new Promise(resolve => {
      let hasEnded = false;
      let takenOver = () => {};
      let timer = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);
      let stream = /** @type {Stream | undefined} */ (undefined);
      let onEnd = (/** @type {End} */ _reason, /** @type {unknown} */ error = undefined) => {
        if (!signal.aborted) this.#onRefusal(name, error);
        settle(false);
      };
      const acks = new Acks(id => stream?.ack(id));
      const limit = (/** @type {number} */ milliseconds = 0) => {
        clearTimeout(timer);
        if (milliseconds) timer = setTimeout(() => end('silent'), milliseconds);
      };
      const end = (/** @type {End} */ reason, /** @type {unknown} */ error = undefined) => {
        if (hasEnded) return;
        hasEnded = true;
        limit();
        acks.stop();
        signal.removeEventListener('abort', abort);
        onEnd(reason, error);
        stream?.close(reason);
      };
      const abort = () => end('lost');
      const settle = (/** @type {boolean} */ isOpen) => {
        if (this.takingOver) this.#switchedAt = Date.now();
        this.takingOver = null;
        takenOver();
        resolve(isOpen);
      };
      signal.addEventListener('abort', abort);
      try {
        stream = openers[name]({
          ...this.#host.connection, limit, end,
          takeOver: async () => {
            this.takingOver = new Promise(resolve => { takenOver = () => resolve(undefined); });
            this.#close('taken-over');
            const after = await this.#host.takeOver();
            this.#switchedAt = Date.now();
            return after;
          },
          onOpen: () => {
            this.#close = end;
            onEnd = this.#opened(name, /** @type {Stream} */ (stream));
            settle(true);
          },
          onMessage: message => {
            this.#activeAt = Date.now();
            void this.#host.onMessage(message).then(() => acks.add(message.id));
          },
        });
      } catch {
        end('lost');
      }
    });
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
    const scope = new AbortController();
    this.#watch(scope.signal);
    return (/** @type {End} */ reason) => {
      scope.abort();
      this.current = null;
      const isLost = reason === 'lost' || reason === 'silent';
      if (isLost) this.#onLost(name, reason === 'silent');
      if (isLost || reason === 'offline' || reason === 'replaced') this.#host.onLost();
      if (reason !== 'taken-over') this.#setTransport('poll');
      settle(reason);
    };
  }

  /**
   * Ends or checks the stream when its connection can be dead, and looks for a better one from
   * time to time.
   * @param {AbortSignal} signal ends this
   */
  #watch(signal) {
    const {on, onWake, upgrade} = this.#host;
    const timer = setInterval(upgrade, UPGRADE_INTERVAL);
    on(signal, 'abort', () => clearInterval(timer));
    on(globalThis, 'offline', () => this.#close('offline'), signal);
    onWake((online, minAge) => {
      if (Date.now() - this.#activeAt < minAge) return;
      if (online || !this.current?.check) this.#close('replaced');
      else this.current.check();
    }, signal);
  }

  /**
   * Notes that a transport was refused by the server, or does not work.
   * @param {StreamName} name
   * @param {any} error an InboxError with a type, if the server refuses
   */
  #onRefusal(name, error) {
    if (error?.code === 'other-receiver') return this.#host.onOtherReceiver();
    const isBusy = error?.type && (error.status === 429 || error.status === 503);
    this.#failed(name, isBusy ? 1000 * Math.max(1, error.retryAfter) : 0);
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
    const {broken} = this.#host;
    const key = this.#key(name);
    const before = broken.get(key);
    this.#failures.set(key, {at: Date.now(), before});
    const failures = before?.failures ?? 0;
    const delay = retryAfter || Math.min(MAX_RETRY, FIRST_RETRY * 4 ** failures);
    broken.set(key, {until: Date.now() + delay, failures: failures + (retryAfter ? 0 : 1)});
  }

  /** Notes that the server cannot be reached: what failed shortly before does not show that a proxy breaks it. */
  forgive() {
    const {broken} = this.#host;
    for (const [key, {at, before}] of this.#failures) {
      if (Date.now() - at > OUTAGE_TIME) continue;
      if (before) broken.set(key, before);
      else broken.delete(key);
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
