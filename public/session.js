/**
 * How the two ends of a room find one another and keep a call going, whoever
 * comes first, reloads, or loses the server for a while. No page is touched here.
 *
 * An end is known by the random id of its page, new with each load. What ends say:
 * - hello {page, live, ask}: I am here; with ask: say hello back
 * - signal {page, to, signal}: a peer's signal, for that load of the other page only
 * - bye {page}: this page is being closed
 * - refused {page, to, code, status}: the server does not carry my signals to that page, so there is no call
 *
 * The sending end makes calls, whenever it is live and a hello tells it of a
 * page that has none; and says hello itself while there is no picture.
 */

import {Peer} from './peer.js';
import {random} from './room.js';

/** Milliseconds after which a call that is not connected is given up for a new one. */
const CONNECT_TIMEOUT = 10_000;
/** Milliseconds between looks at how the call does, and at least between hellos. */
const TICK_INTERVAL = 1_000;
const HELLO_INTERVAL = 5_000;

/**
 * @typedef {import('./inbox.js').Inbox} Inbox
 * @typedef {import('./peer.js').Signal} Signal
 * @typedef {'waiting'|'present'|'connecting'|'connected'|'reconnecting'} EndpointState
 * @typedef {{code: string, status: number}} ErrorInfo what an InboxError says of itself
 * @typedef {{kind: 'hello'|'signal'|'bye'|'refused', page: string, live?: boolean, ask?: boolean, to?: string, signal?: Signal} & Partial<ErrorInfo>} Message
 * @typedef {ConstructorParameters<typeof Peer>[0]} PeerOptions
 */

/**
 * Events: state, with an {@link EndpointState}; track, as a Peer has it; error, when
 * that has changed.
 */
class Endpoint extends EventTarget {
  /** @type {Peer | null} */
  peer = null;
  /** The page at the other end, '' while none is known. */
  remotePage = '';
  page = random();
  /** @type {ErrorInfo & {kind: 'hello'|'signal'} | null} what the server refused for good, and why */
  error = null;
  /** Tells a call that is being prepared whether it is still wanted. */
  #generation = 0;
  #sendingHello = false;
  #queue = Promise.resolve();
  /** @type {EndpointState} */
  #state = 'waiting';

  /**
   * @param {object} options
   * @param {Inbox} options.inbox
   * @param {string} options.to the name of the other end's mailbox
   * @param {() => Promise<RTCIceServer[]>} options.iceServers asked before each call
   * @param {(options: PeerOptions) => Peer} [options.createPeer] for tests
   */
  constructor({inbox, to, iceServers, createPeer = options => new Peer(options)}) {
    super();
    this.inbox = inbox;
    this.to = to;
    this.iceServers = iceServers;
    this.createPeer = createPeer;
    inbox.addEventListener('message', event => {
      const {from, data} = /** @type {CustomEvent} */ (event).detail;
      if (from === to && data?.page) this.#queue = this.#queue.then(() => this.onMessage(data)).catch(() => {});
    });
    inbox.addEventListener('status', () => {
      if (inbox.status !== 'open' || this.error?.kind !== 'hello') return;
      this.setError(null); // the trouble has passed
      void this.sendHello();
    });
  }

  /** @returns {EndpointState} */
  get state() {
    return this.#state;
  }

  get live() {
    return false;
  }

  /** Begins to listen, and tells the other end. */
  open() {
    this.inbox.start();
    this.sendHello();
  }

  /** Says goodbye, for a page that is being closed. */
  leave() {
    if (this.remotePage) this.inbox.sendLast(this.to, {kind: 'bye', page: this.page});
  }

  /** Ends the call, if there is one. */
  hangUp() {
    this.#generation++;
    this.peer?.close();
    this.peer = null;
    this.updateState();
  }

  /** Says hello and asks for one; one such hello at a time, since it waits for the other end to be there. */
  async sendHello() {
    if (this.#sendingHello) return;
    this.#sendingHello = true;
    await this.send({kind: 'hello', live: this.live, ask: true});
    this.#sendingHello = false;
  }

  /**
   * A page that was superseded keeps quiet, or the other end would take it for the newest.
   * @param {Omit<Message, 'page'>} message
   */
  async send(message) {
    if (this.inbox.status === 'superseded') return;
    try {
      await this.inbox.send(this.to, {...message, page: this.page}, {wait: Infinity});
      if (message.kind === 'hello' && this.error?.kind === 'hello') this.setError(null);
    } catch (error) {
      const {code, status} = /** @type {import('./inbox.js').InboxError} */ (error);
      if (status) this.#onSendError(message, {code, status}); // else the inbox was closed
    }
  }

  /**
   * The server does not carry a word, however often it is asked. A call cannot
   * come about without its signals: it ends on both sides. One that is connected needs no more.
   * @param {Omit<Message, 'page'>} message
   * @param {ErrorInfo} error
   */
  #onSendError({kind, signal}, error) {
    if (kind === 'hello') this.setError({kind, ...error});
    if (kind !== 'signal' || signal?.call !== this.peer?.call || this.peer?.state === 'connected') return;
    void this.send({kind: 'refused', to: this.remotePage, ...error});
    this.failCall(error);
  }

  /**
   * Ends a call whose signals are refused.
   * @param {ErrorInfo} error
   */
  failCall(error) {
    this.setError({kind: 'signal', ...error});
    this.hangUp();
  }

