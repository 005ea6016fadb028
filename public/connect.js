/**
 * Calls between two clients in one step: a mailbox for the signals, STUN and TURN servers, a
 * peer connection that recovers, and a data channel.
 *
 *     // Bob
 *     const call = await answer('https://example.org/inbox', {name: 'bob', password: 'secret'});
 *     call.channel.addEventListener('message', event => console.log(event.data));
 *
 *     // Alice
 *     const call = await connect('https://example.org/inbox', 'bob');
 *     await call.channel.send({hello: 'there'});
 *
 * The caller rings every few seconds until the callee makes an offer, so that both use fresh
 * ICE servers, however late the callee comes. If two clients call each other at the same time,
 * the call with the smaller id remains.
 *
 * A message over the mailboxes is one of these, or `{call, sealed}` with one of them encrypted:
 * - {call, ring}: the caller rings. `ring` lists the kinds of its tracks
 * - a Signal of peer.js
 * - {call, bye}: the sender has closed the call; `bye` is 'closed', 'declined' or 'unreadable'
 */

import {InboxError, endError, randomClient as random} from './codec.js';
import {defer, emit, on, onAbort, pause, until} from './events.js';
import {Inbox} from './inbox.js';
import {Call} from './peer-call.js';

export {Inbox, InboxError};

/** Maximum number of callers that ring, or whose calls connect, at a time. */
const MAX_PENDING = 16;
/** Milliseconds between two attempts to connect, if the first one has ended sooner. */
const MIN_ATTEMPT = 1_000;
/** Number of calls that have ended whose late messages are recognized. */
const MAX_ENDED = 100;
/** Maximum number of characters of the id of a call. */
const MAX_ID_LENGTH = 64;

/**
 * @typedef {import('./peer-call.js').CallState} CallState
 * @typedef {import('./peer-call.js').CloseReason} CloseReason
 * @typedef {import('./data-channel.js').DataChannel} DataChannel
 *
 * @typedef {import('./seal.js').Sealer} Sealer
 *
 * @typedef {object} CallOptions
 * @property {MediaStream | undefined} [stream] whose tracks are sent, one of each kind
 * @property {Sealer | undefined} [sealer] encrypts the signals. Both sides need one with the same secret
 * @property {RTCIceServer[] | undefined} [iceServers] in place of those of the server
 * @property {RTCIceTransportPolicy | undefined} [iceTransportPolicy] 'relay' uses TURN servers only
 * @property {number | undefined} [maxMessageBytes] with a ChannelCall: bounds the messages of data channels, 16 MiB by default
 * @property {((configuration: RTCConfiguration) => RTCPeerConnection) | undefined} [createConnection]
 *   by default that of the browser
 * @property {typeof import('./peer.js').Peer | undefined} [Peer] in place of that of peer.js: WatchedPeer
 *
 * @typedef {object} InboxOptions of the mailbox, if the first argument is a URL
 * @property {string | undefined} [name] random by default
 * @property {string | undefined} [password] random by default
 * @property {string | undefined} [invite] the invitation or guest pass, for a private server
 * @property {typeof globalThis.fetch | undefined} [fetch]
 * @property {typeof globalThis.WebSocket | undefined} [WebSocket] of a StreamInbox
 * @property {typeof Inbox | undefined} [Inbox] in place of that of inbox.js: StreamInbox
 */

/**
 * @template {Call} [C=Call]
 * @typedef {CallOptions & InboxOptions & {signal?: AbortSignal | undefined, Call?: (new (...call: any) => C) | undefined}} ConnectOptions
 *   signal ends the attempt; Call is used in place of that of peer-call.js: ChannelCall
 */

/**
 * @typedef {(from: string) => boolean | CallOptions | Promise<boolean | CallOptions>} Accept options replace those of
 *   the listener; false, or anything else that is no options, declines the call
 */

/**
 * @template {Call} [C=Call]
 * @typedef {ConnectOptions<C> & {accept?: Accept | undefined}} AnswerOptions accept is called for each caller
 */

