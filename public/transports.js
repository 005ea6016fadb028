/**
 * The choice of a transport. Long polling needs nothing and works everywhere, so each client
 * begins with it. A WebSocket takes its place once it is open, or else an event stream. One
 * that a proxy breaks is not tried again for some time.
 *
 * The modules of both import nothing, so that a bundler can leave them out of what a page
 * loads first.
 */

/** Milliseconds before a transport that failed is tried again. Each failure in a row makes them four times as many. */
const FIRST_RETRY = 60_000;
const MAX_RETRY = 3_600_000;
/** Milliseconds below which the life of a stream is short. */
const SHORT_LIFE = 10_000;
/** Number of short lives in a row that are a failure. */
const MAX_SHORT_LIVES = 3;

/**
 * @typedef {'websocket'|'stream'|'poll'} Transport stream: Server-Sent Events, read with fetch
 * @typedef {'superseded'|'stopping'|'claim-ended'} EndReason why the server ended a stream
 * @typedef {{id: string, from: string, type: string, body: string | ArrayBuffer}} WireMessage
 *   a message with its media type; from is percent-encoded
 * @typedef {object} Problem a problem document of the server (RFC 9457)
 * @property {string} [type]
 * @property {string} [title]
 * @property {string} [detail]
 * @property {number} [status]
 * @property {number} [retryAfter] seconds
 * @typedef {{problem: Problem} | {lost: true}} SendFailure lost: the server did not answer
 *
 * @typedef {object} Stream an open WebSocket or event stream
 * @property {(id: string) => void} ack acknowledges the messages up to this one
 * @property {() => void} [check] ends the stream if the server does not answer soon. One
 *   without it cannot ask
 * @property {() => void} close
 * @property {(to: string, message: Sendable, wait: number) => Promise<void> | null} [send]
 *   rejects with a {@link SendFailure}; null if the stream cannot take the message now
 * @property {number} [maxBodyBytes] of a message to send
 *
 * @typedef {{type: string, body: string | Uint8Array}} Sendable
 *
 * @typedef {object} StreamOptions
 * @property {string} url of the mailboxes
 * @property {string} name
 * @property {string} password
 * @property {string} client
 * @property {typeof WebSocket | undefined} WebSocket
 * @property {import('./requests.js').Requests} requests
 * @property {AbortSignal} signal aborts the opening
 * @property {() => Promise<string>} takeOver called right before the server learns of the
 *   stream: ends the present receiver, and returns the ID of the last message
 * @property {(message: WireMessage) => void} onMessage
 * @property {(end: StreamEnd) => void} onEnd called once, if the stream was opened
 *
 * @typedef {EndReason | 'lost' | 'silent'} StreamEnd lost: the connection was closed; silent:
 *   nothing arrives
 * @typedef {(options: StreamOptions) => Promise<Stream>} OpenStream rejects with {problem} if
 *   the server refuses, or with an Error if the transport does not work
 */

/** @type {Record<'websocket'|'stream', () => Promise<{open: OpenStream}>>} */
export const loaders = {
  websocket: () => import('./transport-websocket.js'),
  stream: () => import('./transport-stream.js'),
};

/** When a transport can be tried again, by its name and the server. All clients of a page share it. @type {Map<string, {until: number, failures: number}>} */
const broken = new Map();

/** Transports chooses a transport for one client. */
export class Transports {
  #names;
  #origin;
  #shortLives = 0;

  /**
   * @param {Exclude<Transport, 'poll'>[]} names in order of preference
   * @param {string} origin of the server
   */
  constructor(names, origin) {
    this.#names = names;
    this.#origin = origin;
  }

  /** Returns those to try in place of the present one, in order. @param {Transport} present */
  due(present) {
    const better = this.#names.slice(0, present === 'poll' ? undefined : this.#names.indexOf(present));
    return better.filter(name => Date.now() >= (broken.get(this.#key(name))?.until ?? 0));
  }

  /**
   * Notes that a transport does not work.
   * @param {Transport} name
   * @param {number} [retryAfter] milliseconds that the server asked for: it works, but not now
   */
  failed(name, retryAfter = 0) {
    const failures = broken.get(this.#key(name))?.failures ?? 0;
    const delay = retryAfter || Math.min(MAX_RETRY, FIRST_RETRY * 4 ** failures);
    broken.set(this.#key(name), {until: Date.now() + delay, failures: failures + (retryAfter ? 0 : 1)});
  }

  /**
   * Notes that a stream has ended without a reason of the server. One that carries nothing, or
   * ends soon each time, does not work.
   * @param {Transport} name
   * @param {number} life milliseconds
   * @param {boolean} silent whether nothing arrived any more
   */
  ended(name, life, silent) {
    this.#shortLives = life < SHORT_LIFE ? this.#shortLives + 1 : 0;
    if (!silent && this.#shortLives < MAX_SHORT_LIVES) {
      if (life >= SHORT_LIFE) broken.delete(this.#key(name));
      return;
    }
    this.#shortLives = 0;
    this.failed(name);
  }

  /** Forgets all failures: the device has another network. */
  static reset() {
    broken.clear();
  }

  /** @param {string} name */
  #key(name) {
    return `${name} ${this.#origin}`;
  }
}
