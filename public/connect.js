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
 *
 * The code of peer connections is loaded while the mailbox is opened.
 */

import {InboxError, endError, randomClient as random} from './codec.js';
import {defer, emit, on, onAbort, pause, until} from './events.js';
import {Inbox} from './inbox.js';

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
 * @typedef {import('./peer-call.js').Call} Call
 * @typedef {import('./peer-call.js').CallState} CallState
 * @typedef {import('./peer-call.js').CloseReason} CloseReason
 * @typedef {import('./data-channel.js').DataChannel} DataChannel
 *
 * @typedef {object} CallSealer encrypts the signals, as a Sealer of seal.js
 * @property {(signal: unknown, context: import('./seal.js').Context) => Promise<unknown>} seal
 * @property {(envelope: unknown, context: import('./seal.js').Context) => Promise<any>} open
 *
 * @typedef {object} CallOptions
 * @property {MediaStream | undefined} [stream] whose tracks are sent, one of each kind
 * @property {CallSealer | undefined} [sealer] encrypts the signals. Both sides need one with the same secret
 * @property {RTCIceServer[] | undefined} [iceServers] in place of those of the server
 * @property {RTCIceTransportPolicy | undefined} [iceTransportPolicy] 'relay' uses TURN servers only
 * @property {number | undefined} [maxMessageBytes] bounds the messages of data channels: 16 MiB by default
 * @property {((configuration: RTCConfiguration) => RTCPeerConnection) | undefined} [createConnection]
 *   by default that of the browser
 *
 * @typedef {object} InboxOptions of the mailbox, if the first argument is a URL
 * @property {string | undefined} [name] random by default
 * @property {string | undefined} [password] random by default
 * @property {string | undefined} [invite] the invitation or guest pass, for a private server
 * @property {typeof globalThis.fetch | undefined} [fetch]
 * @property {typeof globalThis.WebSocket | undefined} [WebSocket]
 *
 * @typedef {CallOptions & InboxOptions & {signal?: AbortSignal | undefined}} ConnectOptions signal ends the attempt
 * @typedef {(from: string) => boolean | CallOptions | Promise<boolean | CallOptions>} Accept options replace those of
 *   the listener; false, or anything else that is no options, declines the call
 * @typedef {ConnectOptions & {accept?: Accept | undefined}} AnswerOptions accept is called for each caller
 * @typedef {{call: CustomEvent<Call>, error: CustomEvent<InboxError>}} ListenerEvents
 */

/**
 * Calls a mailbox. Resolves when the call is connected: the callee can come at any time. Rejects
 * with the reason of the signal, or with an InboxError, such as `declined`, `unauthorized` or
 * `superseded`.
 * @param {string | URL | Inbox} server the /inbox endpoint of the server, or a mailbox there
 * @param {string} to the name of the callee
 * @param {ConnectOptions} [options]
 * @returns {Promise<Call>}
 */