/**
 * @template {Call} [C=Call]
 * @typedef {{call: CustomEvent<C>, error: CustomEvent<any>}} ListenerEvents
 */

/**
 * Calls a mailbox. Resolves when the call is connected: the callee can come at any time. Rejects
 * with the reason of the signal, or with an InboxError, such as `declined`, `unauthorized` or
 * `superseded`.
 * @template {Call} [C=Call]
 * @param {string | URL | Inbox} server the /inbox endpoint of the server, or a mailbox there
 * @param {string} to the name of the callee
 * @param {ConnectOptions<C>} [options]
 * @returns {Promise<C>}
 */
export async function connect(server, to, options = {}) {
  const line = await Line.open(server, options);
  try {
    if (to === line.inbox.name) throw new InboxError('refused-call');
    for (;;) {
      const call = /** @type {C} */ (new (options.Call ?? Call)(line, random(), to, 'caller', options));
      const paced = pause(MIN_ATTEMPT, options.signal);
      if (await call.dial(options.signal)) return call;
      await paced;
    }
  } finally {
    line.release();
  }
}

/**
 * Waits for a call, and resolves when it is connected. Rejects as connect does.
 * @template {Call} [C=Call]
 * @param {string | URL | Inbox} server the /inbox endpoint of the server, or a mailbox there
 * @param {AnswerOptions<C>} options
 * @returns {Promise<C>}
 */
export async function answer(server, options) {
  const listener = await listen(server, options);
  return until((/** @type {(call: C) => void} */ resolve, reject, scope) => {
    onAbort(options.signal, reject, scope);
    on(listener, 'call', ({detail}) => resolve(detail), scope);
    listener.closed.then(reject);
  }).finally(() => listener.close());
}

/**
 * Receives the calls of a mailbox. Resolves when the server has the mailbox.
 * @template {Call} [C=Call]
 * @param {string | URL | Inbox} server the /inbox endpoint of the server, or a mailbox there
 * @param {AnswerOptions<C>} options signal ends only the attempt to open the mailbox
 * @returns {Promise<import('./events.js').TypedEvents<ListenerEvents<C>> & Listener>}
 */
export async function listen(server, options) {
  const line = await Line.open(server, options);
  if (line.listener) {
    line.release();
    throw new InboxError('listening');
  }
  return /** @type {any} */ (new Listener(line, options));
}

/**
 * Listener receives calls. Events, both with a `detail`:
 * - call: a {@link Call} that is connected
 * - error: why a caller was refused: an {@link InboxError}, a SealError, or the error of accept
 */
export class Listener extends /** @type {import('./events.js').TypedTarget<ListenerEvents>} */ (/** @type {unknown} */ (EventTarget)) {
  /** Calls that are not connected. @type {Set<Call>} */
  #pending = new Set();
  #line;
  #options;
  /** @type {ReturnType<typeof defer<InboxError>>} */
  #closed = defer();
  /** Resolves to the reason when the listener has ended. @type {Promise<InboxError>} */
  closed = this.#closed.promise;
  /** The mailbox that is called. */
  inbox;