  /** @param {Endpoint['error']} error */
  setError(error) {
    if (error === this.error) return;
    this.error = error;
    this.dispatchEvent(new CustomEvent('error', {detail: error}));
  }

  /**
   * @param {Message} message
   * @returns {Promise<void>}
   */
  async onMessage(message) {
    if (message.kind === 'hello') await this.onHello(message);
    if (message.kind === 'signal' && message.signal) await this.onSignal(message, message.signal);
    if (message.kind === 'refused' && message.to === this.page) this.failCall({code: message.code ?? '', status: message.status ?? 0});
    if (message.kind === 'bye' && message.page === this.remotePage) {
      this.remotePage = '';
      this.setError(null);
      this.hangUp();
    }
    this.updateState();
  }

  /** @param {Message} message */
  async onHello({page, ask}) {
    this.remotePage = page;
    if (ask) void this.send({kind: 'hello', live: this.live});
  }

  /**
   * @param {Message} _message
   * @param {Signal} signal
   */
  async onSignal(_message, signal) {
    void this.peer?.receive(signal);
  }

  /**
   * Replaces the call by a new one; by none when that was hung up before it began.
   * @param {string} call
   * @param {boolean} polite
   */
  async startCall(call, polite) {
    this.peer?.close();
    this.setError(null);
    const generation = ++this.#generation;
    const iceServers = await this.iceServers();
    if (generation !== this.#generation) return null;
    const to = this.remotePage;
    const send = (/** @type {Signal} */ signal) => void this.send({kind: 'signal', to, signal});
    const peer = this.createPeer({call, polite, send, iceServers});
    this.peer = peer;
    peer.addEventListener('state', () => peer === this.peer && this.updateState());
    peer.addEventListener('track', event =>
      this.dispatchEvent(new CustomEvent('track', {detail: /** @type {CustomEvent} */ (event).detail})));
    this.updateState();
    return peer;
  }

  /** Works out the state, and tells when it has changed. */
  updateState() {
    const state = this.#currentState();
    if (state === this.#state) return;
    this.#state = state;
    this.dispatchEvent(new CustomEvent('state', {detail: state}));
  }

  /** @returns {EndpointState} */
  #currentState() {
    if (this.peer && this.peer.state !== 'closed') return this.peer.state;
    return this.remotePage ? 'present' : 'waiting';
  }
}

/** The end with the camera. */
export class SendingEndpoint extends Endpoint {
  /** @type {Map<'audio'|'video', MediaStreamTrack | null>} */
  #tracks = new Map();
  #calledPage = '';
  #connectingSince = 0;
  #lastHello = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  get live() {
    return this.#timer !== undefined;
  }

  /** Sends the tracks that were set, from now on, to whoever is or comes there. */
  start() {
    if (this.live) return;
    this.setError(null);
    this.#timer = setInterval(() => this.#tick(), TICK_INTERVAL);
    this.#announce();
  }

  /** Ends the call and makes no new one. */
  stop() {
    if (!this.live) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.hangUp();
    if (this.remotePage) void this.send({kind: 'hello', live: false});
  }

  /**
   * Another call would be refused as well: the person decides.
   * @param {ErrorInfo} error
   */
  failCall(error) {
    super.failCall(error);
    this.stop();
  }

  /**
   * @param {'audio'|'video'} kind
   * @param {MediaStreamTrack | null} track null sends nothing
   */
  async setTrack(kind, track) {
    this.#tracks.set(kind, track);
    await this.peer?.setTrack(kind, track);
  }

  /** @param {Message} message */
  async onHello(message) {
    this.remotePage = message.page;
    if (this.live && this.#needsCall(message.page)) await this.#makeCall();
    else await super.onHello(message);
  }

  /** @param {string} page */
  #needsCall(page) {
    return !this.peer || page !== this.#calledPage || this.#timedOut;
  }

  /** Whether the call had its time and is not connected. */
  get #timedOut() {
    return this.peer?.state !== 'connected' && Date.now() - this.#connectingSince > CONNECT_TIMEOUT;
  }

  async #makeCall() {
    this.#calledPage = this.remotePage;
    this.#connectingSince = Date.now();
    const peer = await this.startCall(random(), false);
    for (const [kind, track] of this.#tracks) await peer?.setTrack(kind, track);
  }

  /**
   * A broken connection gets its time to mend before a new call is made. Its
   * signals make no way while the server asks for pauses: a new call would only add to them.
   */
  #tick() {
    if (this.peer?.state === 'connected' || this.inbox.status === 'retrying') this.#connectingSince = Date.now();
    const missing = !this.peer || this.#timedOut;
    if (missing && Date.now() - this.#lastHello > HELLO_INTERVAL) this.#announce();
  }

  #announce() {
    this.#lastHello = Date.now();
    void this.sendHello();
  }
}

/** The end with the screen. It does as it is called. */
export class ReceivingEndpoint extends Endpoint {
  /** @param {Message} message */
  async onHello(message) {
    if (message.page !== this.remotePage || !message.live) this.hangUp();
    await super.onHello(message);
  }

  /**
   * @param {Message} message
   * @param {Signal} signal
   */
  async onSignal(message, signal) {
    if (message.to !== this.page) return; // meant for this page before it was loaded anew
    if (this.peer?.call !== signal.call) {
      if (signal.description?.type !== 'offer') return;
      this.remotePage = message.page;
      await this.startCall(signal.call, true);
    }
    await super.onSignal(message, signal);
  }
}