export async function connect(server, to, options = {}) {
  const line = await Line.open(server, options);
  try {
    if (to === line.inbox.name) throw new InboxError('refused-call', 'a mailbox cannot call itself');
    for (;;) {
      const call = new line.Call({line, id: random(), remote: to, role: 'caller', options});
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
 * @param {string | URL | Inbox} server the /inbox endpoint of the server, or a mailbox there
 * @param {AnswerOptions} options
 * @returns {Promise<Call>}
 */
export async function answer(server, options) {
  const listener = await listen(server, options);
  return until((/** @type {(call: Call) => void} */ resolve, reject, scope) => {
    onAbort(options.signal, reject, scope);
    on(listener, 'call', ({detail}) => resolve(detail), scope);
    listener.closed.then(reject);
  }).finally(() => listener.close());
}

/**
 * Receives the calls of a mailbox. Resolves when the server has the mailbox.
 * @param {string | URL | Inbox} server the /inbox endpoint of the server, or a mailbox there
 * @param {AnswerOptions} options signal ends only the attempt to open the mailbox
 * @returns {Promise<Listener>}
 */
export async function listen(server, options) {
  const line = await Line.open(server, options);
  if (line.listener) throw new InboxError('listening', 'the mailbox has a listener already');
  return new Listener(line, options);
}

/**
 * Listener receives calls. Events, both with a `detail`:
 * - call: a {@link Call} that is connected
 * - error: an {@link InboxError}: a caller that the sealer refuses, or a permanent error of the mailbox
 */
export class Listener extends /** @type {import('./events.js').TypedTarget<ListenerEvents>} */ (/** @type {unknown} */ (EventTarget)) {
  /** Calls that are not connected. @type {Set<Call>} */
  #pending = new Set();
  /** Those that have rung, by their callers. @type {Map<string, Call>} */
  #ringing = new Map();
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
   * @param {AnswerOptions} options
   * @internal
   */
  constructor(line, options) {
    super();
    this.#line = line;
    this.#options = options;
    this.inbox = line.inbox;
    line.listener = this;
    const scope = new AbortController();
    on(this.inbox, 'error', ({detail}) => {
      if (isPermanent(detail)) emit(this, 'error', detail);
      if (this.inbox.status === 'refused') this.#closed.resolve(detail);
    }, scope.signal);
    on(this.inbox, 'superseded', () => this.#closed.resolve(endError(this.inbox)), scope.signal);
    void this.closed.then(() => {
      scope.abort();
      line.listener = null;
      for (const call of this.#pending) call.decline();
      line.release();
    });
  }

  /** Accepts no further calls. Connected ones continue. */
  close() {
    this.#closed.resolve(new InboxError('closed', 'the listener is closed'));
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
    const accept = () => {
      this.#ringing.get(from)?.decline();
      this.#ringing.set(from, call);
      return this.#options.accept ? this.#options.accept(from) : true;
    };
    const call = new this.#line.Call({line: this.#line, id: message.call, remote: from, role: 'callee', options: {...this.#options, accept}});
    this.#pending.add(call);
    try {
      if (await call.pickUp(message)) emit(this, 'call', call);
    } catch (error) {
      emit(this, 'error', error instanceof InboxError ? error : new InboxError('refused-call', String(error), {cause: error}));
    } finally {
      this.#pending.delete(call);
      if (this.#ringing.get(from) === call) this.#ringing.delete(from);
    }
  }
}

/** Line is a mailbox with its calls. It closes a mailbox of its own after the last of its users. */
class Line {
  /** The lines of mailboxes that were passed. @type {WeakMap<Inbox, Line>} */
  static #lines = new WeakMap();
  /** @type {Listener | null} */
  listener = null;
  /** Calls that ring, by their callee. @type {Map<string, Call>} */
  dialing = new Map();
  /** @type {Map<string, Call>} */
  #calls = new Map();
  /** What is answered to a late message of a call that has ended, once. @type {Map<string, {remote: string, bye: unknown}>} */
  #ended = new Map();
  #users = 0;
  #isOwner;

  /**
   * @param {Inbox} inbox
   * @param {boolean} isOwner
   * @param {typeof import('./peer-call.js').Call} Call
   */
  constructor(inbox, isOwner, Call) {
    this.inbox = inbox;
    this.#isOwner = isOwner;
    this.Call = Call;
    on(inbox, 'message', ({detail: {from, data}}) => this.#onMessage(from, data));
  }

  /**
   * Opens the mailbox and returns its line, of which the caller is a user.
   * @param {string | URL | Inbox} server
   * @param {ConnectOptions} options
   */
  static async open(server, {name = random(), password = random(), invite, fetch, WebSocket, signal}) {
    signal?.throwIfAborted();
    const loading = import('./peer-call.js');
    loading.catch(() => {}); // handled below
    const isOwner = !(server instanceof Inbox);
    const inbox = isOwner ? new Inbox(server, {name, password, ...invite && {invite}, ...fetch && {fetch}, ...WebSocket && {WebSocket}}) : server;
    try {
      await started(inbox, signal);
      const {Call} = await loading;
      const line = Line.#lines.get(inbox) ?? new Line(inbox, isOwner, Call);
      Line.#lines.set(inbox, line);
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

  /**
   * @param {string} id
   * @param {string} remote
   * @param {unknown} bye
   */
  remove(id, remote, bye) {
    if (!this.#calls.delete(id)) return;
    this.#ended.set(id, {remote, bye});
    if (this.#ended.size > MAX_ENDED) this.#ended.delete(/** @type {string} */ (this.#ended.keys().next().value));
    this.release();
  }

  /**
   * Answers a late message of a call that has ended: its sender does not know that.
   * @param {string} from
   * @param {any} data
   * @param {{remote: string, bye: unknown}} ended
   */
  #onLate(from, data, ended) {
    if (from !== ended.remote || !ended.bye || data.bye) return;
    this.inbox.send(from, ended.bye).catch(() => {}); // it has gone by now
    ended.bye = null;
  }

  /**
   * @param {string} from
   * @param {any} data any value that arrived
   */
  #onMessage(from, data) {
    const id = data?.call;
    if (typeof id !== 'string' || id === '' || id.length > MAX_ID_LENGTH) return;
    const ended = this.#ended.get(id);
    if (ended) return this.#onLate(from, data, ended);
    const call = this.#calls.get(id);
    if (call) return call.remote === from ? call.receive(data) : undefined;
    const dialing = this.dialing.get(from);
    if (dialing) dialing.cross(data);
    else void this.listener?.ring(from, data);
  }
}

/**
 * Starts a mailbox. Rejects if it is superseded, or the server refuses it permanently.
 * @param {Inbox} inbox
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
async function started(inbox, signal) {
  if (inbox.status === 'superseded') throw endError(inbox);
  const isOpen = inbox.status === 'open' || await until((/** @type {(isOpen: boolean) => void} */ resolve, reject, scope) => {
    on(inbox, 'error', ({detail}) => isPermanent(detail) && reject(detail), scope);
    onAbort(signal, reject, scope);
    inbox.start().then(resolve, reject);
  });
  if (!isOpen) throw endError(inbox);
}

/** Whether an error of a mailbox does not pass. A recipient that has gone is no error. @param {InboxError} error */
function isPermanent({status, temporary, code}) {
  return status >= 400 && !temporary && code !== 'no-inbox';
}