  /**
   * @param {Line} line
   * @param {AnswerOptions<any>} options
   * @internal
   */
  constructor(line, options) {
    super();
    this.#line = line;
    this.#options = options;
    this.inbox = line.inbox;
    line.listener = this;
    const scope = new AbortController();
    on(this.inbox, 'status', () => this.inbox.stopped && this.#closed.resolve(endError(this.inbox)), scope.signal);
    void this.closed.then(() => {
      scope.abort();
      line.listener = null;
      for (const call of this.#pending) call.decline();
      line.release();
    });
  }

  /** Accepts no further calls. Connected ones continue. */
  close() {
    this.#closed.resolve(new InboxError('closed'));
  }

  /**
   * Handles the first message of a call. A newer call of the same caller replaces an older one
   * when it is known that it rings.
   * @param {string} from
   * @param {{call: string}} message
   * @internal
   */
  async ring(from, message) {
    if (this.#pending.size >= MAX_PENDING) return; // it rings again
    const {accept: ask = () => true} = this.#options;
    const earlier = [...this.#pending].filter(({remote}) => remote === from);
    const accept = () => {
      for (const call of earlier) call.decline();
      return ask(from);
    };
    const call = new (this.#options.Call ?? Call)(this.#line, message.call, from, 'callee', {...this.#options, accept});
    this.#pending.add(call);
    try {
      call.receive(message);
      if (await call.connected) emit(this, 'call', call);
    } catch (error) {
      emit(this, 'error', error);
    } finally {
      this.#pending.delete(call);
    }
  }
}

/** The lines of mailboxes that were passed. @type {WeakMap<Inbox, Line>} */
const lines = new WeakMap();

/** Line is a mailbox with its calls. It closes a mailbox of its own after the last of its users. */
class Line {
  /** @type {Listener | null} */
  listener = null;
  /** @type {Map<string, Call>} */
  #calls = new Map();
  /** The ids of calls that have ended, whose late messages are dropped. @type {Set<string>} */
  #ended = new Set();
  #users = 0;
  #isOwner;

  /**
   * @param {Inbox} inbox
   * @param {boolean} isOwner
   */
  constructor(inbox, isOwner) {
    this.inbox = inbox;
    this.#isOwner = isOwner;
    on(inbox, 'message', ({detail: {from, data}}) => this.#onMessage(from, data));
  }

  /**
   * Opens the mailbox and returns its line, of which the caller is a user. Rejects if the
   * mailbox is superseded, or the server refuses it permanently.
   * @param {string | URL | Inbox} server
   * @param {ConnectOptions<any>} options
   * @returns {Promise<Line>}
   */
  static async open(server, {name = random(), password = random(), sealer: _, Inbox: InboxClass = Inbox, signal, ...options}) {
    signal?.throwIfAborted();
    const isOwner = !(server instanceof Inbox);
    const inbox = isOwner ? new InboxClass(server, {name, password, ...options}) : server;
    try {
      if (inbox.status === 'superseded') throw endError(inbox);
      await until((resolve, reject, scope) => {
        // A recipient that has gone is no error of the mailbox.
        on(inbox, 'error', ({detail: error}) => error.status >= 400 && !error.temporary && error.code !== 'no-inbox' && reject(error), scope);
        onAbort(signal, reject, scope);
        inbox.start().then(isOpen => (isOpen ? resolve() : reject(endError(inbox))));
      });
      const line = lines.get(inbox) ?? new Line(inbox, isOwner);
      lines.set(inbox, line);
      line.#users++;
      return line;
    } catch (error) {
      if (isOwner) inbox.close();
      throw error;
    }
  }

  release() {
    this.#users--;
    if (this.#isOwner && this.#users === 0) this.inbox.release();
  }

  /** @param {string} id @param {Call} call */
  add(id, call) {
    this.#users++;
    this.#calls.set(id, call);
  }

  /** @param {string} id */
  remove(id) {
    if (!this.#calls.delete(id)) return;
    this.#ended.add(id);
    if (this.#ended.size > MAX_ENDED) this.#ended.delete(/** @type {string} */ (this.#ended.values().next().value));
    this.release();
  }

  /**
   * @param {string} from
   * @param {any} data any value that arrived
   */
  #onMessage(from, data) {
    const id = data?.call;
    if (typeof id !== 'string' || id.length > MAX_ID_LENGTH || this.#ended.has(id)) return;
    const call = this.#calls.get(id);
    const dialing = [...this.#calls.values()].find(({remote, role, isConnected}) => remote === from && role === 'caller' && !isConnected);
    if (call) call.remote === from && call.receive(data);
    else if (dialing) dialing.cross(data);
    else void this.listener?.ring(from, data);
  }
}
