/** Opens the streams of one client, and says how each ends. */

import {networkChange, problemError, replaced, takenOver} from './codec.js';
import {MIN_AGE_ACTIVE, MIN_AGE_ONLINE, onWake} from './requests.js';
import {Transports, loaders} from './transports.js';

/** Milliseconds between the first response of the server and a stream, which can wait until the page has what it needs. */
const UPGRADE_DELAY = 1_000;
/** Milliseconds between two looks whether a better transport can be tried again. */
const UPGRADE_INTERVAL = 60_000;
/** Milliseconds after a switch between transports in which a request from before it can arrive. */
const SWITCH_TIME = 1_000;
/** An acknowledgement is sent after this many messages, or milliseconds. */
const ACK_COUNT = 8;
const ACK_DELAY = 50;

/**
 * @typedef {import('./transports.js').Stream} Stream
 * @typedef {import('./transports.js').StreamEnd} StreamEnd
 * @typedef {import('./transports.js').WireMessage} WireMessage
 * @typedef {StreamEnd | typeof replaced | typeof networkChange | typeof takenOver} End how a
 *   stream ended: by the server, by the network, or for one of three reasons of this client
 * @typedef {object} Host the inbox that has the streams
 * @property {() => AbortSignal} signal aborted when the inbox is closed or superseded
 * @property {() => boolean} isConnected whether the server has answered the last request
 * @property {() => Promise<string>} takeOver ends the present poll, and returns the ID of the last message
 * @property {(message: WireMessage) => Promise<void>} onMessage resolves when it was handled
 * @property {() => void} onTransport called when another transport receives
 * @property {() => void} onLost called when a stream was lost, before its pending messages are
 * @property {() => void} onOtherReceiver called when another client has the mailbox
 * @property {(milliseconds: number) => Promise<unknown>} sleep
 *
 * @typedef {{url: string, name: string, password: string, client: string, WebSocket: typeof WebSocket | undefined,
 *   requests: import('./requests.js').Requests, transports: Transports}} Options
 */

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
  #upgrading = false;
  /** Why this client closes the stream. @type {End | null} */
  #closing = null;
  #options;
  #host;

  /**
   * @param {Options} options
   * @param {Host} host
   */
  constructor(options, host) {
    this.#options = options;
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

  /** Opens the best transport that is due, if it is better than the present one, which receives meanwhile. */
  async upgrade() {
    const {transports} = this.#options;
    if (this.#upgrading || transports.due(this.transport).length === 0) return;
    this.#upgrading = true;
    const signal = this.#host.signal();
    await this.#host.sleep(UPGRADE_DELAY);
    for (const name of transports.due(this.transport)) {
      if (signal.aborted || !this.#host.isConnected() || await this.#open(name, signal)) break;
    }
    this.#upgrading = false;
  }

  /**
   * Ends the stream.
   * @param {End} reason
   */
  close(reason) {
    this.#closing = reason;
    this.current?.close();
    this.#closing = null;
  }

  /**
   * @param {Exclude<import('./transports.js').Transport, 'poll'>} name
   * @param {AbortSignal} signal
   */
  async #open(name, signal) {
    let takeOver = () => {};
    let onEnd = (/** @type {StreamEnd} */ _end) => {};
    const acks = new Acks(id => this.current?.ack(id));
    try {
      const {open} = await loaders[name]();
      if (signal.aborted) return false;
      const stream = await open({
        ...this.#options, signal,
        takeOver: async () => {
          this.takingOver = new Promise(resolve => { takeOver = () => resolve(undefined); });
          this.close(takenOver);
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
      if (!signal.aborted) this.#onRefusal(name, /** @type {{problem?: import('./transports.js').Problem}} */ (reason));
      return false;
    } finally {
      if (this.takingOver) this.#switchedAt = Date.now();
      this.takingOver = null;
      takeOver();
    }
  }

  /**
   * Notes that a stream is open. Returns the listener for its end.
   * @param {import('./transports.js').Transport} name
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
      if (isLost) this.#options.transports.ended(name, this.age, reason === 'silent');
      if (isLost || reason === networkChange || reason === replaced) this.#host.onLost();
      if (reason !== takenOver) this.#setTransport('poll');
      settle(reason);
    };
  }

  /**
   * Ends or checks the stream when its connection can be dead, and looks for a better one from
   * time to time. Returns a function that ends this.
   */
  #watch() {
    const timer = setInterval(() => void this.upgrade(), UPGRADE_INTERVAL);
    const onOffline = () => this.close(networkChange);
    const unsubscribe = onWake(online => {
      if (Date.now() - this.#activeAt < (online ? MIN_AGE_ONLINE : MIN_AGE_ACTIVE)) return;
      if (online || !this.current?.check) this.close(replaced);
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
   * @param {import('./transports.js').Transport} name
   * @param {{problem?: import('./transports.js').Problem}} reason
   */
  #onRefusal(name, {problem}) {
    const code = problem && codeOf(problem);
    if (code === 'other-receiver') return this.#host.onOtherReceiver();
    const busy = problem?.status === 429 || problem?.status === 503;
    this.#options.transports.failed(name, busy ? 1000 * Math.max(1, problem.retryAfter ?? 0) : 0);
  }

  /** @param {import('./transports.js').Transport} transport */
  #setTransport(transport) {
    this.transport = transport;
    this.#host.onTransport();
  }
}

/** @param {import('./transports.js').Problem} problem */
function codeOf(problem) {
  try {
    return problemError(problem).code;
  } catch { // of another program
    return '';
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
